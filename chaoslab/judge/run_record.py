"""A run's rows as the judge needs them: phases, faults as intervals, slots as columns. Pure."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import (
    Abort,
    Anchor,
    Answer,
    AnyRow,
    Ask,
    Condition,
    Decided,
    Fault,
    LedgerRead,
    Load,
    Machine,
    Note,
    Phase,
    PhaseRow,
    Probe,
    Start,
    Step,
)
from chaoslab.judge.slots import Slots
from chaoslab.judge.writes import Ids, Reading, Writes
from chaoslab.spec.stackfile.journey import QUEUED

_TOGETHER = 1024  # slots that are added at once: filling columns in large batches is faster
_ERROR_CHARACTERS_MAX = 160
_VERIFICATIONS = {
    **{"effective": ("effect", True), "ineffective": ("effect", False)},
    **{"healed": ("heal", True), "unhealed": ("heal", False)},
}
_by_time = attrgetter("t_ns")


@dataclass(frozen=True)
class Injection:
    """One injection of a fault. Instants are monotonic nanoseconds; None if that never happened."""

    id: str
    name: str
    target: str
    inject_ns: int
    effective_ns: int | None
    heal_ns: int | None
    healed_ns: int | None
    effect_seen: bool  # from outside, when it was looked at last
    heal_verified: bool  # from outside, when it was looked at last
    unhealed_ns: int | None = None  # when the deadline of its heal had passed
    reconnected_ns: int | None = None  # when it was fully removed: replicas started and links open, healthy or not
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def restarted(self) -> bool:
        """A relay ended or restarted in between, which silently undoes every fault."""
        return bool(self.detail.get("restarted"))

    @property
    def verified(self) -> bool:
        """The effect was seen from outside, and no restart undid it."""
        return self.effect_seen and not self.restarted


@dataclass(frozen=True)
class Declared:
    """Declared time of a manual step, beyond what the run waited for it; the wait was over at `at_ns`."""

    at_ns: int
    seconds: float


@dataclass(frozen=True)
class StepTaken:
    """A change to the stack other than a fault. `end_ns` None: its effect was not seen.

    `unseen_ns`: when its effect was last not seen, None if the end is exact. `failed_ns`: when it was known that it will not be
    seen. `detail`: of all its rows.
    """

    id: str
    name: str
    begin_ns: int
    end_ns: int | None
    failed_ns: int | None = None
    unseen_ns: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def declared(self) -> Declared | None:
        """The declared time, if the run did not wait for the whole step."""
        if not (declared_s := self.detail.get("declared_s")):
            return None
        return Declared(self.begin_ns + round(self.detail.get("waited_s", 0.0) * NS_PER_S), declared_s)


class FailedSlot(NamedTuple):
    """A slot without a success, however late. Instants are monotonic nanoseconds."""

    due_ns: int
    end_ns: int
    why: str


class Probed:
    """What the prober recorded of one journey: its slots by due time, its writes, and the errors of its bad slots.

    `failed`: the bad ones without those that were only late.
    """

    def __init__(self, service: str, op: Literal["read", "write"], ids: Ids) -> None:
        self.service, self.op = service, op
        self.slots, self.writes = Slots(), Writes(ids)
        self.later_ns = array("q")  # due times of the good slots that a 202 answered
        self.failed: list[FailedSlot] = []
        self._errors: Counter[str] = Counter()
        self._first_ns: dict[str, int] = {}  # of each error

    def add(self, rows: Sequence[Probe]) -> None:
        """Take some rows, in any order."""
        self.slots.add_rows(rows)
        self.writes.add(rows)
        self.later_ns.fromlist([row.due_ns for row in rows if row.status == QUEUED and row.good])
        for row in [row for row in rows if not row.good]:
            text = row.error or (f"status {row.status}" if row.status else "no answer")
            text = text if len(text) <= _ERROR_CHARACTERS_MAX else f"{text[:_ERROR_CHARACTERS_MAX]}…"
            self._errors[text] += 1
            self._first_ns[text] = min(row.t_ns, self._first_ns.get(text, row.t_ns))
            if row.outcome not in ("acked", "ok"):
                self.failed.append(FailedSlot(row.due_ns, row.end_ns, text))

    def errors(self) -> list[tuple[str, int]]:
        """The errors of bad slots with their counts: the most frequent first, then the earliest."""
        return sorted(self._errors.items(), key=lambda error: (-error[1], self._first_ns[error[0]]))


@dataclass(frozen=True)
class Record:
    """The rows of a run by kind, each in time order, whatever the order they came in.

    `rows`: all but the slots and the reads of ledgers, of which only columns are kept. `refused`: by fault, the detail of one
    that was never injected. `decided`: the row that ended the run early, because what it should show had failed for good.
    """

    rows: Sequence[AnyRow]
    anchor: Anchor | None
    phases: Mapping[tuple[Phase, str], int]
    probes: Mapping[str, Probed]  # by journey
    reads: Mapping[str, list[Reading]]  # by journey
    injections: list[Injection]
    refused: Mapping[str, Mapping[str, Any]]
    starts: list[Start]
    asks: list[Ask]
    steps: list[StepTaken]
    unbegun: Mapping[str, Step]
    conditions: list[Condition]
    answers: list[Answer]
    machine: list[Machine]
    load: list[Load]
    aborts: list[Abort]
    decided: Decided | None
    notes: list[Note]
    ids: Ids
    first_ns: int
    last_ns: int

    @classmethod
    def of(cls, rows: Iterable[AnyRow]) -> Record:
        """Sort the rows in one pass; slots and ledger reads are not kept."""
        sorter = Sorter()
        sorter.take(rows)
        return sorter.record()

    @property
    def first_inject_ns(self) -> int | None:
        return self.injections[0].inject_ns if self.injections else None

    @property
    def cut_ns(self) -> int | None:
        """When something other than the script ended the run: an abort, an interruption, links or a harness that broke.

        None for what came after the observation was over.
        """
        cuts = [*self.aborts, *(note for note in self.notes if note.level in ("error", "interrupted", "blind"))]
        cut_ns = min((row.t_ns for row in cuts), default=None)
        ends_ns = [self.phases.get(("failback", "end")), None if self.decided is None else self.decided.t_ns]
        over_ns = min((end_ns for end_ns in ends_ns if end_ns is not None), default=None)
        return None if cut_ns is None or (over_ns is not None and over_ns < cut_ns) else cut_ns

    @property
    def steady_end_ns(self) -> int:
        """Until when the steady state had to hold: the first injection, or the end of that phase."""
        return _first(self.first_inject_ns, self.phases.get(("steady", "end")), self.last_ns)

    @property
    def observed_end_ns(self) -> int:
        """Until when the prober's slots count: the end of failback, or of a run that did not get there."""
        if self.decided is not None:
            return self.decided.t_ns
        ends = (self.phases.get(("failback", "end")), self.phases.get(("drain", "begin")))
        end_ns = _first(*ends, self.phases.get(("faults", "end")), self.last_ns)
        return end_ns if self.cut_ns is None else min(end_ns, self.cut_ns)

    @property
    def steady_begin_ns(self) -> int:
        """When the load began."""
        return _first(self.phases.get(("steady", "begin")), self.first_ns)


