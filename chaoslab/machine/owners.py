"""To whom a process of this machine belongs: a site of the stack, the load, the harness, or somebody else.

A process of the run carries marks in its environment; children that rewrote theirs (PostgreSQL's backends) belong to whom
their parent belongs, and so does what the harness starts unmarked. A process in a container is known by its cgroup.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from chaoslab.events import BY_LOAD, HARNESS, KERNEL, OTHERS, OUTSIDE
from chaoslab.machine import procfs
from chaoslab.machine.plan import MachinePlan
from chaoslab.machine.procfs import PROC, Task

_CONTAINER = re.compile(r"[0-9a-f]{64}")
_SETTLED_S = 3.0  # between fork and exec a process still shows its parent's environment: do not remember that
_LOAD_MARK = "CHAOSLAB_LOAD_ROWS"


class Owners:
    """Remembers whose a process is once that cannot change any more."""

    def __init__(self, plan: MachinePlan) -> None:
        self._plan = plan
        self._sites = frozenset(plan.sites)
        self._known: dict[tuple[int, int], str] = {}
        self._members: dict[str, str] = {}
        self._members_as_of_ns = -1

    def of(self, tasks: Mapping[int, Task], uptime_s: float) -> dict[int, str]:
        """The owner of each of these processes. Those that are gone are forgotten."""
        self._read_members()
        found: dict[int, str] = {}
        for pid in tasks:
            self._settle(pid, tasks, found)
        self._known = {
            (pid, tasks[pid].start): owner
            for pid, owner in found.items()
            if uptime_s - tasks[pid].start / procfs.TICKS_PER_S > _SETTLED_S
        }
        return found

    def _settle(self, pid: int, tasks: Mapping[int, Task], found: dict[int, str]) -> str:
        task = tasks.get(pid)
        if task is None:
            return OTHERS
        if pid not in found:
            found[pid] = OTHERS  # of a parent that is its own descendant, which only a table read while it changed can have
            known = self._known.get((pid, task.start))
            found[pid] = known or self._own(task) or self._settle(task.parent, tasks, found)
        return found[pid]

    def _own(self, task: Task) -> str | None:
        """By what the process itself shows; None when nothing does."""
        if task.kernel:
            return KERNEL
        if task.pid == self._plan.harness:
            return HARNESS
        if task.pid == 1:
            return OTHERS
        if self._members and (box := _CONTAINER.search(procfs.text(f"{PROC}/{task.pid}/cgroup"))):
            return self._members.get(box.group(), OTHERS)
        return self._marked(task.pid)

    def _marked(self, pid: int) -> str | None:
        pairs = (pair.partition("=") for pair in procfs.text(f"{PROC}/{pid}/environ").split("\0") if pair[:9] == "CHAOSLAB_")
        marks = {key: value for key, _, value in pairs}
        if marks.get("CHAOSLAB_RUN") != self._plan.run_id:
            return None
        if marks.get("CHAOSLAB_SITE") in self._sites:
            return marks["CHAOSLAB_SITE"]
        if marks.get("CHAOSLAB_REPLICA", "").partition("/")[2] in self._plan.outside:
            return OUTSIDE
        return BY_LOAD if _LOAD_MARK in marks else HARNESS

    def _read_members(self) -> None:
        """The run's containers, read again when the file has changed."""
        if self._plan.members is None:
            return
        file = Path(self._plan.members)
        with contextlib.suppress(OSError, msgspec.MsgspecError):  # not there yet
            as_of_ns = file.stat().st_mtime_ns
            if as_of_ns != self._members_as_of_ns:
                self._members = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
                self._members_as_of_ns = as_of_ns
