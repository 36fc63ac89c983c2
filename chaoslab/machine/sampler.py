"""Samples of the machine, and the usage between two of them, by owner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaoslab.clock import NS_PER_S, SYSTEM, since_boot_ns
from chaoslab.history.rows import KERNEL, OTHERS, STOLEN
from chaoslab.machine import procfs
from chaoslab.machine.plan import MachinePlan
from chaoslab.machine.process_owners import ProcessOwners
from chaoslab.machine.procfs import Process, Totals

_TOP = 3
_TOP_BUSY_MIN = 0.01  # processors
_TOP_WRITES_MIN_MB = 1.0  # a second
_SLEPT_MIN_S = 0.1


@dataclass(frozen=True)
class Sample:
    """One sample. `awake_ns` stands still while the machine sleeps, `since_boot_ns` does not.

    By pid: the processes, their owners, the seconds they waited for a processor, and the MB they had written to disks.
    """

    awake_ns: int
    since_boot_ns: int
    totals: Totals = field(default_factory=Totals)
    processes: Mapping[int, Process] = field(default_factory=dict)
    owners: Mapping[int, str] = field(default_factory=dict)
    waited_s: Mapping[int, float] = field(default_factory=dict)
    written_mb: Mapping[int, float] = field(default_factory=dict)


class Sampler:
    """Samples the machine. Where there is no /proc only clocks are read."""

    def __init__(self, plan: MachinePlan) -> None:
        self._owners = ProcessOwners(plan)
        self._linux = procfs.available()
        self._last = self._sample()

    def next(self) -> dict[str, Any]:
        """What happened since the last call, as fields of a `Machine` row."""
        before, self._last = self._last, self._sample()
        return between(before, self._last)

    def _sample(self) -> Sample:
        awake_ns = SYSTEM.now_ns()
        boot_ns = since_boot_ns()
        if not self._linux or boot_ns is None:
            return Sample(awake_ns, boot_ns or awake_ns)
        processes = procfs.processes()
        owners = self._owners.of(processes, boot_ns / NS_PER_S)
        ours = [process for process in processes.values() if owners[process.pid] not in (OTHERS, KERNEL)]
        return Sample(
            awake_ns,
            boot_ns,
            procfs.totals(),
            processes,
            owners,
            _known((process.pid, procfs.waited_s(process)) for process in ours),
            _known((process.pid, procfs.written_mb(process.pid)) for process in processes.values() if not process.kernel),
        )


def between(before: Sample, after: Sample) -> dict[str, Any]:
    """Fields of a `Machine` row, rates by the second; what one of the two samples does not know is left out."""
    slept_s = (after.since_boot_ns - before.since_boot_ns - after.awake_ns + before.awake_ns) / NS_PER_S
    fields: dict[str, Any] = {"slept_s": round(slept_s, 3)} if slept_s > _SLEPT_MIN_S else {}
    if not after.processes or not before.processes:
        return fields
    seconds = (after.awake_ns - before.awake_ns) / NS_PER_S
    was, now = before.totals, after.totals
    used = _used_s(before, after)
    busy = {OTHERS: 0.0, KERNEL: 0.0} | _by_owner(used, after)
    busy[KERNEL] += max(0.0, now.busy_s - was.busy_s - sum(busy.values()))  # processor time that no process has is the kernel's
    busy[STOLEN] = now.stolen_s - was.stolen_s
    written = _grown(before.written_mb, after.written_mb)
    writes_mb = _by_owner(written, after)
    if writes_mb and OTHERS not in writes_mb and was.written_mb is not None and now.written_mb is not None:
        # The processes of others could not be read: what reached the disks and was not written by ours is theirs.
        writes_mb[OTHERS] = max(0.0, now.written_mb - was.written_mb - sum(writes_mb.values()))
    memory = {} if now.memory_used is None else {"used": round(now.memory_used, 3)}
    if was.swapped_mb is not None and now.swapped_mb is not None:
        memory["swapped_mb"] = round(now.swapped_mb - was.swapped_mb, 1)
    return fields | {
        "busy": _rates(busy, seconds),
        "waiting": _rates(_by_owner(_grown(before.waited_s, after.waited_s), after), seconds),
        "writes_mb": _rates(writes_mb, seconds),
        "psi": _rates(_grown(was.pressure_s, now.pressure_s), seconds),
        "memory": memory,
        "top": _top(used, written, after, seconds),
    }


def _used_s(before: Sample, after: Sample) -> dict[int, float]:
    """Processor seconds of each process, and of children that ended in between and that it waited for.

    The time of a child may be in several ancestors' times when its end was seen late; so the children's times are scaled to
    what the machine was busy with and living processes did not use.
    """
    own_s: dict[int, float] = {}
    children_s: dict[int, float] = {}
    ended = {
        pid for pid, old in before.processes.items() if (new := after.processes.get(pid)) is None or new.start != old.start
    }
    ended_s: defaultdict[int, float] = defaultdict(float)  # used by the sample before, by the nearest living ancestor
    for pid in ended:
        ancestor = before.processes[pid].parent
        while ancestor in ended and ancestor != pid:
            ancestor = before.processes[ancestor].parent
        ended_s[ancestor] += before.processes[pid].own_s + before.processes[pid].children_s
    for pid, process in after.processes.items():
        earlier = before.processes.get(pid)
        if earlier is None or earlier.start != process.start:  # it was not there before, and had done nothing
            earlier = process._replace(own_s=0.0, children_s=0.0)
        own_s[pid] = process.own_s - earlier.own_s
        children_s[pid] = max(0.0, process.children_s - earlier.children_s - ended_s[pid])
    left_s = max(0.0, after.totals.busy_s - before.totals.busy_s - sum(own_s.values()))
    share = min(1.0, left_s / (sum(children_s.values()) or 1.0))
    return {pid: seconds + share * children_s[pid] for pid, seconds in own_s.items()}


def _top(used: Mapping[int, float], written: Mapping[int, float], after: Sample, seconds: float) -> list[str]:
    """The largest processes outside the run, by their shares of what those used and wrote, as "dd (4711) 0.05, 38.0 MB/s"."""
    others = [pid for pid, owner in after.owners.items() if owner == OTHERS]
    used_s, written_mb = (sum(some.get(pid, 0.0) for pid in others) or 1.0 for some in (used, written))
    weights = {pid: used.get(pid, 0.0) / used_s + written.get(pid, 0.0) / written_mb for pid in others}
    lines = []
    for pid in sorted(others, key=lambda pid: -weights[pid])[:_TOP]:
        busy, writes_mb = used.get(pid, 0.0) / seconds, written.get(pid, 0.0) / seconds
        if busy >= _TOP_BUSY_MIN or writes_mb >= _TOP_WRITES_MIN_MB:
            writes = f", {writes_mb:.1f} MB/s" if writes_mb >= _TOP_WRITES_MIN_MB else ""
            lines.append(f"{after.processes[pid].name} ({pid}) {busy:.2f}{writes}")
    return lines


def _known(values: Iterable[tuple[int, float | None]]) -> dict[int, float]:
    return {pid: value for pid, value in values if value is not None}


def _grown(before: Mapping[Any, float], after: Mapping[Any, float]) -> dict[Any, float]:
    """By key, the growth from before to after; from 0 for what was not there before, as for a pid that was used again."""
    return {key: max(0.0, value - before.get(key, 0.0)) for key, value in after.items()}


def _by_owner(values: Mapping[int, float], after: Sample) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for pid, value in values.items():
        sums[after.owners[pid]] += value
    return dict(sums)


def _rates(values: Mapping[str, float], seconds: float) -> dict[str, float]:
    return {key: round(value / seconds, 3) for key, value in values.items()}
