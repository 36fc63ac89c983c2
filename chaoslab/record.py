"""A run's rows in the order in which a judge asks for them: phases, faults as intervals, windows to look at. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from chaoslab.events import Abort, Anchor, AnyRow, Condition, Fault, LedgerRead, Load, Note, Phase, PhaseRow, Probe

EndedBy = Literal["inject", "heal", "end", "cut"]


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
class Window:
    """A stretch in which a journey had to come back: from `begin_ns` (called) and `verified_ns` until `end_ns`.

    `verified_ns` is `begin_ns` where the effect was never verified; such a window supports no verdict (`verified`).
    """

    begin_ns: int
    verified_ns: int
    end_ns: int
    ended_by: EndedBy
    verified: bool
    of: str

    def until(self, later: Window) -> Window:
        """Both as one: the clock of the earlier runs on to the end of the later."""
        verified = self.verified and later.verified
        of = f"{self.of} and {later.of}"
        return Window(self.begin_ns, self.verified_ns, later.end_ns, later.ended_by, verified, of)


@dataclass(frozen=True)
class Record:
    """All rows of a run by kind, each kind in time order, whatever the order they came in."""

    anchor: Anchor | None
    phases: Mapping[tuple[Phase, str], int]
    probes: Mapping[str, list[Probe]]  # by journey, by due time
    reads: list[LedgerRead]
    injections: list[Injection]
    refused: Mapping[str, Mapping[str, Any]]  # by fault: what was said of one that was never injected
    conditions: list[Condition]
    load: list[Load]
    aborts: list[Abort]
    notes: list[Note]
    first_ns: int
    last_ns: int

    @classmethod
    def of(cls, rows: Iterable[AnyRow]) -> Record:
        """Sort the rows out in one pass."""
        kinds: dict[type, list[Any]] = defaultdict(list)
        for row in rows:
            kinds[type(row)].append(row)
        times = [row.t_ns for some in kinds.values() for row in some] or [0]
        for kind, some in kinds.items():
            if kind is not Probe:  # those are many, and sorted by due time below
                some.sort(key=_by_time)
        return cls(
            anchor=next(iter(kinds[Anchor]), None),
            phases=_phases(kinds[PhaseRow]),
            probes=_by_journey(kinds[Probe]),
            reads=kinds[LedgerRead],
            injections=_injections(kinds[Fault]),
            refused=_refused(kinds[Fault]),
            conditions=kinds[Condition],
            load=kinds[Load],
            aborts=kinds[Abort],
            notes=kinds[Note],
            first_ns=min(times),
            last_ns=max(times),
        )

    @property
    def first_inject_ns(self) -> int | None:
        return self.injections[0].inject_ns if self.injections else None

    @property
    def cut_ns(self) -> int | None:
        """When something other than the script ended the run: an abort, an interruption, links or a harness that broke."""
        cuts = [*self.aborts, *(note for note in self.notes if note.level in ("error", "interrupted", "blind"))]
        return min((row.t_ns for row in cuts), default=None)

    @property
    def steady_end_ns(self) -> int:
        """Until when the steady state had to hold: the first injection, or the end of that phase."""
        return _first(self.first_inject_ns, self.phases.get(("steady", "end")), self.last_ns)

    @property
    def faults_end_ns(self) -> int:
        return _first(self.phases.get(("faults", "end")), self.phases.get(("failback", "begin")), self.last_ns)

    @property
    def observed_end_ns(self) -> int:
        """Until when the prober's slots count: the end of failback, or of what there was of the run."""
        ends = (self.phases.get(("failback", "end")), self.phases.get(("drain", "begin")), self.cut_ns)
        return _first(*ends, self.phases.get(("faults", "end")), self.last_ns)

    def fault_windows(self) -> list[Window]:
        """From each injection to the next injection or heal of any fault, or the end of the faults."""
        marks: list[tuple[int, EndedBy]] = [(each.inject_ns, "inject") for each in self.injections]
        marks += [(each.heal_ns, "heal") for each in self.injections if each.heal_ns is not None]
        marks.append((self.faults_end_ns, "end"))
        return [
            self._window(each.inject_ns, each.effective_ns, marks, each.verified, each.id, skip=number)
            for number, each in enumerate(self.injections)
        ]

    def failback_windows(self) -> list[Window]:
        """From each heal that leaves no fault open to the next injection, or the end of failback."""
        if ("failback", "begin") not in self.phases:
            return []
        marks: list[tuple[int, EndedBy]] = [(each.inject_ns, "inject") for each in self.injections]
        marks.append((self.observed_end_ns, "end"))
        return [
            self._window(each.heal_ns, each.healed_ns, marks, each.heal_verified, each.id)
            for each in self.injections
            if each.heal_ns is not None and not self._open_at(each.heal_ns, besides=each)
        ]

    def _window(
        self, begin_ns: int, verified_ns: int | None, marks: list[tuple[int, EndedBy]], verified: bool, of: str, skip: int = -1
    ) -> Window:
        # Injections are the first marks, in order: an injection does not end its own window, nor that of a twin before it.
        later = [mark for number, mark in enumerate(marks) if mark[0] >= begin_ns and number > skip]
        end_ns, ended_by = min(later, default=(self.last_ns, "end"))
        if self.cut_ns is not None and self.cut_ns < end_ns:
            end_ns, ended_by = max(begin_ns, self.cut_ns), "cut"
        return Window(begin_ns, max(begin_ns, verified_ns or begin_ns), end_ns, ended_by, verified, of)

    def _open_at(self, at_ns: int, *, besides: Injection) -> bool:
        """Whether another fault was injected and its heal not yet called at this instant."""
        others = (each for each in self.injections if each is not besides)
        return any(each.inject_ns <= at_ns and (each.heal_ns is None or each.heal_ns > at_ns) for each in others)


def _by_time(row: AnyRow) -> int:
    return row.t_ns


def _due(slot: Probe) -> int:
    return slot.due_ns


def _first(*instants: int | None) -> int:
    return next(instant for instant in instants if instant is not None)


def _phases(rows: list[PhaseRow]) -> dict[tuple[Phase, str], int]:
    """First begin and last end of each phase."""
    found: dict[tuple[Phase, str], int] = {}
    for row in rows:
        if row.event == "end" or (row.phase, row.event) not in found:
            found[row.phase, row.event] = row.t_ns
    return found


def _by_journey(slots: list[Probe]) -> dict[str, list[Probe]]:
    journeys: dict[str, list[Probe]] = defaultdict(list)
    for slot in slots:
        journeys[slot.journey].append(slot)
    for own in journeys.values():
        own.sort(key=_due)
    return dict(journeys)


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
