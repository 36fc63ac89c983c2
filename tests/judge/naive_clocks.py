"""A second reading of measurement.md, section 2, written apart from the judge: slow, plain, with nothing of this project in it.

It takes events, slots and objectives, and says which clocks ran, what each came to, and what became of RTO and failback.
Instants are whole nanoseconds. Where the text leaves a choice, this is the one taken, behind the words it follows from:

1.  "Those scripted for one instant are one event": injects with injects and heals with heals, by what the script says; an
    inject and a heal of one instant stay two events. The event is called with its first call, and verified with the last
    verification of its members. A fault burns from the first call of its inject's event to the first call of its heal's.
2.  "Its cause is the last event before it": of an event with several faults all are the cause and all are noticed; the
    tightest of what is promised under each holds. "Its cause's own heal" is the one after which none of them burns.
3.  "A fault that acts in cycles": each cycle (`f1#3`) is an event and a cause of its own; what is promised, and whether the
    fault was noticed, goes by `f1`. Noticed when a cycle was, else unnoticed when a cycle was, else masked.
4.  "Neither answered nor late yet": late when due + within is before the event. A bad slot moves to the last event at which
    it was in flight. The end of the look, or the cut, is such an instant too: what is in flight there is not judged.
5.  "One bad slot alone (K good before and after) is a flap ... and no clock": it is treated as if the slot were good.
    Events between these slots make no difference; in the length of a run it counts as a good one.
6.  "Holds to the next event": between the first good slot of the run and the first bad slot after it there is an event, or
    there is no such bad slot. The K slots are counted across events. The clock ran until the end of that first good slot.
7.  "Recovery between that heal's call and 5 s after its verification": the instant of recovery is the end of the first good
    slot. The heal is one that came while the clock ran. A heal that was never verified leaves this open for ever.
8.  "A good run that begins before a heal and is stable only after it: inconclusive": the clock ended by recovery, also where
    the heal was its cause's own; it is a fail only where the lower bound says so.
9.  "When the objective's time had passed by then": when the lower bound says so. What was seen last is sure, and the instant
    of the event or of the end is not.
10. "That heal starts the next clock", "starts its own": with the next bad slot. Without one there is no clock.
11. A cause that was never verified supports no verdict, whatever its figures; nor does a fault, whether noticed or not.
12. "No bad slot after a heal: failback met, 0 s": asked of each heal that leaves nothing burning, up to the next event, and
    only where its verification and a slot were seen. Where a clock of an earlier cause runs on over that heal, its failback
    is inconclusive.
13. "A share p of bad slots": of all ends of the outage that hold ten bad slots or more, the thinnest; without what went before
    a return. A return is a good run that is stable and twice as long as luck would allow on both sides. Where luck is longer
    than the good run (up to the next bad slot or the next heal) there is no upper bound.
14. "A run that was cut": its clocks keep their verdicts; the objectives are a fail where a clock is, and else inconclusive.
15. "Masked": by an RTO clock of any journey of the service, since a fault is "asked of the service, any journey".
16. "Served time": bad slots due in a starved second are left out, and the starved time is taken off what remains. It can turn
    a fail into inconclusive and nothing else. Whether a fault was noticed by nothing but such slots is unclear: no pass for
    the claim that it goes unnoticed, and no fail.
17. "A step is an event like an inject": it ends a failback clock as one does. What it causes is held against what the service
    owes whatever the fault: the RTO while any burns, else the failback.
18. "`service.restart` is one inject; its end is its own": its heal is no event and ends its burning all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

S = 1_000_000_000
SHAKY = 5 * S  # after the verification of another fault's heal
LUCK = 0.01
TAIL = 10

Span = tuple[int, int]


@dataclass(frozen=True)
class Fault:
    """One inject with its heal. `*_script`: what the script says of when; equal ones are one event. None: nothing."""

    id: str
    inject: int
    effective: int | None
    heal: int | None = None
    healed: int | None = None
    inject_script: int | None = None
    heal_script: int | None = None
    own_end: bool = False  # nobody heals it


@dataclass(frozen=True)
class Step:
    """Something that the harness did to the stack."""

    id: str
    at: int


@dataclass(frozen=True)
class Slot:
    due: int
    end: int
    good: bool


@dataclass(frozen=True)
class Journey:
    name: str
    service: str
    period: int
    within: int
    slots: Sequence[Slot]


@dataclass(frozen=True)
class Owed:
    """What a service owes. `unaffected`: False, True or "allowed"."""

    rto: float | None = None
    failback: float | None = None
    unaffected: bool | str = False


@dataclass(frozen=True)
class Service:
    """`under`: by fault, the fields of `Owed` that it refines."""

    name: str
    owed: Owed
    under: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    faults: Sequence[Fault]
    journeys: Sequence[Journey]
    services: Sequence[Service]
    end: int
    cut: int | None = None
    starved: Sequence[Span] = ()
    steps: Sequence[Step] = ()


@dataclass
class Clock:
    """`cause`: the faults of the event that it counts from, joined by +.

    `verdict`: pass, fail, inconclusive, or unjudged where nothing was promised.
    """

    journey: str
    cause: str
    event: str
    kind: str
    low: float = 0.0
    high: float | None = None
    end: str = ""
    masked: list[str] = field(default_factory=list)
    verdict: str = ""


@dataclass(frozen=True)
class Findings:
    """`faults`: by service and fault, noticed, unclear, unnoticed or masked. `objectives`: by id, the verdict."""

    clocks: list[Clock]
    faults: dict[str, dict[str, str]]
    objectives: dict[str, str]


@dataclass(frozen=True)
class _Event:
    kind: str  # inject, heal, step
    members: tuple[Fault, ...]  # in the order of their calls; of a step, something of its name
    at: int
    verified: int | None

    @property
    def since(self) -> int:
        return self.at if self.verified is None else max(self.at, self.verified)


class _Seen(NamedTuple):
    """A slot where it counts."""

    at: int
    due: int
    good: bool
    end: int


@dataclass
class _Running:
    """A clock at work: what it has seen so far."""

    clock: Clock
    cause: _Event
    bad: list[int]  # numbers of its bad slots among the journey's
    masks: list[Fault] = field(default_factory=list)
    heals: list[_Event] = field(default_factory=list)  # of other faults
    recovered: bool = False
    shaky: bool = False  # the recovery may have come from a heal


@dataclass(frozen=True)
class _Line:
    """One journey as it is judged."""

    journey: Journey
    seen: list[_Seen]
    done: list[_Running]


def find(facts: Facts) -> Findings:
    """All clocks of a run and what its RTO and failback objectives come to."""
    end = facts.end if facts.cut is None else min(facts.end, facts.cut)
    events = [event for event in _events(facts.faults, facts.steps) if event.at < end]
    lines = [_run_clocks(journey, events, end, facts) for journey in facts.journeys]
    statuses: dict[str, dict[str, str]] = {}
    objectives: dict[str, str] = {}
    for service in facts.services:
        own = [line for line in lines if line.journey.service == service.name]
        statuses[service.name] = _statuses(own, events, facts.starved)
        for line in own:
            for run in line.done:
                _judge_clock(run, line, service, facts)
                run.clock.masked = _masked_names(run, statuses[service.name])
        objectives |= _objectives(service, own, events, statuses[service.name], facts)
    return Findings([run.clock for line in lines for run in line.done], statuses, objectives)


def base(fault_id: str) -> str:
    """The fault of a cycle."""
    return fault_id.partition("#")[0]


def owed_under(service: Service, fault_id: str) -> Owed:
    """What the service owes under one fault."""
    return replace(service.owed, **service.under.get(base(fault_id), {}))


# --- events -----------------------------------------------------------------------------------------------------


def _events(faults: Sequence[Fault], steps: Sequence[Step]) -> list[_Event]:
    found = [_Event("step", (Fault(step.id, step.at, step.at),), step.at, step.at) for step in steps]
    for kind in ("inject", "heal"):
        groups: list[list[Fault]] = []
        for fault in sorted(faults, key=lambda one: (_called(one, kind), one.id)):
            if kind == "heal" and (fault.heal is None or fault.own_end):
                continue
            same = [
                group
                for group in groups
                if _script(fault, kind) is not None and _script(group[0], kind) == _script(fault, kind)
            ]
            if same:
                same[0].append(fault)
            else:
                groups.append([fault])
        found += [_event(kind, group) for group in groups]
    order = ("heal", "step", "inject")  # at one instant, healing goes first
    return sorted(found, key=lambda event: (event.at, order.index(event.kind), event.members[0].id))


def _event(kind: str, group: list[Fault]) -> _Event:
    verified = [fault.effective if kind == "inject" else fault.healed for fault in group]
    known = [instant for instant in verified if instant is not None]
    return _Event(kind, tuple(group), _called(group[0], kind), max(known) if len(known) == len(group) else None)


def _called(fault: Fault, kind: str) -> int:
    return fault.inject if kind == "inject" else (-1 if fault.heal is None else fault.heal)


def _script(fault: Fault, kind: str) -> int | None:
    return fault.inject_script if kind == "inject" else fault.heal_script


def _burning_at(facts: Facts, events: Sequence[_Event], at: int) -> list[Fault]:
    """The faults (cycles) that burn at an instant; an event of this very instant has come."""
    return [fault for fault in facts.faults if _begin(fault, events) <= at and not _is_over(fault, events, at)]


def _begin(fault: Fault, events: Sequence[_Event]) -> int:
    return min((event.at for event in events if event.kind == "inject" and fault in event.members), default=fault.inject)


def _is_over(fault: Fault, events: Sequence[_Event], at: int) -> bool:
    if fault.own_end:
        return fault.heal is not None and fault.heal <= at
    return any(event.kind == "heal" and fault in event.members and event.at <= at for event in events)


# --- slots ------------------------------------------------------------------------------------------------------


def _seen(journey: Journey, events: Sequence[_Event], end: int) -> list[_Seen]:
    """The slots that count, each where it counts; a flap is as good."""
    placed: list[_Seen] = []
    instants = [*(event.at for event in events), end]
    for slot in sorted(journey.slots, key=lambda one: one.due):
        in_flight = [at for at in instants if slot.due < at < slot.end and slot.due + journey.within >= at]
        at = max(in_flight, default=slot.due)
        if at < end and not (slot.good and in_flight):
            placed.append(_Seen(at, slot.due, slot.good, slot.end))
    placed.sort(key=lambda one: (one.at, one.due))
    stable = stable_slots(journey.period)
    flaps = [number for number, one in enumerate(placed) if not one.good and _is_flap(placed, number, stable)]
    for number in flaps:
        placed[number] = placed[number]._replace(good=True)
    return placed


def _is_flap(placed: list[_Seen], number: int, stable: int) -> bool:
    before, after = placed[max(0, number - stable) : number], placed[number + 1 : number + 1 + stable]
    return len(before) == len(after) == stable and all(one.good for one in [*before, *after])


def stable_slots(period: int) -> int:
    return max(25, math.ceil(0.5 * S / period))


# --- clocks -----------------------------------------------------------------------------------------------------


def _run_clocks(journey: Journey, events: list[_Event], end: int, facts: Facts) -> _Line:
    """Walk through events and slots in the order of time."""
    seen = _seen(journey, events, end)
    line = _Line(journey, seen, [])
    run: _Running | None = None
    came: list[_Event] = []
    for number in range(len(seen) + 1):
        now = seen[number].at if number < len(seen) else end
        while len(came) < len(events) and events[len(came)].at <= now:
            event = events[len(came)]
            came.append(event)
            if run is not None:
                run = _meet(run, event, facts, events)
        if number == len(seen):
            break
        if not seen[number].good and run is None and came:
            run = _start(journey, came[-1], _burning_at(facts, events, seen[number].at))
            line.done.append(run)
        if not seen[number].good and run is not None:
            run.bad.append(number)
        if seen[number].good and run is not None and _is_recovery(line, number, events):
            _recover(run, line, number, events)
            run = None
    if run is not None:
        run.clock.end = "cut" if facts.cut == end else "end"
    return line


def _start(journey: Journey, cause: _Event, burning: list[Fault]) -> _Running:
    name = "+".join(fault.id for fault in cause.members)
    return _Running(Clock(journey.name, name, cause.kind, "rto" if burning else "failback"), cause, [])


def _meet(run: _Running, event: _Event, facts: Facts, events: list[_Event]) -> _Running | None:
    """What an event does to a clock that runs; None when it ends it."""
    if event.kind != "heal" and run.clock.kind == "failback":
        run.clock.end = "inject"
        return None
    if event.kind == "inject":
        run.masks += event.members
        return run
    if event.kind == "step":
        return run
    caused = run.cause.members if run.cause.kind == "inject" else ()
    burning = _burning_at(facts, events, event.at)
    if any(fault in caused for fault in event.members) and not any(fault in caused for fault in burning):
        run.clock.end = "heal"
        return None
    run.heals.append(event)
    return run


def _is_recovery(line: _Line, first: int, events: list[_Event]) -> bool:
    """Whether the good run that begins with this slot is stable and holds to the next event."""
    if first > 0 and line.seen[first - 1].good:
        return False
    length = _good_run(line.seen, first)
    if length < stable_slots(line.journey.period):
        return False
    relapse = first + length
    return relapse == len(line.seen) or any(line.seen[first].at < event.at <= line.seen[relapse].at for event in events)


def _good_run(seen: list[_Seen], first: int) -> int:
    length = 0
    while first + length < len(seen) and seen[first + length].good:
        length += 1
    return length


def _recover(run: _Running, line: _Line, first: int, events: list[_Event]) -> None:
    slot, stable = line.seen[first], line.seen[first + stable_slots(line.journey.period) - 1]
    run.clock.end, run.recovered = "recovered", True
    run.shaky = any(event.kind == "heal" and slot.at < event.at <= stable.at for event in events)
    run.shaky |= any(heal.verified is None or slot.end <= heal.verified + SHAKY for heal in run.heals)
    luck = _luck(run.bad, stable_slots(line.journey.period))
    if luck <= _told_by(line.seen, first, events):
        run.clock.high = (slot.end + luck * line.journey.period - run.cause.at) / S


def _told_by(seen: list[_Seen], first: int, events: list[_Event]) -> int:
    """How many good slots tell that it was back: up to the next heal, which may have brought the rest, or the next bad one."""
    heal = min((event.at for event in events if event.kind == "heal" and event.at > seen[first].at), default=math.inf)
    return sum(slot.at < heal for slot in seen[first : first + _good_run(seen, first)])


def _luck(bad: list[int], stable: int) -> int:
    """Good slots in a row that come by luck, by how thin the outage is towards its end."""
    last_return = 0
    for number in range(1, len(bad) - TAIL + 1):
        run = bad[number] - bad[number - 1] - 1
        thinnest = min(_share(bad[:number]), _share(bad[number:]))
        if run >= stable and run >= 2 * _lucky(thinnest):
            last_return = number
    rest = bad[last_return:]
    return _lucky(min(_share(rest[begin:]) for begin in range(max(1, len(rest) - TAIL + 1))))


def _share(bad: list[int]) -> float:
    return len(bad) / (bad[-1] - bad[0] + 1)


def _lucky(share: float) -> int:
    return 0 if share >= 1 else math.ceil(math.log(LUCK) / math.log1p(-share) - 1e-9)


# --- verdicts ---------------------------------------------------------------------------------------------------


def _judge_clock(run: _Running, line: _Line, service: Service, facts: Facts) -> None:
    clock, since = run.clock, run.cause.since
    last_bad = line.seen[run.bad[-1]].at
    clock.low = max(0, last_bad - since) / S
    limit = _limit(run, service)
    if limit is None:
        clock.verdict = "unjudged"
    elif run.cause.verified is None:
        clock.verdict = "inconclusive"
    elif clock.low > limit:
        clock.verdict = "fail" if _served_low(run, line, facts.starved) / S > limit else "inconclusive"
    elif not run.recovered or run.shaky or clock.high is None or clock.high > limit:
        clock.verdict = "inconclusive"
    else:
        clock.verdict = "pass"


def _limit(run: _Running, service: Service) -> float | None:
    """The tightest that is promised under any fault of the cause."""
    step = run.cause.kind == "step"
    owed = [service.owed if step else owed_under(service, fault.id) for fault in run.cause.members]
    limits = [one.rto if run.clock.kind == "rto" else one.failback for one in owed]
    return min((limit for limit in limits if limit is not None), default=None)


def _served_low(run: _Running, line: _Line, starved: Sequence[Span]) -> int:
    served = [line.seen[number].at for number in run.bad if not _is_starved(line.seen[number].at, starved)]
    return _served(run.cause.since, served[-1], starved) if served else 0


def _is_starved(at: int, starved: Sequence[Span]) -> bool:
    return any(begin <= at < end for begin, end in starved)


def _served(begin: int, end: int, starved: Sequence[Span]) -> int:
    """What is left of begin..end without the starved spans, which may overlap."""
    left = [(begin, end)] if begin < end else []
    for first, last in starved:
        left = [piece for a, b in left for piece in ((a, min(b, first)), (max(a, last), b)) if piece[0] < piece[1]]
    return sum(b - a for a, b in left)


def _statuses(own: list[_Line], events: list[_Event], starved: Sequence[Span]) -> dict[str, str]:
    """By fault: what became of it, the strongest of its cycles'."""
    found: dict[str, set[str]] = {}
    for event in events:
        if event.kind == "inject":
            for fault in event.members:
                found.setdefault(base(fault.id), set()).add(_status(event, fault, own, starved))
    ranks = ("noticed", "unclear", "unnoticed", "masked")
    return {name: next(rank for rank in ranks if rank in all_) for name, all_ in found.items()}


