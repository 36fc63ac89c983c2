"""The owner of a process on this machine: a site of the stack, the load, the harness, or something outside the run.

A process of the run carries marks in its environment; a child without marks (PostgreSQL's backends rewrote theirs, and the
harness starts some unmarked) belongs to what its parent belongs to. A process in a container is known by its cgroup, and the
first process of a replica by its PID and start, since a program that shows a title may have overwritten its marks.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from chaoslab.history.rows import BY_LOAD, HARNESS, KERNEL, OTHERS, OUTSIDE
from chaoslab.machine import procfs
from chaoslab.machine.plan import MachinePlan
from chaoslab.machine.procfs import PROC, Process

_CONTAINER = re.compile(r"[0-9a-f]{64}")
_SETTLED_S = 3.0  # between fork and exec a process still shows its parent's environment: do not remember that
_LOAD_MARK = "CHAOSLAB_LOAD_ROWS"  # as in load/variables, which this layer may not import


class ProcessOwners:
    """Finds the owner of each process, and remembers it once it cannot change any more."""

    def __init__(self, plan: MachinePlan) -> None:
        self._plan = plan
        self._sites = frozenset(plan.sites)
        self._known: dict[tuple[int, int], str] = {}  # by pid and start
        self._members: dict[str, str] = {}  # the run's containers by id, or its replicas' first processes by `pid@start`
        self._in_containers = False
        self._members_as_of_ns = -1

    def of(self, processes: Mapping[int, Process], uptime_s: float) -> dict[int, str]:
        """The owner of each of these processes, which are all of the machine. Processes that have ended are forgotten."""
        if self._plan.members is not None:
            file = Path(self._plan.members)
            with contextlib.suppress(OSError, msgspec.MsgspecError):  # not there yet
                as_of_ns = file.stat().st_mtime_ns
                if as_of_ns != self._members_as_of_ns:  # the run's containers or processes have changed
                    self._members = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
                    self._in_containers = any(_CONTAINER.fullmatch(name) for name in self._members)
                    self._members_as_of_ns = as_of_ns
        found: dict[int, str] = {}
        for pid in processes:
            # Up the ancestors, to the first whose owner is known; all on the way there have the same owner.
            owner, ancestor, way = found.get(pid), pid, list[int]()
            while owner is None:
                process = processes.get(ancestor)
                if process is None or ancestor in way:  # a table that changed while it was read may hold a circle
                    owner = OTHERS
                    break
                way.append(ancestor)
                known = self._known.get((ancestor, process.start))
                owner = known or self._own(process) or found.get(process.parent)
                ancestor = process.parent
            found.update(dict.fromkeys(way, owner))
        self._known = {
            (pid, processes[pid].start): owner
            for pid, owner in found.items()
            if uptime_s - processes[pid].start / procfs.TICKS_PER_S > _SETTLED_S
        }
        return found

    def _own(self, process: Process) -> str | None:
        """By what the process itself shows; None when nothing does."""
        if process.kernel:
            return KERNEL
        known = {self._plan.harness: HARNESS, 1: OTHERS}.get(process.pid) or self._members.get(f"{process.pid}@{process.start}")
        if known is not None:
            return known
        if self._in_containers and (container := _CONTAINER.search(procfs.text(f"{PROC}/{process.pid}/cgroup"))):
            return self._members.get(container.group(), OTHERS)
        environ = procfs.text(f"{PROC}/{process.pid}/environ").split("\0")
        pairs = (pair.partition("=") for pair in environ if pair[:9] == "CHAOSLAB_")
        marks = {key: value for key, _, value in pairs}
        if marks.get("CHAOSLAB_RUN") != self._plan.run_id:
            return None
        owner = BY_LOAD if _LOAD_MARK in marks else HARNESS
        if marks.get("CHAOSLAB_SITE") in self._sites:
            owner = marks["CHAOSLAB_SITE"]
        elif marks.get("CHAOSLAB_REPLICA", "").partition("/")[2] in self._plan.outside:
            owner = OUTSIDE
        return owner
