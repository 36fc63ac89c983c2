"""A run's rows in the order in which a judge asks for them: phases, faults as intervals, slots as columns. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from chaoslab.events import (
    Abort,
    Anchor,
    AnyRow,
    Condition,
    Fault,
    LedgerRead,
    Load,
    Machine,
    Note,
    Phase,
    PhaseRow,
    Probe,
    Step,
)
from chaoslab.slots import Slots


@dataclass(frozen=True)
class Injection:
    """One fault as it went. Instants are monotonic nanoseconds; None where that never happened."""

    id: str
    name: str
    target: str
    inject_ns: int
    effective_ns: int | None
    heal_ns: int | None
    healed_ns: int | None
    bites: bool  # as last seen
    whole: bool  # as last seen
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def restarted(self) -> bool:
        """A relay ended or restarted in between, which heals every fault without a word."""
        return bool(self.detail.get("restarted"))

    @property
    def verified(self) -> bool:
        """The effect was seen from outside, and nothing undid it behind our back."""
        return self.bites and not self.restarted

    @property
    def heal_verified(self) -> bool:
        """Seen from outside."""
        return self.whole


@dataclass(frozen=True)
class StepTaken:
    """Something that the harness did to the stack. `end_ns` None: its end was not seen."""

    id: str
    name: str
    begin_ns: int
    end_ns: int | None


@dataclass
class Probed:
    """What the prober wrote of one journey. `slots` are in the order of their rows; `writes` those that carry an id."""

    service: str
    op: Literal["read", "write"]
    slots: Slots = field(default_factory=Slots)
    writes: list[Probe] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, row: Probe) -> None:
        """Take one row."""
        self.slots.add(row.due_ns, row.sent_ns, row.end_ns, row.good)
        if row.id is not None and row.op == "write":
            self.writes.append(row)
        if row.error is not None:
            self.errors[row.error] += 1


@dataclass(frozen=True)
class Record:
    """All rows of a run by kind, each kind in time order, whatever the order they came in."""

    anchor: Anchor | None
    phases: Mapping[tuple[Phase, str], int]
    probes: Mapping[str, Probed]  # by journey
    reads: list[LedgerRead]
    injections: list[Injection]
    refused: Mapping[str, Mapping[str, Any]]  # by fault: what was said of one that was never injected
    steps: list[StepTaken]
    conditions: list[Condition]
    machine: list[Machine]
    load: list[Load]
    aborts: list[Abort]
    notes: list[Note]
    first_ns: int
    last_ns: int

    @classmethod
    def of(cls, rows: Iterable[AnyRow]) -> Record:
        """Sort the rows out in one pass. Of the slots, by far the most, only the columns are kept."""
        kinds: dict[type, list[Any]] = defaultdict(list)
        probes: dict[str, Probed] = {}
        first_ns = last_ns = None
        for row in rows:
            t_ns = row.t_ns
            first_ns = t_ns if first_ns is None or t_ns < first_ns else first_ns
            last_ns = t_ns if last_ns is None or t_ns > last_ns else last_ns
            if isinstance(row, Probe):
                own = probes.get(row.journey)
                if own is None:
                    own = probes[row.journey] = Probed(row.service, row.op)
                own.add(row)
            else:
                kinds[type(row)].append(row)
        for some in kinds.values():
            some.sort(key=_by_time)
        return cls(
            anchor=next(iter(kinds[Anchor]), None),
            phases=_phases(kinds[PhaseRow]),
            probes=probes,
            reads=kinds[LedgerRead],
            injections=_injections(kinds[Fault]),
            refused=_refused(kinds[Fault]),
            steps=_steps(kinds[Step]),
            conditions=kinds[Condition],
            machine=kinds[Machine],
            load=kinds[Load],
            aborts=kinds[Abort],
            notes=kinds[Note],
            first_ns=first_ns or 0,
            last_ns=last_ns or 0,
        )

    @property
    def first_inject_ns(self) -> int | None:
        return self.injections[0].inject_ns if self.injections else None

    @property
    def cut_ns(self) -> int | None:
        """When something other than the script ended the run: an abort, an interruption, links or a harness that broke.

        None for what came after the look at the stack was over.
        """
        cuts = [*self.aborts, *(note for note in self.notes if note.level in ("error", "interrupted", "blind"))]
        cut_ns = min((row.t_ns for row in cuts), default=None)
        over_ns = self.phases.get(("failback", "end"))
        return None if cut_ns is None or (over_ns is not None and over_ns < cut_ns) else cut_ns

    @property
    def steady_end_ns(self) -> int:
        """Until when the steady state had to hold: the first injection, or the end of that phase."""
        return _first(self.first_inject_ns, self.phases.get(("steady", "end")), self.last_ns)

    @property
    def observed_end_ns(self) -> int:
        """Until when the prober's slots count: the end of failback, or of what there was of the run."""
        ends = (self.phases.get(("failback", "end")), self.phases.get(("drain", "begin")))
        end_ns = _first(*ends, self.phases.get(("faults", "end")), self.last_ns)
        return end_ns if self.cut_ns is None else min(end_ns, self.cut_ns)

    @property
    def steady_begin_ns(self) -> int:
        """When the load began."""
        return _first(self.phases.get(("steady", "begin")), self.first_ns)


