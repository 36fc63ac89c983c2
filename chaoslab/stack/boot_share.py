"""A small share of the CPU for replicas that boot during a heal: real sites are separate, these share a machine.

A `Means` sets a small share and restores what was there before. A `BootShare` applies it from the start of a boot to its end.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from chaoslab import process
from chaoslab.clock import NS_PER_S, SYSTEM, Clock

USUAL_NICENESS, HELD_NICENESS = 0, 9  # a seventh of the weight that the other replicas of the stack have
_LOOK_EVERY_S = 0.5  # for sessions that are new: a database server opens its own


class Means(Protocol):
    """One way to give replicas a small share of the processors."""

    def look(self) -> None:
        """Give it to all processes of the replicas that do not have it yet, and read it back."""

    def put_back(self) -> None:
        """Give all of them what they had before."""

    def detail(self) -> dict[str, Any]:
        """What was used, for the report."""


M = TypeVar("M", bound=Means)


class BootShare(Generic[M]):
    """Holds replicas back until `let_go`, or until `at_most_s` are over. What fails here is never an error of the run."""

    def __init__(self, means: M, at_most_s: float, clock: Clock = SYSTEM, *, look_every_s: float = _LOOK_EVERY_S) -> None:
        self.means = means
        self._clock, self._at_most_s, self._look_every_s = clock, at_most_s, look_every_s
        self._began_ns = clock.now_ns()
        self._ended = threading.Event()
        self._held_s = 0.0
        means.look()
        self._looking = threading.Thread(target=self._hold_back, name="boot-share", daemon=True)
        self._looking.start()

    @property
    def _passed_s(self) -> float:
        return (self._clock.now_ns() - self._began_ns) / NS_PER_S

    def _hold_back(self) -> None:
        try:
            while not self._ended.wait(self._look_every_s) and self._passed_s < self._at_most_s:
                self.means.look()
        finally:
            self.means.put_back()
            self._held_s = self._passed_s

    def let_go(self) -> dict[str, Any]:
        """Put back what they had; returns what was used, and for how long."""
        in_time = self._looking.is_alive()
        self._ended.set()
        self._looking.join()
        until = "healthy" if in_time else f"{self._at_most_s:g} s were over"
        return {**self.means.detail(), "held_s": round(self._held_s, 1), "until": until}


class BootShares(Generic[M]):
    """The replicas of one stack that are held back now."""

    def __init__(self) -> None:
        self._held: dict[frozenset[str], BootShare[M]] = {}

    def hold_back(self, replicas: Collection[str], means: M, at_most_s: float) -> None:
        self._held[frozenset(replicas)] = BootShare(means, at_most_s)

    def means_of(self, replica: str) -> M | None:
        return next((held.means for names, held in [*self._held.items()] if replica in names), None)

    def let_go(self, replicas: Collection[str]) -> dict[str, Any]:
        held = self._held.pop(frozenset(replicas), None)
        return held.let_go() if held is not None else {}


# --- of processes -----------------------------------------------------------------------------------------------


class Sessions:
    """Linux weighs sessions against each other (autogroups). An ordinary user may lower the weight of his own and put it back.

    A niceness is no such means: across sessions it has no effect, and ordinary users cannot take it back.
    """

    def __init__(
        self,
        pids: Callable[[], Iterable[int]],
        read: Callable[[int], tuple[str, int] | None] = process.read_session_niceness,
        write: Callable[[int, int], None] = process.set_session_niceness,
    ) -> None:
        self._pids, self._read, self._write = pids, read, write
        self._before: dict[str, int] = {}
        self._refused: set[str] = set()
        self._lock = threading.Lock()

    def adopt(self, pid: int) -> None:
        """A process that was started with the small share; in the end it gets that of all replicas."""
        session, niceness = self._read(pid) or ("", USUAL_NICENESS)
        if niceness == HELD_NICENESS:
            with self._lock:
                self._before[session] = USUAL_NICENESS

    def look(self) -> None:
        with self._lock:
            for pid in self._pids():
                session, niceness = self._read(pid) or ("", HELD_NICENESS)
                if session in self._before or niceness >= HELD_NICENESS:
                    continue
                self._write(pid, HELD_NICENESS)
                if self._read(pid) == (session, HELD_NICENESS):
                    self._before[session] = niceness
                    self._refused.discard(session)
                else:
                    self._refused.add(session)

    def put_back(self) -> None:
        """Sessions whose processes have all ended need nothing."""
        with self._lock:
            left = dict(self._before)
            for pid in self._pids():
                session, _ = self._read(pid) or ("", 0)
                if session in left:
                    self._write(pid, left.pop(session))

    def detail(self) -> dict[str, Any]:
        refused = {"refused": len(self._refused)} if self._refused else {}
        return {"means": "autogroup", "niceness": HELD_NICENESS, "sessions": len(self._before), **refused}


class OneProcessor:
    """Where sessions are not weighed: all of these processes on one processor, so that the others are free of them."""

    def __init__(
        self,
        pids: Callable[[], Iterable[int]],
        processors: Collection[int],
        move: Callable[[int, frozenset[int]], None] | None = None,
    ) -> None:
        self._pids, self._move = pids, move or _move_threads
        self._all, self._one = frozenset(processors), frozenset({max(processors)})
        self._held: set[int] = set()

    def adopt(self, pid: int) -> None:
        """A process that has just started."""
        self._move(pid, self._one)
        self._held.add(pid)

    def look(self) -> None:
        for pid in self._pids():
            self.adopt(pid)

    def put_back(self) -> None:
        for pid in self._pids():
            self._move(pid, self._all)

    def detail(self) -> dict[str, Any]:
        return {"means": "affinity", "processors": [*self._one], "of": len(self._all), "processes": len(self._held)}


class NoMeans:
    """For machines that have no means that could be put back."""

    def adopt(self, pid: int) -> None: ...

    def look(self) -> None: ...

    def put_back(self) -> None: ...

    def detail(self) -> dict[str, Any]:
        return {"means": "none"}


ProcessMeans = Sessions | OneProcessor | NoMeans


def process_means(pids: Callable[[], Iterable[int]]) -> ProcessMeans:
    """The means that this machine has for processes."""
    if sessions_are_weighed():
        return Sessions(pids)
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    return OneProcessor(pids, processors) if len(processors) > 1 else NoMeans()


def sessions_are_weighed(root: Path = Path("/")) -> bool:
    """Whether Linux weighs our sessions against each other: switched on, and no control group for processors in between."""
    try:
        if (root / "proc/sys/kernel/sched_autogroup_enabled").read_text().strip() != "1":
            return False
        groups = (line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines())
        ours = {name: path for _, name, path in groups}
    except (OSError, ValueError):
        return False
    if any("cpu" in name.split(",") for name in ours):
        return all(path == "/" for name, path in ours.items() if "cpu" in name.split(","))
    path = Path(ours.get("", "/")).relative_to("/")
    return not any((root / "sys/fs/cgroup" / part / "cpu.weight").exists() for part in (path, *path.parents))


def _move_threads(pid: int, processors: frozenset[int]) -> None:
    """Let a process, with all of its threads, run on these processors alone; one that has ended needs nothing."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), processors)