def _status(event: _Event, fault: Fault, own: list[_Line], starved: Sequence[Span]) -> str:
    noticed = [line.seen[number] for line in own for run in line.done if run.cause is event for number in run.bad]
    if noticed:
        return "unclear" if all(_is_starved(slot.at, starved) for slot in noticed) else "noticed"
    return "masked" if any(fault in run.masks for line in own for run in line.done) else "unnoticed"


def _masked_names(run: _Running, statuses: dict[str, str]) -> list[str]:
    if run.clock.kind != "rto":
        return []
    names = dict.fromkeys(base(fault.id) for fault in run.masks)
    return [name for name in names if statuses[name] == "masked"]


def _objectives(
    service: Service, own: list[_Line], events: list[_Event], statuses: dict[str, str], facts: Facts
) -> dict[str, str]:
    runs = [run for line in own for run in line.done]
    all_owed = [service.owed, *(owed_under(service, name) for name in service.under)]
    found = {}
    if any(owed.rto is not None or owed.unaffected for owed in all_owed):
        said = [run.clock.verdict for run in runs if run.clock.kind == "rto"]
        said += [_fault_verdict(name, status, service, facts) for name, status in statuses.items()]
        found[f"{service.name}.rto"] = _together(said, facts)
    if any(owed.failback is not None for owed in all_owed):
        said = [run.clock.verdict for run in runs if run.clock.kind == "failback"]
        said += [_quiet_heal(event, service, own, events, facts) for event in events if event.kind == "heal"]
        found[f"{service.name}.failback"] = _together(said, facts)
    return found


