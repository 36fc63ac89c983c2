"""A second reading of judge/README.md, Clocks, written apart from the judge: slow, plain, with nothing of this project in it.

It takes events, slots and objectives, and says which clocks ran, what each came to, and what became of RTO and failback.
Instants are whole nanoseconds. Where the text leaves a choice, this is the one taken, behind the words it follows from:

1.  "What the timeline schedules for one instant is one event": injects with injects and heals with heals, by what the script
    says; an inject and a heal of one instant stay two events. The event is called with its first call, and verified with the
    last verification of its members. A fault is active from the first call of its inject's event to the first call of its
    heal's.
2.  "Its cause is the last event before that slot": of an event with several faults all are the cause and all are noticed; the
    tightest objective under each holds. "The heal after which no fault of the cause is active" is the cause's own heal.
3.  "A fault that acts in cycles": each cycle (`f1#3`) is an event and a cause of its own; objectives are given, and notice is
    taken, by `f1`. Noticed when a cycle was, else unnoticed when a cycle was, else masked.
4.  "In flight at an event (not answered yet, and not late)": late when due + within is before the event. A bad slot moves to
    the last event at which it was in flight. The end of the observation, or the cut, is such an instant too: what is in flight
    there is not judged.
5.  "One bad slot with a stable run before it and after it starts no clock": it is treated as if the slot were good. Events
    between these slots make no difference; in the length of a run it counts as a good one.
6.  "Lasts to the next event": between the first good slot of the run and the first bad slot after it there is an event, or
    there is no such bad slot. The slots of a stable run are counted across events. The clock ran until the end of that first
    good slot.
7.  "A recovery from that call to 5 s after the verification of the heal": the instant of recovery is the end of the first good
    slot. The heal is one that came while the clock ran. A heal that was never verified leaves this open for ever.
8.  "A heal during the run of good slots, before that run is stable": the clock ended by recovery, also where the heal was its
    cause's own; it is a fail only where the lower bound says so.
9.  "A fail when low exceeds the objective": the lower bound decides. What was seen last is sure, and the instant of the event
    or of the end is not.
10. "Bad slots after the heal start the next clock": with the next bad slot. Without one there is no clock.
11. A cause that was never verified supports no verdict, whatever its numbers; nor does a fault, whether noticed or not.
12. "Failback after a heal without bad slots is 0 s": asked of each heal that leaves nothing active, up to the next event, and
    only where its verification and a slot were seen. Where a clock of an earlier cause runs on over that heal, its failback is
    inconclusive.
13. "Where only a share p of the slots was bad": of all ends of the outage that hold ten bad slots or more, the lowest; without
    what went before a return. A return is a good run that is stable and twice as long as chance would allow on both sides.
    Where chance is longer than the good run (up to the next bad slot or the next heal) there is no upper bound.
14. "A run that was cut": its clocks keep their verdicts; the objectives are a fail where a clock is, and else inconclusive.
15. "Masked": by an RTO clock of any journey of the service, as a fault is noticed by any journey.
16. "Excused seconds stop the clock": bad slots due in a starved second are left out, and the starved time is taken off what
    remains. It can turn a fail into inconclusive and nothing else. Whether a fault was noticed by nothing but such slots is
    unclear: no pass for the claim that it goes unnoticed, and no fail.
17. "An event is an inject, a heal or a step": a step ends a failback clock as one does. What it causes is held against the
    objectives that the service has whatever the fault: the RTO while any is active, else the failback.
18. "That end is no event": its heal is no event, and the fault is not active any more all the same.
19. "Its bad slots start no clock" (`allowed`, while a fault is active): where a bad slot counts decides, and not when it was
    due; a heal that leaves nothing active has come at its own instant. Such a slot is as good, also beside a flap.
20. "Degraded": unnoticed as the journeys are judged, and noticed had each of them been required.
21. "One whose cause is the heal": what was due before the heal is not looked at, but still tells whether a bad slot stands
    alone. Whether any fault is active, and so what an inject does to this clock, is as for the others.
22. "Where the heal was verified": without a bad slot. With one, the instant at which nothing was left stands for it, where each
    of several faults has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

S = 1_000_000_000
SHAKY = 5 * S  # after the verification of another fault's heal
CHANCE = 0.01
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
    connected: int | None = None  # when nothing of it was left


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
    may_fail: bool = False  # while a fault is active


@dataclass(frozen=True)
class Objectives:
    """The objectives of a service. `unaffected`: False, True or "allowed"."""

    rto: float | None = None
    failback: float | None = None
    unaffected: bool | str = False
    restored: float | None = None


@dataclass(frozen=True)
class Service:
    """`under`: by fault, the fields of `Objectives` that it refines."""

    name: str
    objectives: Objectives
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

    `verdict`: pass, fail, inconclusive, or unjudged without an objective.
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
    lines = [_run_clocks(journey, events, events, end, facts) for journey in facts.journeys]
    strict = [_run_clocks(replace(journey, may_fail=False), events, events, end, facts) for journey in facts.journeys]
    statuses: dict[str, dict[str, str]] = {}
    objectives: dict[str, str] = {}
    for service in facts.services:
        own = [line for line in lines if line.journey.service == service.name]
        statuses[service.name] = _statuses(own, events, facts.starved)
        required = _statuses([line for line in strict if line.journey.service == service.name], events, facts.starved)
        for fault, status in statuses[service.name].items():
            if (status, required[fault]) == ("unnoticed", "noticed"):
                statuses[service.name][fault] = "degraded"
        for line in own:
            for run in line.done:
                _judge_clock(run, line, service, facts)
                run.clock.masked = _masked_names(run, statuses[service.name])
        objectives |= _objectives(service, own, events, statuses[service.name], facts)
        objectives |= _restored(service, own, events, end, facts)
    return Findings([run.clock for line in lines for run in line.done], statuses, objectives)


def base(fault_id: str) -> str:
    """The fault of a cycle."""
    return fault_id.partition("#")[0]


def objectives_under(service: Service, fault_id: str) -> Objectives:
    """The objectives of a service under one fault."""
    return replace(service.objectives, **service.under.get(base(fault_id), {}))


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


def _active_at(facts: Facts, events: Sequence[_Event], at: int) -> list[Fault]:
    """The faults (cycles) that are active at an instant; an event of this very instant has come."""
    return [fault for fault in facts.faults if _begin(fault, events) <= at and not _is_over(fault, events, at)]


def _begin(fault: Fault, events: Sequence[_Event]) -> int:
    return min((event.at for event in events if event.kind == "inject" and fault in event.members), default=fault.inject)


def _is_over(fault: Fault, events: Sequence[_Event], at: int) -> bool:
    if fault.own_end:
        return fault.heal is not None and fault.heal <= at
    return any(event.kind == "heal" and fault in event.members and event.at <= at for event in events)


# --- slots ------------------------------------------------------------------------------------------------------


def _seen(journey: Journey, events: Sequence[_Event], end: int, facts: Facts) -> list[_Seen]:
    """The slots that count, each where it counts; a flap is as good."""
    placed: list[_Seen] = []
    instants = [*(event.at for event in events), end]
    for slot in sorted(journey.slots, key=lambda one: one.due):
        in_flight = [at for at in instants if slot.due < at < slot.end and slot.due + journey.within >= at]
        at = max(in_flight, default=slot.due)
        if at < end and not (slot.good and in_flight):
            placed.append(_Seen(at, slot.due, slot.good, slot.end))
    placed.sort(key=lambda one: (one.at, one.due))
    if journey.may_fail:
        placed = [one._replace(good=one.good or bool(_active_at(facts, events, one.at))) for one in placed]
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


def _run_clocks(journey: Journey, walked: list[_Event], events: list[_Event], end: int, facts: Facts) -> _Line:
    """Walk through events and slots in the order of time. `walked`: the events that clocks meet; `events`: all."""
    seen = _seen(journey, events, end, facts)
    line = _Line(journey, seen, [])
    run: _Running | None = None
    came: list[_Event] = []
    for number in range(len(seen) + 1):
        now = seen[number].at if number < len(seen) else end
        while len(came) < len(walked) and walked[len(came)].at <= now:
            event = walked[len(came)]
            came.append(event)
            if run is not None:
                run = _meet(run, event, facts, events)
        if number == len(seen):
            break
        if not seen[number].good and run is None and came:
            run = _start(journey, came[-1], _active_at(facts, events, seen[number].at))
            line.done.append(run)
        if not seen[number].good and run is not None:
            run.bad.append(number)
        if seen[number].good and run is not None and _is_recovery(line, number, walked):
            _recover(run, line, number, walked)
            run = None
    if run is not None:
        run.clock.end = "cut" if facts.cut == end else "end"
    return line


def _start(journey: Journey, cause: _Event, active: list[Fault]) -> _Running:
    name = "+".join(fault.id for fault in cause.members)
    return _Running(Clock(journey.name, name, cause.kind, "rto" if active else "failback"), cause, [])


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
    active = _active_at(facts, events, event.at)
    if any(fault in caused for fault in event.members) and not any(fault in caused for fault in active):
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
    chance = _widening(run.bad, stable_slots(line.journey.period))
    if chance <= _good_after(line.seen, first, events):
        run.clock.high = (slot.end + chance * line.journey.period - run.cause.at) / S


def _good_after(seen: list[_Seen], first: int, events: list[_Event]) -> int:
    """How many good slots tell that it was back: up to the next heal, which may have brought the rest, or the next bad one."""
    heal = min((event.at for event in events if event.kind == "heal" and event.at > seen[first].at), default=math.inf)
    return sum(slot.at < heal for slot in seen[first : first + _good_run(seen, first)])


def _widening(bad: list[int], stable: int) -> int:
    """Good slots in a row that come by chance, by the share of bad slots towards the end of the outage."""
    last_return = 0
    for number in range(1, len(bad) - TAIL + 1):
        run = bad[number] - bad[number - 1] - 1
        lowest = min(_share(bad[:number]), _share(bad[number:]))
        if run >= stable and run >= 2 * _by_chance(lowest):
            last_return = number
    rest = bad[last_return:]
    return _by_chance(min(_share(rest[begin:]) for begin in range(max(1, len(rest) - TAIL + 1))))


def _share(bad: list[int]) -> float:
    return len(bad) / (bad[-1] - bad[0] + 1)


def _by_chance(share: float) -> int:
    return 0 if share >= 1 else math.ceil(math.log(CHANCE) / math.log1p(-share) - 1e-9)


# --- verdicts ---------------------------------------------------------------------------------------------------


def _judge_clock(run: _Running, line: _Line, service: Service, facts: Facts) -> None:
    _judge(run, line, _limit(run, service), facts)


def _judge(run: _Running, line: _Line, limit: float | None, facts: Facts) -> None:
    clock, since = run.clock, run.cause.since
    last_bad = line.seen[run.bad[-1]].at
    clock.low = max(0, last_bad - since) / S
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
    """The tightest objective under any fault of the cause."""
    step = run.cause.kind == "step"
    wanted = [service.objectives if step else objectives_under(service, fault.id) for fault in run.cause.members]
    return _least([one.rto if run.clock.kind == "rto" else one.failback for one in wanted])


def _least(limits: Sequence[float | None]) -> float | None:
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
    layers = [service.objectives, *(objectives_under(service, name) for name in service.under)]
    found = {}
    if any(wanted.rto is not None or wanted.unaffected for wanted in layers):
        outcomes = [run.clock.verdict for run in runs if run.clock.kind == "rto"]
        outcomes += [_fault_verdict(name, status, service, facts) for name, status in statuses.items()]
        found[f"{service.name}.rto"] = _together(outcomes, facts)
    if any(wanted.failback is not None for wanted in layers):
        outcomes = [run.clock.verdict for run in runs if run.clock.kind == "failback"]
        outcomes += [_quiet_heal(event, service, own, events, facts) for event in events if event.kind == "heal"]
        found[f"{service.name}.failback"] = _together(outcomes, facts)
    return found


def _restored(service: Service, own: list[_Line], events: list[_Event], end: int, facts: Facts) -> dict[str, str]:
    """From each heal until the service worked, whatever else was active."""
    names = [None, *service.under]
    if all((service.objectives if name is None else objectives_under(service, name)).restored is None for name in names):
        return {}
    outcomes = []
    for number, event in enumerate(events):
        limit = _least([objectives_under(service, fault.id).restored for fault in event.members])
        if event.kind != "heal" or limit is None:
            continue
        connected = [fault.connected for fault in event.members if fault.connected is not None]
        cause = replace(event, verified=max(connected)) if len(connected) == len(event.members) else event
        until = min((later.at for later in events if later.at > event.at), default=end)
        own_outcomes = []
        for line in own:
            walked = _run_clocks(line.journey, [cause, *events[number + 1 :]], events, end, facts)
            for run in walked.done:
                if run.cause is cause:
                    _judge(run, walked, limit, facts)
                    own_outcomes.append(run.clock.verdict)
        if not own_outcomes:
            seen = all(any(event.at <= slot.at < until for slot in line.seen) for line in own)
            own_outcomes.append("pass" if event.verified is not None and seen else "inconclusive")
        outcomes += own_outcomes
    return {f"{service.name}.restored": _together(outcomes, facts)}


def _together(outcomes: list[str], facts: Facts) -> str:
    """The worst; inconclusive where nothing was judged; and of a cut run nothing but a fail."""
    judged = [one for one in outcomes if one != "unjudged"]
    if "fail" in judged:
        return "fail"
    if not judged or "inconclusive" in judged or facts.cut is not None:
        return "inconclusive"
    return "pass"


def _fault_verdict(name: str, status: str, service: Service, facts: Facts) -> str:
    """What a fault itself says of the RTO objective, beside the clocks."""
    wanted = objectives_under(service, name)
    if status == "masked" or (wanted.rto is None and not wanted.unaffected):
        return "unjudged"
    if any(fault.effective is None for fault in facts.faults if base(fault.id) == name):
        return "inconclusive"
    if status in ("noticed", "degraded") and wanted.unaffected is True:
        return "fail" if facts.cut is None else "inconclusive"
    if status == "degraded":
        return "pass"
    if status == "noticed":
        return "pass" if wanted.unaffected else "unjudged"
    return "pass" if wanted.unaffected == "allowed" or (wanted.unaffected and status == "unnoticed") else "inconclusive"


def _quiet_heal(event: _Event, service: Service, own: list[_Line], events: list[_Event], facts: Facts) -> str:
    """The failback after a heal, beside the clock that it may have caused."""
    wanted = [objectives_under(service, fault.id).failback for fault in event.members]
    if _active_at(facts, events, event.at) or not any(limit is not None for limit in wanted):
        return "unjudged"
    until = min((later.at for later in events if later.at > event.at), default=math.inf)
    for line in own:
        seen = [slot for slot in line.seen if event.at <= slot.at < until]
        if any(event in run.heals for run in line.done) or event.verified is None or not seen:
            return "inconclusive"
    return "pass"