class Sorter:
    """Sorts rows as they come, and keeps only columns of slots and reads."""

    def __init__(self) -> None:
        self.ids = Ids()
        self.others: list[AnyRow] = []
        self.probes: dict[str, Probed] = {}
        self.reads: defaultdict[str, list[Reading]] = defaultdict(list)
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    def record(self) -> Record:
        """The record so far. Its columns are shared with the sorter, and grow with it."""
        others = sorted(self.others, key=_by_time)
        kinds: dict[type, list[Any]] = defaultdict(list)
        for row in others:
            kinds[type(row)].append(row)
        faults: list[Fault] = kinds[Fault]
        injected = {row.id for row in faults if row.event == "inject"}
        phases: dict[tuple[Phase, str], int] = {}
        for row in kinds[PhaseRow]:
            if row.event == "end" or (row.phase, row.event) not in phases:
                phases[row.phase, row.event] = row.t_ns
        begun = {(row.id, row.name) for row in kinds[Step] if row.event == "begin"}
        return Record(
            rows=others,
            anchor=next(iter(kinds[Anchor]), None),
            phases=phases,
            probes=self.probes,
            reads=self.reads,
            injections=_injections(faults),
            refused={row.id: row.detail for row in faults if row.id not in injected},
            starts=kinds[Start],
            asks=kinds[Ask],
            steps=_steps(kinds[Step]),
            unbegun={row.id: row for row in kinds[Step] if (row.id, row.name) not in begun and row.event == "failed"},
            conditions=kinds[Condition],
            answers=kinds[Answer],
            machine=kinds[Machine],
            load=kinds[Load],
            aborts=kinds[Abort],
            decided=next(iter(kinds[Decided]), None),
            notes=kinds[Note],
            ids=self.ids,
            first_ns=self.first_ns or 0,
            last_ns=self.last_ns or 0,
        )

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
                    self.others.append(row)
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


def _steps(rows: list[Step]) -> list[StepTaken]:
    """Each begin with what follows it. A step of the timeline may have the id of a condition that is brought about, too."""
    found = []
    for row in (row for row in rows if row.event == "begin"):
        own = [other for other in rows if (other.id, other.name) == (row.id, row.name) and other.t_ns >= row.t_ns]
        end = next((other for other in own if other.event == "end"), None)
        failed_ns = next((other.t_ns for other in own if other.event == "failed"), None)
        detail = {key: value for other in own if other.event != "undone" for key, value in other.detail.items()}
        end_ns, unseen_ns = (None, None) if end is None else (end.t_ns, end.detail.get("unseen_ns"))
        found.append(StepTaken(row.id, row.name, row.t_ns, end_ns, failed_ns, unseen_ns, detail))
    return found


def _injections(rows: list[Fault]) -> list[Injection]:
    """One for each inject; what follows belongs to it. The instant of an effect may lie just before its first inject."""
    found: list[Injection] = []
    ordered = sorted(rows, key=lambda row: (row.id, row.t_ns, row.event))
    for _, own in groupby(ordered, key=lambda row: row.id):
        of_fault = list(own)
        starts = [number for number, row in enumerate(of_fault) if row.event == "inject"]
        for begin, end in pairwise([0, *starts[1:], len(of_fault)] if starts else []):
            of_one = of_fault[begin:end]
            at = {row.event: row.t_ns for row in reversed(of_one)}  # the first of each
            last = dict(_VERIFICATIONS[row.event] for row in of_one if row.event in _VERIFICATIONS)
            injection = Injection(
                id=of_one[0].id,
                name=of_one[0].name,
                target=of_one[0].target,
                inject_ns=at["inject"],
                effective_ns=at.get("effective"),
                heal_ns=at.get("heal"),
                healed_ns=at.get("healed"),
                effect_seen=last.get("effect", False),
                heal_verified=last.get("heal", False),
                unhealed_ns=max((row.t_ns for row in of_one if row.event == "unhealed"), default=None),
                reconnected_ns=at.get("reconnected"),
                detail={key: value for row in of_one for key, value in row.detail.items()},
            )
            found.append(injection)
    return sorted(found, key=lambda injection: (injection.inject_ns, injection.id))
