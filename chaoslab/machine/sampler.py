"""One look at the machine after the other, and what happened between two of them, by owner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaoslab.clock import NS_PER_S, SYSTEM, since_boot_ns
from chaoslab.events import KERNEL, OTHERS, STOLEN
from chaoslab.machine import procfs
from chaoslab.machine.owners import Owners
from chaoslab.machine.plan import MachinePlan
from chaoslab.machine.procfs import Task, Totals

_TOP = 3
_WORTH_TELLING = 0.01  # of a processor, or a hundredth of it in MB/s
_SLEPT_MIN_S = 0.1


@dataclass(frozen=True)
class Sample:
    """One look. `awake_ns` stands still while the machine sleeps, `since_boot_ns` does not. By pid: owner, waits, writes."""

    awake_ns: int
    since_boot_ns: int
    totals: Totals = field(default_factory=Totals)
    tasks: Mapping[int, Task] = field(default_factory=dict)
    owners: Mapping[int, str] = field(default_factory=dict)
    waited_s: Mapping[int, float] = field(default_factory=dict)
    written_mb: Mapping[int, float] = field(default_factory=dict)


class Sampler:
    """Looks at the machine. Where there is no /proc only clocks are read."""

    def __init__(self, plan: MachinePlan) -> None:
        self._owners = Owners(plan)
        self._linux = procfs.there()
        self._last = self._look()

    def next(self) -> dict[str, Any]:
        """What happened since the last call, as fields of a `Machine` row."""
        before, self._last = self._last, self._look()
        return between(before, self._last)

    def _look(self) -> Sample:
        awake_ns = SYSTEM.now_ns()
        boot_ns = since_boot_ns()
        if not self._linux or boot_ns is None:
            return Sample(awake_ns, boot_ns or awake_ns)
        tasks = procfs.tasks()
        owners = self._owners.of(tasks, boot_ns / NS_PER_S)
        ours = [task for task in tasks.values() if owners[task.pid] not in (OTHERS, KERNEL)]
        return Sample(
            awake_ns,
            boot_ns,
            procfs.totals(),
            tasks,
            owners,
            _known((task.pid, procfs.waited_s(task)) for task in ours),
            _known((task.pid, procfs.written_mb(task.pid)) for task in tasks.values() if not task.kernel),
        )


def between(before: Sample, after: Sample) -> dict[str, Any]:
    """Fields of a `Machine` row; what one of the two looks does not know is left out."""
    slept_s = (after.since_boot_ns - before.since_boot_ns - after.awake_ns + before.awake_ns) / NS_PER_S
    found: dict[str, Any] = {"slept_s": round(slept_s, 3)} if slept_s > _SLEPT_MIN_S else {}
    if not after.tasks or not before.tasks:
        return found
    seconds = (after.awake_ns - before.awake_ns) / NS_PER_S
    used = _used(before, after)
    written = _grown(before.written_mb, after.written_mb)
    found |= {
        "busy": _rates(_busy(used, before, after), seconds),
        "waiting": _rates(_by_owner(_grown(before.waited_s, after.waited_s), after), seconds),
        "writes_mb": _rates(_writes(written, before, after), seconds),
        "psi": _rates(_grown(before.totals.pressure_s, after.totals.pressure_s), seconds),
        "memory": _memory(before.totals, after.totals),
        "top": _top(used, written, after, seconds),
    }
    return found


def _used(before: Sample, after: Sample) -> dict[int, float]:
    """Processor seconds of each process, and of children that came and went, or ended, meanwhile and that it waited for.

    A child whose end was seen late may count in several; the machine was busy with no more than what is left of its total.
    """
    own_s = {pid: task.own_s - _earlier(before, task).own_s for pid, task in after.tasks.items()}
    ended_s = _ended(before, after)
    waited_for = {pid: task.children_s - _earlier(before, task).children_s - ended_s[pid] for pid, task in after.tasks.items()}
    children_s = {pid: seconds for pid, seconds in waited_for.items() if seconds > 0}
    left_s = max(0.0, after.totals.busy_s - before.totals.busy_s - sum(own_s.values()))
    share = min(1.0, left_s / sum(children_s.values())) if children_s else 0.0
    return {pid: seconds + share * children_s.get(pid, 0.0) for pid, seconds in own_s.items()}


def _earlier(before: Sample, task: Task) -> Task:
    """The same process at the look before; one that has done nothing when it was not there."""
    earlier = before.tasks.get(task.pid)
    return earlier if earlier is not None and earlier.start == task.start else task._replace(own_s=0.0, children_s=0.0)


def _ended(before: Sample, after: Sample) -> defaultdict[int, float]:
    """By the nearest ancestor that still lives: what processes that ended had used by the look before."""
    ended = {pid for pid, task in before.tasks.items() if _began(after, pid) != task.start}
    found: defaultdict[int, float] = defaultdict(float)
    for pid in ended:
        heir = before.tasks[pid].parent
        while heir in ended and heir != pid:
            heir = before.tasks[heir].parent
        found[heir] += before.tasks[pid].own_s + before.tasks[pid].children_s
    return found


def _began(sample: Sample, pid: int) -> int | None:
    task = sample.tasks.get(pid)
    return None if task is None else task.start


def _busy(used: Mapping[int, float], before: Sample, after: Sample) -> dict[str, float]:
    """By owner. What the machine was busy with and no process had is the kernel's."""
    total_s = after.totals.busy_s - before.totals.busy_s
    busy = {OTHERS: 0.0, KERNEL: 0.0} | _by_owner(used, after)
    busy[KERNEL] += max(0.0, total_s - sum(busy.values()))
    return busy | {STOLEN: after.totals.stolen_s - before.totals.stolen_s}


