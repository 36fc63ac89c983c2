"""The ends of the first processes of replicas, looked for ten times a second."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from chaoslab.clock import SYSTEM, Clock
from chaoslab.stack.restarts import Death

_LOOK_EVERY_S = 0.1


@dataclass
class Ends:
    """Deaths of these children, each once; a child that follows another under its name is a new one."""

    children: Mapping[str, subprocess.Popen[bytes]]
    clock: Clock = SYSTEM
    _closed: bool = False

    def __iter__(self) -> Iterator[Death]:
        seen = dict[str, subprocess.Popen[bytes]]()
        while not self._closed:
            for name, child in [*self.children.items()]:
                if seen.get(name) is not child and child.poll() is not None:
                    seen[name] = child
                    yield Death(name, name, status_of(child))
            self.clock.sleep(_LOOK_EVERY_S)

    def close(self) -> None:
        self._closed = True


@dataclass(frozen=True)
class Processes:
    """The replicas of a stack, each with one part: its first process. `start_again` starts one that has ended."""

    children: Mapping[str, subprocess.Popen[bytes]]
    start_again: Callable[[str], None]
    clock: Clock = SYSTEM

    def deaths(self) -> Ends:
        return Ends(self.children, self.clock)

    def start(self, part: str, /) -> None:
        self.start_again(part)


def status_of(child: subprocess.Popen[bytes]) -> int:
    """The exit status of a child that has ended, as a shell has it: 137 after SIGKILL."""
    status = int(child.returncode)
    return status if status >= 0 else 128 - status
