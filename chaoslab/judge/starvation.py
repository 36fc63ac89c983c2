"""Seconds in which the machine was starved, and what used it then: judge/README.md, Starved machine. Pure.

A second is starved when the control was late, a slot went out late, or the whole machine stalled. What used the machine is
taken from CPU usage; if only the control's fsync was late, from disk writes, if their owners are known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import BY_LOAD, HARNESS, OTHERS, OUTSIDE, STOLEN, Machine

READ, FSYNC, TICK, SLEEP = "read", "fsync", "tick", "sleep"
JOURNEY = "journey"  # a journey's own class kept the prober from its slots
MARGIN_NS = NS_PER_S  # on either side of a late second: its beginning may not have been seen
_STILL = frozenset((TICK, SLEEP, JOURNEY))
_UNITS = {"busy": "CPUs", "writes_mb": "MB/s"}
_NOISE = {"busy": 0.1, "writes_mb": 0.5}  # how much the use of a site varies from one second to the next
_NOTHING = 0.005

Resource = Literal["busy", "writes_mb"]
Boot = tuple[str, int, int]  # site, begin and end
Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Starved:
    """A span in which the machine was starved. `by`: what used it. Not `excused`: the surviving replicas themselves."""

    begin_ns: int
    end_ns: int
    by: str
    excused: bool
    why: str


def starved_spans(
    machine: Sequence[Machine],
    *,
    steady: tuple[int, int],
    booting: Sequence[Boot],
    sites: Sequence[str],
    late_slots: Sequence[tuple[int, int]],
) -> list[Starved]:
    """The starved spans of a run by their begin; stalls and other spans may overlap.

    `steady`: begin and end of the steady state. `booting`: sites that start, and when. `sites`: all of the stack's.
    `late_slots`: due and sent of slots that went out too late. Without rows of the machine there are no spans.
    """
    if not machine:
        return []
    still = _stood_still(machine, late_slots)
    free = [one for one in late_slots if not _touches(one, still)]
    busy = [row for row in machine if row.starved and not _touches((row.begin_ns, row.t_ns), still)]
    usage = _Usage(machine, steady, booting, sites)
    seen = [*((row.begin_ns, row.t_ns) for row in busy), *free]
    widened = [(begin_ns - MARGIN_NS, end_ns + MARGIN_NS) for begin_ns, end_ns in seen]
    episodes = [usage.attributed(span, machine, free) for span in _merged(widened)]
    return sorted([*still, *episodes], key=lambda span: (span.begin_ns, span.end_ns))


def busy_machine(machine: Iterable[Machine], since_ns: int, until_ns: int) -> str | None:
    """Why the machine was too busy for a steady state between two instants; None when it was not."""
    starved = [row for row in machine if row.starved and row.t_ns > since_ns and row.begin_ns < until_ns]
    return f"the machine is busy: {in_words(starved[-1])}" if starved else None


def in_words(row: Machine) -> str:
    """A starved second in words: what was late, and what used the machine."""
    resource = _resource([row], row.late)
    use: Mapping[str, float] = getattr(row, resource)
    largest = max(use, key=lambda owner: use[owner], default=None)
    if largest is None or not use[largest] or _STILL & {*row.late}:
        return row.why
    known = f" ({', '.join(row.top)})" if largest == OTHERS and row.top else ""
    return f"{row.why}; by: {largest}{known}: {use[largest]:.2f} {_UNITS[resource]}"


def summary(spans: Sequence[Starved]) -> dict[str, Any]:
    """For the result: how long the machine was starved, and what used it, the longest first."""
    lengths: dict[str, int] = {}
    for span in spans:
        lengths[span.by] = lengths.get(span.by, 0) + span.end_ns - span.begin_ns
    total_ns = sum(end - begin for begin, end in _merged([(span.begin_ns, span.end_ns) for span in spans]))
    return {"starved_s": total_ns / NS_PER_S, "by": sorted(lengths, key=lambda by: -lengths[by])}


def _stood_still(machine: Sequence[Machine], late_slots: Sequence[tuple[int, int]]) -> list[Starved]:
    """One span for each stall of the whole machine, with the seconds after it in which late slots were answered."""
    found: list[Starved] = []
    until_ns = 0
    for row in machine:
        within = (row.begin_ns - MARGIN_NS, row.t_ns + MARGIN_NS)
        if _STILL & {*row.late}:
            slept, alone = SLEEP in row.late, not any(_overlap(slot, within) for slot in late_slots)
            by = "the machine was suspended" if slept else "the sampler stalled" if alone else "the machine stalled"
            by = "a journey's class blocked the prober" if JOURNEY in row.late else by
            found.append(Starved(*within, by, excused=True, why=row.why))
            until_ns = row.t_ns + MARGIN_NS // 2
        elif row.starved and row.begin_ns < until_ns:
            found[-1] = replace(found[-1], end_ns=within[1])  # slots of the stall that are answered now
    return found


class _Usage:
    """What used the processors or the disks, compared with the steady state."""

    def __init__(
        self, machine: Sequence[Machine], steady: tuple[int, int], booting: Sequence[Boot], sites: Sequence[str]
    ) -> None:
        quiet = [row for row in machine if _overlap((row.begin_ns, row.t_ns), steady)]
        self._quiet = [row for row in quiet if not row.starved] or quiet
        self._booting = booting
        self._replicas = (*sites, OUTSIDE)

    def attributed(self, span: tuple[int, int], machine: Sequence[Machine], late_slots: Sequence[tuple[int, int]]) -> Starved:
        """A starved span with what used the machine in it."""
        core = (span[0] + MARGIN_NS, span[1] - MARGIN_NS)
        rows = [row for row in machine if _overlap((row.begin_ns, row.t_ns), core)]
        slots = [slot for slot in late_slots if _overlap(slot, core)]
        late = {READ} if slots else {name for row in rows for name in row.late}
        resource = _resource(rows, late)
        use = {owner: _mean(rows, owner, resource) for owner in (OTHERS, STOLEN)}
        use |= {owner: _mean(rows, owner, resource) - _mean(self._quiet, owner, resource) for owner in (HARNESS, BY_LOAD)}
        survivors: dict[str, float] = {}  # by site: what its replicas used beyond the steady state while it was not booting
        for site in self._replicas:
            booting = sum(_use(row, site, resource) for row in rows if self._boots(site, row))
            use[f"{site}, while it was booting"] = booting / _seconds(rows)
            settled = [row for row in rows if not self._boots(site, row)]
            beyond = _mean(settled, site, resource) - _mean(self._quiet, site, resource)
            used = beyond * _seconds(settled) / _seconds(rows)
            if self._quiet and used > _NOISE[resource]:
                survivors[site] = used
        excusing = {owner: used for owner, used in use.items() if used > _NOTHING}
        excused = sum(survivors.values()) <= sum(excusing.values())
        users = excusing if excused else {f"the surviving replicas ({name})": used for name, used in survivors.items()}
        by = max(users, key=lambda name: users[name], default="an unknown cause")
        if by == OTHERS and (top := _tops(rows)):  # without numbers, so that spans with the same cause have one name
            by = f"{OTHERS} ({', '.join(sorted({one.rpartition(' (')[0] for one in top}))})"
        return Starved(*span, by, excused, "; ".join(_whys(rows, slots, excusing | survivors, resource)))

    def _boots(self, site: str, row: Machine) -> bool:
        return any(name == site and _overlap((row.begin_ns, row.t_ns), (begin, end)) for name, begin, end in self._booting)


def _resource(rows: Sequence[Machine], late: Collection[str]) -> Resource:
    """What was short: the disks if only fsync was late and it is known what wrote, else the processors."""
    return "writes_mb" if {*late} == {FSYNC} and any(row.writes_mb for row in rows) else "busy"


def _use(row: Machine, owner: str, resource: Resource) -> float:
    """Processor seconds, or megabytes, of an owner in this row."""
    use: Mapping[str, float] = getattr(row, resource)
    return use.get(owner, 0.0) * (row.t_ns - row.begin_ns) / NS_PER_S


def _mean(rows: Sequence[Machine], owner: str, resource: Resource) -> float:
    return sum(_use(row, owner, resource) for row in rows) / _seconds(rows)


def _seconds(rows: Sequence[Machine]) -> float:
    return sum(row.t_ns - row.begin_ns for row in rows) / NS_PER_S or 1.0


def _tops(rows: Sequence[Machine]) -> list[str]:
    """The largest processes outside the run, of the row in which others used most."""
    row = max(rows, key=lambda row: row.busy.get(OTHERS, 0.0) + row.writes_mb.get(OTHERS, 0.0), default=None)
    return row.top if row else []


def _whys(
    rows: Sequence[Machine], slots: Sequence[tuple[int, int]], users: Mapping[str, float], resource: Resource
) -> Iterable[str]:
    """What was late, at its worst, and what used how much."""
    for name in (READ, FSYNC):
        worst_ms = max((row.control_ms.get(name) or 0.0 for row in rows if name in row.late), default=0.0)
        if worst_ms:
            yield f"the control's {name} took up to {worst_ms / 1000:.2f} s"
    if slots:
        yield f"{len(slots)} slots were sent up to {max(sent - due for due, sent in slots) / NS_PER_S:.2f} s late"
    most_first = [f"{name} {used:.2f}" for name, used in sorted(users.items(), key=lambda user: -user[1])]
    if most_first:
        yield f"{_UNITS[resource]} , absolute or above the steady state: {', '.join(most_first)}"
    if OTHERS in users and (top := _tops(rows)):
        yield f"the largest of others: {', '.join(top)}"


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _touches(one: tuple[int, int], spans: Iterable[Starved]) -> bool:
    return any(_overlap(one, (span.begin_ns, span.end_ns)) for span in spans)


def _merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Sorted; adjacent ones are merged."""
    merged: Spans = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