def _writes(written: Mapping[int, float], before: Sample, after: Sample) -> dict[str, float]:
    """By owner. What reached the disks and no process that we may look at had written is of others."""
    mine = _by_owner(written, after)
    if before.totals.written_mb is None or after.totals.written_mb is None:
        return mine
    return {OTHERS: 0.0} | mine if OTHERS in mine else mine | _unseen(after.totals.written_mb - before.totals.written_mb, mine)


def _unseen(total_mb: float, mine: Mapping[str, float]) -> dict[str, float]:
    return {OTHERS: max(0.0, total_mb - sum(mine.values()))} if mine else {}


def _memory(before: Totals, after: Totals) -> dict[str, float]:
    memory = {}
    if after.memory_used is not None:
        memory["used"] = round(after.memory_used, 3)
    if before.swapped_mb is not None and after.swapped_mb is not None:
        memory["swapped_mb"] = round(after.swapped_mb - before.swapped_mb, 1)
    return memory


def _top(used: Mapping[int, float], written: Mapping[int, float], after: Sample, seconds: float) -> list[str]:
    """The largest of others, by their shares of what others used and wrote, as "dd (4711) 0.05, 38 MB/s"."""
    others = [pid for pid, owner in after.owners.items() if owner == OTHERS]
    used_s, written_mb = (sum(some.get(pid, 0.0) for pid in others) or 1.0 for some in (used, written))
    weights = {pid: used.get(pid, 0.0) / used_s + written.get(pid, 0.0) / written_mb for pid in others}
    largest = sorted(others, key=lambda pid: -weights[pid])[:_TOP]
    rates = [(after.tasks[pid], used.get(pid, 0.0) / seconds, written.get(pid, 0.0) / seconds) for pid in largest]
    return [
        f"{task.name} ({task.pid}) {busy:.2f}" + (f", {writes:.1f} MB/s" if writes >= 1 else "")
        for task, busy, writes in rates
        if busy >= _WORTH_TELLING or writes >= 1
    ]


def _known(values: Iterable[tuple[int, float | None]]) -> dict[int, float]:
    return {pid: value for pid, value in values if value is not None}


def _grown(before: Mapping[Any, float], after: Mapping[Any, float]) -> dict[Any, float]:
    """By key, for what is in both or began meanwhile; a pid that was given anew may count from nothing."""
    return {key: max(0.0, value - before.get(key, 0.0)) for key, value in after.items()}


def _by_owner(values: Mapping[int, float], after: Sample) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for pid, value in values.items():
        sums[after.owners[pid]] += value
    return dict(sums)


def _rates(values: Mapping[str, float], seconds: float) -> dict[str, float]:
    return {key: round(value / seconds, 3) for key, value in values.items()}
