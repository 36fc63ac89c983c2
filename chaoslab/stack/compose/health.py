"""Health checks of containers, run by the harness and only while a start waits.

Docker would run them for as long as the stack is up: fourteen containers with a check every two seconds keep one CPU busy,
which would disturb the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import ChaoslabError
from chaoslab.stack.compose.containers import ContainerInfo, Containers

_AT_ONCE = 2  # each costs a tenth of a second of a processor, which what is being started needs
_RETRY_AFTER_S = 0.5  # from a check that failed to the next of the same container


def checks_of(config: Mapping[str, Any], of_images: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The command of each service's health check: its own, else its image's; services without one are left out.

    `of_images` has the health check of each service's image, as Docker writes it.
    """
    found = {}
    for name, service in config["services"].items():
        own = service.get("healthcheck") or {}
        test = [] if own.get("disable") else own.get("test") or []
        words = ["CMD-SHELL", test] if isinstance(test, str) else list(test)
        words = [word.replace("$$", "$") for word in words]  # as in a Compose file
        if not words and not own.get("disable"):
            words = list((of_images.get(name) or {}).get("Test") or [])
        if len(words) >= 2:  # fewer: there is none, or NONE
            found[name] = ("sh", "-c", words[1]) if words[0] == "CMD-SHELL" else tuple(words[1:])
    return found


@dataclass
class HealthChecks:
    """Checks that run in the background, one at a time for each container, until it has passed once.

    `commands`: the check of each replica that has one. `failures`: by replica, the output of its last check that failed.
    """

    containers: Containers
    commands: Mapping[str, Sequence[str]]
    failures: dict[str, str] = field(default_factory=dict)
    clock: Clock = SYSTEM
    _passed: set[str] = field(default_factory=set)
    _retry_at: dict[str, Deadline] = field(default_factory=dict)
    _running: dict[str, Future[str]] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="health"))

    def passed(self, container: ContainerInfo) -> bool:
        """Whether a running container has passed its check; starts the check again where it has not. Never waits."""
        id_, replica = container.id, container.replica
        if container.state != "running":
            self._running.pop(id_, None)
            self._passed.discard(id_)
            return False
        if id_ in self._passed or replica not in self.commands:
            return True
        check = self._running.get(id_)
        if check is None:
            if id_ not in self._retry_at or self._retry_at[id_].passed:
                self._running[id_] = self._pool.submit(self.containers.execute_in, id_, self.commands[replica])
        elif check.done():
            del self._running[id_]
            failed = check.exception()
            if failed is None:
                self._passed.add(id_)
                self.failures.pop(replica, None)
            elif isinstance(failed, ChaoslabError):
                self.failures[replica] = str(failed.args[0])
                self._retry_at[id_] = Deadline.after(_RETRY_AFTER_S, self.clock)
            else:
                raise failed
        return id_ in self._passed

    def end(self) -> None:
        """Start no more checks. One that hangs is left alone."""
        self._pool.shutdown(wait=False, cancel_futures=True)