def _together(said: list[str], facts: Facts) -> str:
    """The worst; inconclusive where nothing was judged; and of a cut run nothing but a fail."""
    judged = [one for one in said if one != "unjudged"]
    if "fail" in judged:
        return "fail"
    if not judged or "inconclusive" in judged or facts.cut is not None:
        return "inconclusive"
    return "pass"


def _fault_verdict(name: str, status: str, service: Service, facts: Facts) -> str:
    """What a fault itself says of the RTO objective, beside the clocks."""
    owed = owed_under(service, name)
    if status == "masked" or (owed.rto is None and not owed.unaffected):
        return "unjudged"
    if any(fault.effective is None for fault in facts.faults if base(fault.id) == name):
        return "inconclusive"
    if status == "noticed" and owed.unaffected is True:
        return "fail" if facts.cut is None else "inconclusive"
    if status == "noticed":
        return "pass" if owed.unaffected else "unjudged"
    return "pass" if owed.unaffected == "allowed" or (owed.unaffected and status == "unnoticed") else "inconclusive"


def _quiet_heal(event: _Event, service: Service, own: list[_Line], events: list[_Event], facts: Facts) -> str:
    """The failback after a heal, beside the clock that it may have caused."""
    promised = [owed_under(service, fault.id).failback for fault in event.members]
    if _burning_at(facts, events, event.at) or not any(limit is not None for limit in promised):
        return "unjudged"
    until = min((later.at for later in events if later.at > event.at), default=math.inf)
    for line in own:
        seen = [slot for slot in line.seen if event.at <= slot.at < until]
        if any(event in run.heals for run in line.done) or event.verified is None or not seen:
            return "inconclusive"
    return "pass"