def _by_time(row: AnyRow) -> int:
    return row.t_ns


def _first(*instants: int | None) -> int:
    return next(instant for instant in instants if instant is not None)


def _phases(rows: list[PhaseRow]) -> dict[tuple[Phase, str], int]:
    """First begin and last end of each phase."""
    found: dict[tuple[Phase, str], int] = {}
    for row in rows:
        if row.event == "end" or (row.phase, row.event) not in found:
            found[row.phase, row.event] = row.t_ns
    return found


def _steps(rows: list[Step]) -> list[StepTaken]:
    """Each begin with the end that follows it."""
    return [
        StepTaken(
            row.id,
            row.name,
            row.t_ns,
            next((end.t_ns for end in rows if end.id == row.id and end.event == "end" and end.t_ns >= row.t_ns), None),
        )
        for row in rows
        if row.event == "begin"
    ]


def _injections(rows: list[Fault]) -> list[Injection]:
    ordered = sorted(rows, key=lambda row: (row.id, row.t_ns, row.event))
    found = [one for _, own in groupby(ordered, key=lambda row: row.id) for one in _injections_of_one(list(own))]
    return sorted(found, key=lambda one: (one.inject_ns, one.id))


def _refused(rows: list[Fault]) -> dict[str, Mapping[str, Any]]:
    injected = {row.id for row in rows if row.event == "inject"}
    return {row.id: row.detail for row in rows if row.id not in injected}


def _injections_of_one(rows: list[Fault]) -> list[Injection]:
    """One for each inject; what follows belongs to it. The instant of an effect may lie a hair before its first inject."""
    starts = [number for number, row in enumerate(rows) if row.event == "inject"]
    if not starts:
        return []
    starts[0] = 0
    return [_injection(rows[start:end]) for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)]


def _injection(rows: list[Fault]) -> Injection:
    at: dict[str, int] = {}
    detail: dict[str, Any] = {}
    for row in rows:
        at.setdefault(row.event, row.t_ns)
        detail |= row.detail
    return Injection(
        id=rows[0].id,
        name=rows[0].name,
        target=rows[0].target,
        inject_ns=at["inject"],
        effective_ns=at.get("effective"),
        heal_ns=at.get("heal"),
        healed_ns=at.get("healed"),
        bites=_last_of(rows, "effective", "ineffective"),
        whole=_last_of(rows, "healed", "unhealed"),
        detail=detail,
    )


def _last_of(rows: list[Fault], yes: str, no: str) -> bool:
    """Whether the last of these two events was the first one."""
    said = [row.event for row in rows if row.event in (yes, no)]
    return bool(said) and said[-1] == yes
