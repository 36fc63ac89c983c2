"""A run's rows in the order in which a judge asks for them: phases, faults as intervals, slots as columns. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
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
from chaoslab.writes import Ids, Reading, Writes

_TOGETHER = 1024  # slots that are taken together: columns are filled faster by the thousand
_ERROR_CHARACTERS_MAX = 160
_by_time = attrgetter("t_ns")


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


class Probed:
    """What the prober wrote of one journey: its slots by due time, its writes, and what users were told in bad slots."""

    def __init__(self, service: str, op: Literal["read", "write"], ids: Ids) -> None:
        self.service, self.op = service, op
        self.slots, self.writes = Slots(), Writes(ids)
        self._errors: Counter[str] = Counter()
        self._first_ns: dict[str, int] = {}  # of each error

    def add(self, rows: Sequence[Probe]) -> None:
        """Take some rows, in any order."""
        self.slots.add_rows(rows)
        self.writes.add(rows)
        for row in [row for row in rows if not row.good]:
            text = _error_of(row)
            self._errors[text] += 1
            self._first_ns[text] = min(row.t_ns, self._first_ns.get(text, row.t_ns))

    def errors(self) -> list[tuple[str, int]]:
        """What users were told, or not told, in bad slots, and how often: the most frequent first, then the earliest."""
        return sorted(self._errors.items(), key=lambda one: (-one[1], self._first_ns[one[0]]))


def _error_of(row: Probe) -> str:
    text = row.error or (f"status {row.status}" if row.status else "no answer")
    return text if len(text) <= _ERROR_CHARACTERS_MAX else f"{text[:_ERROR_CHARACTERS_MAX]}…"


@dataclass(frozen=True)
class Record:
    """A run as its rows tell it, each kind in time order, whatever the order they came in.

    `told`: all rows but the slots and the reads of ledgers, of which only columns are kept.
    """

    told: Sequence[AnyRow]
    anchor: Anchor | None
    phases: Mapping[tuple[Phase, str], int]
    probes: Mapping[str, Probed]  # by journey
    reads: Mapping[str, list[Reading]]  # by journey
    injections: list[Injection]
    refused: Mapping[str, Mapping[str, Any]]  # by fault: what was said of one that was never injected
    steps: list[StepTaken]
    conditions: list[Condition]
    machine: list[Machine]
    load: list[Load]
    aborts: list[Abort]
    notes: list[Note]
    ids: Ids
    first_ns: int
    last_ns: int

    @classmethod
    def of(cls, rows: Iterable[AnyRow]) -> Record:
        """Sort the rows out in one pass; none of those that come by the thousand is kept."""
        sorter = _Sorter()
        sorter.take(rows)
        told = sorted(sorter.told, key=_by_time)
        kinds: dict[type, list[Any]] = defaultdict(list)
        for row in told:
            kinds[type(row)].append(row)
        return cls(
            told=told,
            anchor=next(iter(kinds[Anchor]), None),
            phases=_phases(kinds[PhaseRow]),
            probes=sorter.probes,
            reads=sorter.reads,
            injections=_injections(kinds[Fault]),
            refused=_refused(kinds[Fault]),
            steps=_steps(kinds[Step]),
            conditions=kinds[Condition],
            machine=kinds[Machine],
            load=kinds[Load],
            aborts=kinds[Abort],
            notes=kinds[Note],
            ids=sorter.ids,
            first_ns=sorter.first_ns or 0,
            last_ns=sorter.last_ns or 0,
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


class _Sorter:
    """Takes rows one after the other and keeps of each what is asked for."""

    def __init__(self) -> None:
        self.ids = Ids()
        self.told: list[AnyRow] = []
        self.probes: dict[str, Probed] = {}
        self.reads: defaultdict[str, list[Reading]] = defaultdict(list)
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    def take(self, rows: Iterable[AnyRow]) -> None:
        slots: list[Probe] = []
        for row in rows:
            if isinstance(row, Probe):
                slots.append(row)
                if len(slots) == _TOGETHER:
                    self._take_slots(slots)
                    slots.clear()
            else:
                self._see([row.t_ns])
                if isinstance(row, LedgerRead):
                    self.reads[row.journey].append(Reading.of(row, self.ids))
                else:
                    self.told.append(row)
        self._take_slots(slots)
        for probed in self.probes.values():
            probed.slots.sort()

    def _take_slots(self, rows: Sequence[Probe]) -> None:
        by_journey: defaultdict[str, list[Probe]] = defaultdict(list)
        for row in rows:
            by_journey[row.journey].append(row)
        for journey, own in by_journey.items():
            if journey not in self.probes:
                self.probes[journey] = Probed(own[0].service, own[0].op, self.ids)
            self.probes[journey].add(own)
            self._see([*map(_by_time, own)])

    def _see(self, times_ns: Sequence[int]) -> None:
        first_ns, last_ns = min(times_ns), max(times_ns)
        self.first_ns = first_ns if self.first_ns is None else min(self.first_ns, first_ns)
        self.last_ns = last_ns if self.last_ns is None else max(self.last_ns, last_ns)


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
