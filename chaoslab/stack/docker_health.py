"""Health checks of containers, run by the harness and only while somebody waits.

Docker would run them for as long as the stack lives: fourteen containers with a check every two seconds keep a whole processor
busy, which is then missing from what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import ChaoslabError
from chaoslab.stack.docker_containers import Containers, Seen

_AT_ONCE = 2  # each costs a tenth of a second of a processor, which what is being started needs
_AGAIN_S = 0.5  # from a check that failed to the next of the same container


def checks_of(config: Mapping[str, Any], of_images: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The command of each service's health check: its own, else its image's; services without one are left out.

    `of_images` has the health check of each service's image, in Docker's words.
    """
    found = {}
    for name, service in config["services"].items():
        own = service.get("healthcheck") or {}
        test = [] if own.get("disable") else own.get("test") or (of_images.get(name) or {}).get("Test") or []
        if command := _command(test):
            found[name] = command
    return found


def _command(test: Sequence[str] | str) -> tuple[str, ...]:
    words = ["CMD-SHELL", test] if isinstance(test, str) else list(test)
    if len(words) < 2:
        return ()  # nothing, or NONE
    return ("sh", "-c", words[1]) if words[0] == "CMD-SHELL" else tuple(words[1:])


@dataclass
class Rounds:
    """Checks that go on in the background: one at a time for each container, until it has passed once."""

    containers: Containers
    commands: Mapping[str, Sequence[str]]
    passed: set[str] = field(default_factory=set)
    said: dict[str, str] = field(default_factory=dict)  # by replica, what its check said last
    clock: Clock = SYSTEM
    _rests: dict[str, Deadline] = field(default_factory=dict)
    _asked: dict[str, Future[str | None]] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="health"))

    def well(self, one: Seen) -> bool:
        """Whether a running container has passed its check; asks it again where not. Never waits."""
        if one.state != "running":
            self._asked.pop(one.id, None)
            self.passed.discard(one.id)
            return False
        if one.id in self.passed or one.replica not in self.commands:
            return True
        asked = self._asked.get(one.id)
        if asked is None:
            if one.id in self._rests and not self._rests[one.id].passed:
                return False
            self._asked[one.id] = self._pool.submit(self._ask, one)
        elif asked.done():
            self._hear(one, asked.result())
        return one.id in self.passed

    def _hear(self, one: Seen, fault: str | None) -> None:
        del self._asked[one.id]
        if fault is None:
            self.passed.add(one.id)
            self.said.pop(one.replica, None)
        else:
            self.said[one.replica] = fault
            self._rests[one.id] = Deadline.after(_AGAIN_S, self.clock)

    def _ask(self, one: Seen) -> str | None:
        try:
            self.containers.execute_in(one.id, self.commands[one.replica])
        except ChaoslabError as failed:
            return str(failed.args[0])
        return None

    def end(self) -> None:
        """Ask no more. A check that hangs is left to itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
