"""Clocks: when each starts, what causes it, and what ends it (judge/README.md, Events and Clocks). Pure.

Instants are monotonic nanoseconds. `run_clocks` finds the clocks of one journey; `judge_clock` compares one with its objective.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from chaoslab.clock import NS_PER_S
from chaoslab.judge.intervals import chance_slots, is_quiet, seconds, share_bad, stable_slots
from chaoslab.judge.outcome import PASS, Outcome, fail, inconclusive
from chaoslab.judge.run_record import Declared, Injection, StepTaken
from chaoslab.judge.slots import Slot, Slots
from chaoslab.judge.starvation import Starved
from chaoslab.units import Threshold, format_s

Kind = Literal["rto", "failback"]
EventKind = Literal["inject", "heal", "step"]
EndedBy = Literal["recovered", "heal", "inject", "end", "cut"]
# (fault id, "inject" or "heal"): the scripted instant in seconds; for a heal at recovery, its name and that of the inject
Script = Mapping[tuple[str, str], float | tuple[str, float]]
Call = tuple[str, int, int | None]  # fault id, instant of the call, instant of its verification

REMEDIES = ("run", "http", "sql", "manual")  # kinds of steps that answer a fault: not events, so clocks continue
AFTER_HEAL_S = 5.0  # a recovery so soon after the heal of another fault may be due to that heal


def base_id(id_: str) -> str:
    """The fault that a row's id belongs to: `flap#3` is the third cycle of `flap`."""
    return id_.partition("#")[0]


# --- events -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """What may start or end a clock. `ids`: its faults (or its step), in the order of their calls.

    `at_ns`: the first call. `verified_ns`: when the last of them was seen from outside; None when one never was.
    """

    kind: EventKind
    ids: tuple[str, ...]
    at_ns: int
    verified_ns: int | None

    @property
    def cause(self) -> str:
        """Its ids as one word."""
        return "+".join(self.ids)

    @property
    def faults(self) -> tuple[str, ...]:
        """Its faults; each cycle counts as its fault."""
        return tuple(dict.fromkeys(map(base_id, self.ids)))

    @property
    def counted_from_ns(self) -> int:
        """From when its effect is known."""
        return max(self.at_ns, self.verified_ns or self.at_ns)


@dataclass(frozen=True)
class EventTimeline:
    """What all journeys of a run have in common: its events, when each fault was active, and the end of the observation."""

    events: Sequence[Event]
    active: Mapping[str, tuple[int, int | None]]  # by row id: from the inject to the heal of its event
    end_ns: int
    cut: bool = False
    starved: Sequence[Starved] = ()  # only excused ones: they stop the clock
    declared: Sequence[Declared] = ()
    reconnected: Mapping[str, int] = field(default_factory=dict)  # by row id: when the fault was fully removed
    planned_change: bool = False  # without faults: the steps are what is tested

    @classmethod
    def of(
        cls,
        injections: Sequence[Injection],
        steps: Sequence[StepTaken],
        script: Script,
        *,
        end_ns: int,
        cut: bool = False,
        starved: Sequence[Starved] = (),
        planned_change: bool = False,
    ) -> EventTimeline:
        """Events in order of time; what is scheduled for one instant is one event. Events after the end do not count.

        `planned_change`: the steps of the timeline are what is tested, so each is an event, and none answers a fault.
        """
        own_end = {fault.id for fault in injections if fault.detail.get("own_end")}  # recovery with such an end counts
        waited = {fault.id for fault in injections if "waited_s" in fault.detail}
        script = {key: at_s for key, at_s in script.items() if key[0] not in waited}
        calls = [(fault.id, fault.inject_ns, fault.effective_ns if fault.verified else None) for fault in injections]
        injects = _together(calls, "inject", script)
        ended = [
            (fault.id, fault.heal_ns, fault.healed_ns if fault.heal_verified else None)
            for fault in injections
            if fault.heal_ns is not None
        ]
        heals = _together([call for call in ended if call[0] not in own_end], "heal", script)
        disturbing = [step for step in steps if planned_change or step.name not in REMEDIES]
        taken = [Event("step", (step.id,), step.begin_ns, step.begin_ns) for step in disturbing]
        begun = {id_: event.at_ns for event in injects for id_ in event.ids}
        over = {id_: at_ns for id_, at_ns, _ in ended} | {id_: event.at_ns for event in heals for id_ in event.ids}
        order = ("heal", "step", "inject")  # of several events at the same instant, the heal comes first
        events = [event for event in [*injects, *taken, *heals] if event.at_ns < end_ns]
        return cls(
            events=sorted(events, key=lambda event: (event.at_ns, order.index(event.kind))),
            active={id_: (at_ns, over.get(id_)) for id_, at_ns in begun.items()},
            end_ns=end_ns,
            cut=cut,
            starved=[span for span in starved if span.excused],
            declared=[one for step in steps if (one := step.declared) is not None],
            reconnected={fault.id: fault.reconnected_ns for fault in injections if fault.reconnected_ns is not None},
            planned_change=planned_change,
        )

    def active_at(self, at_ns: int) -> bool:
        """Whether any fault is active at this instant."""
        return any(begin_ns <= at_ns and (end_ns is None or at_ns < end_ns) for begin_ns, end_ns in self.active.values())

    def is_own_heal(self, heal: Event, cause: Event) -> bool:
        """Whether this is the heal after which none of the faults of a cause is active any more."""
        if cause.kind != "inject" or heal.kind != "heal" or set(heal.ids).isdisjoint(cause.ids):
            return False
        ends = [self.active[id_][1] for id_ in cause.ids]
        return all(end_ns is not None and end_ns <= heal.at_ns for end_ns in ends)

    @property
    def heals(self) -> list[Event]:
        """The heals, in order of time."""
        return [event for event in self.events if event.kind == "heal"]

    def until_next(self, event: Event) -> int:
        """When the next event comes, or the end of the observation."""
        return next((later.at_ns for later in self.events if later.at_ns > event.at_ns), self.end_ns)

    def starved_ns(self, begin_ns: int, end_ns: int) -> int:
        """How much of begin..end was starved; overlapping spans count once."""
        total_ns, until_ns = 0, begin_ns
        for span in sorted(self.starved, key=lambda span: span.begin_ns):
            total_ns += max(0, min(end_ns, span.end_ns) - max(until_ns, span.begin_ns))
            until_ns = max(until_ns, span.end_ns)
        return total_ns

    def declared_s(self, first_bad_ns: int, end_ns: int) -> float:
        """Declared seconds of manual steps during the outage, beyond what the run waited for them."""
        return sum((one.seconds for one in self.declared if first_bad_ns <= one.at_ns <= end_ns), 0.0)

    def is_starved(self, at_ns: int) -> bool:
        """Whether the machine was starved at this instant."""
        return any(span.begin_ns <= at_ns < span.end_ns for span in self.starved)


def _together(calls: Sequence[Call], kind: Literal["inject", "heal"], script: Script) -> list[Event]:
    """Calls that are scheduled for one instant as one event. An unscheduled call is an event of its own."""
    groups: dict[object, list[Call]] = {}
    for call in sorted(calls, key=lambda call: (call[1], call[0])):
        groups.setdefault(script.get((call[0], kind), call), []).append(call)
    events = []
    for own in groups.values():
        verified = [verified_ns for _, _, verified_ns in own if verified_ns is not None]
        last_ns = max(verified) if len(verified) == len(own) else None
        events.append(Event(kind, tuple(id_ for id_, _, _ in own), own[0][1], last_ns))
    return events


# --- slots ------------------------------------------------------------------------------------------------------


def in_flight(slots: Slots, timeline: EventTimeline) -> dict[int, int]:
    """The slots that were in flight at an event, by their places, and the last such event: a bad one counts as due at it."""
    found: dict[int, int] = {}
    for event in timeline.events:
        for number in slots.numbers(event.at_ns - slots.within_ns, event.at_ns):
            if slots.end[number] > event.at_ns:
                found[number] = event.at_ns
    return found


def counted_slots(slots: Slots, timeline: EventTimeline) -> Slots:
    """Slots as they count for clocks: those in flight at an event show nothing about the time before it.

    A bad one counts as due at the event, a good one not at all. Slots in flight at the end of the observation are left out.
    """
    slots = slots.decided_in(0, timeline.end_ns)
    moved = in_flight(slots, timeline)
    if not moved:
        return slots
    found = Slots(period_ns=slots.period_ns, within_ns=slots.within_ns)
    begin = 0
    for number in sorted(moved):
        found.extend(slots, begin, number)
        begin = number + 1
    found.extend(slots, begin, len(slots))
    for number, due_ns in moved.items():
        if not slots.good[number]:
            found.insert(Slot(due_ns, slots.sent[number], slots.end[number], good=False))
    return found


def single_flaps(counted: Slots, timeline: EventTimeline) -> int:
    """Single bad slots, from the first event on."""
    if not timeline.events:
        return 0
    return sum(counted.due[number] >= timeline.events[0].at_ns for number in _single_bad(counted))


def _single_bad(slots: Slots) -> list[int]:
    """The bad slots with a stable run of good ones before and after."""
    stable = stable_slots(slots.period_ns)
    bad = [-1, *slots.bad_numbers(), len(slots)]
    return [
        bad[place] for place in range(1, len(bad) - 1) if min(bad[place] - bad[place - 1], bad[place + 1] - bad[place]) > stable
    ]


# --- clocks -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """One clock of one journey. `bad_ns`: due times of its bad slots; a slot in flight at an event counts as due at it.

    `back_ns`: the end of the first good slot of the recovery; `chance_ns`: by how much the truth may be later in a partial
    outage, None when the good run is too short to tell. `overlapping`: the ids of the injects that came while it ran. `doubt`:
    why the cause of its recovery is unknown. `relapses`: how often bad slots returned after a stable run of good ones. `quiet`:
    the last slot was due well before its end. `declared_s`: what is added for manual steps.
    """

    journey: str
    cause: Event
    kind: Kind
    bad_ns: Sequence[int]
    ended_by: EndedBy
    back_ns: int | None = None
    chance_ns: int | None = 0
    overlapping: tuple[str, ...] = ()
    doubt: str = ""
    relapses: int = 0
    end_ns: int = 0
    quiet: bool = False
    declared_s: float = 0.0

    @property
    def low_s(self) -> float:
        """Seconds it took at least, declared ones included."""
        return seconds(max(0, self.bad_ns[-1] - self.cause.counted_from_ns)) + self.declared_s

    @property
    def high_s(self) -> float | None:
        """Seconds it took at most, declared ones included; None when its end was not seen, or may have been chance."""
        if self.back_ns is None or self.chance_ns is None:
            return None
        return seconds(self.back_ns + self.chance_ns - self.cause.at_ns) + self.declared_s

    def served_low_s(self, timeline: EventTimeline) -> float:
        """Seconds it took at least without the starved seconds, and without the bad slots in them."""
        last_ns = max((due_ns for due_ns in self.bad_ns if not timeline.is_starved(due_ns)), default=0)
        begin_ns = self.cause.counted_from_ns
        return seconds(max(0, last_ns - begin_ns - timeline.starved_ns(begin_ns, last_ns))) + self.declared_s


def run_clocks(journey: str, counted: Slots, timeline: EventTimeline) -> list[Clock]:
    """All clocks of a journey, in order. Bad slots before the first event start none. `counted`: see `counted_slots`."""
    if not timeline.events:
        return []
    slots = Slots(period_ns=counted.period_ns, within_ns=counted.within_ns)
    slots.extend(counted, 0, len(counted))
    for number in _single_bad(counted):
        slots.good[number] = 1
    return list(_Clocks(journey, slots, timeline).find())


def restoration(journey: str, counted: Slots, timeline: EventTimeline, heal: Event) -> Clock | None:
    """The clock of one heal, which starts with the heal even while another clock runs: judge/README.md, Restored.

    None when no bad slot came before the next event. It includes the time in which the fault was fully removed, but its
    replicas were not healthy yet.
    """
    known = [timeline.reconnected.get(id_) for id_ in heal.ids]
    reconnected = [at_ns for at_ns in known if at_ns is not None]
    cause = replace(heal, verified_ns=max(reconnected)) if len(reconnected) == len(known) else heal
    later = timeline.events[timeline.events.index(heal) + 1 :]
    clocks = run_clocks(journey, counted, replace(timeline, events=[cause, *later]))
    return next((clock for clock in clocks if clock.cause is cause), None)


@dataclass
class _Running:
    """A clock that has not ended. `numbers`: indexes of its bad slots. `heals`: heals of other faults while it ran."""

    cause: Event
    kind: Kind
    numbers: list[int] = field(default_factory=list)
    overlapping: list[str] = field(default_factory=list)
    heals: list[Event] = field(default_factory=list)


class _Clocks:
    """Walks through the slots of one journey, event by event."""

    def __init__(self, journey: str, slots: Slots, timeline: EventTimeline) -> None:
        self._journey, self._slots, self._timeline = journey, slots, timeline
        self._stable = stable_slots(slots.period_ns)
        self._running: _Running | None = None

    def find(self) -> Iterator[Clock]:
        events, slots = self._timeline.events, self._slots
        for place, event in enumerate(events):
            end_ns = events[place + 1].at_ns if place + 1 < len(events) else self._timeline.end_ns
            if self._running is not None:
                yield from self._meet(event, self._running)
            segment = slots.numbers(event.at_ns, end_ns)
            bad = [number for number in slots.bad_numbers(segment.start) if number < segment.stop] if segment else []
            if bad and self._running is None:
                kind: Kind = "rto" if self._timeline.active_at(slots.due[bad[0]]) else "failback"
                self._running = _Running(event, kind)
            if self._running is not None:
                self._running.numbers += bad
                if segment.stop - self._running.numbers[-1] > self._stable:
                    yield self._recovered(self._running)
        if self._running is not None:
            yield self._ended(self._running, "cut" if self._timeline.cut else "end", self._timeline.end_ns)

    def _meet(self, event: Event, running: _Running) -> Iterator[Clock]:
        """What an event does to a clock that runs: judge/README.md, End of a clock."""
        first_good = running.numbers[-1] + 1
        good_before = first_good < self._slots.numbers(event.at_ns, event.at_ns).start
        if good_before and self._good_run(first_good) >= self._stable:
            stable_ns = self._slots.due[first_good + self._stable - 1]
            later = (other for other in self._timeline.events if event.at_ns <= other.at_ns <= stable_ns)
            heal = next((other for other in later if other.kind == "heal"), None)
            doubt = f"the good run began before the heal of {heal.cause} and was stable only after it" if heal else ""
            yield self._recovered(running, doubt)
        elif self._timeline.is_own_heal(event, running.cause):
            yield self._ended(running, "heal", event.at_ns)
        elif event.kind == "heal":
            running.heals.append(event)
        elif running.kind == "failback":
            yield self._ended(running, "inject", event.at_ns)
        else:
            running.overlapping += event.ids if event.kind == "inject" else ()

    def _recovered(self, running: _Running, doubt: str = "") -> Clock:
        first_good = running.numbers[-1] + 1
        back_ns = self._slots.end[first_good]
        for heal in running.heals if not doubt else ():
            if heal.verified_ns is None or back_ns <= heal.verified_ns + AFTER_HEAL_S * NS_PER_S:
                doubt = f"it recovered together with the heal of {heal.cause}, so the cause of the recovery is unknown"
                break
        # Good slots after a heal prove nothing about the time before it.
        heals = (event.at_ns for event in self._timeline.events if event.kind == "heal")
        heal_ns = next((at_ns for at_ns in heals if at_ns > self._slots.due[first_good]), self._timeline.end_ns)
        good = min(self._good_run(first_good), self._slots.numbers(0, heal_ns).stop - first_good)
        chance = chance_slots(share_bad(running.numbers, self._stable))
        clock = self._ended(running, "recovered", back_ns)
        chance_ns = chance * self._slots.period_ns if chance <= good else None
        return replace(clock, back_ns=back_ns, chance_ns=chance_ns, doubt=doubt)

    def _ended(self, running: _Running, by: EndedBy, end_ns: int) -> Clock:
        self._running = None
        numbers, slots = running.numbers, self._slots
        return Clock(
            journey=self._journey,
            cause=running.cause,
            kind=running.kind,
            bad_ns=[slots.due[number] for number in numbers],
            ended_by=by,
            overlapping=tuple(dict.fromkeys(running.overlapping)),
            relapses=sum(later - earlier > self._stable for earlier, later in pairwise(numbers)),
            end_ns=end_ns,
            quiet=is_quiet(end_ns - slots.due[slots.numbers(0, end_ns).stop - 1], slots.period_ns),
            declared_s=self._timeline.declared_s(slots.due[numbers[0]], slots.due[numbers[-1]]),
        )

    def _good_run(self, first: int) -> int:
        """How many good slots follow, up to the next bad one or the end of the observation."""
        bad = self._slots.good.find(0, first)
        return (len(self._slots) if bad < 0 else bad) - first


# --- verdicts ---------------------------------------------------------------------------------------------------


_ENDS: dict[EndedBy, str] = {
    "heal": "when it was healed, before its objective had passed; let the fault last longer",
    "inject": "when the next event came: there was no steady state to disturb",
    "end": "when the run ended; observe for longer",
    "cut": "when the run was ended early",
}


def judge_clock(clock: Clock, limit: Threshold | None, timeline: EventTimeline) -> Outcome | None:
    """One clock against its objective; None where there is none. Missed only if exceeded without the starved seconds."""
    if limit is None:
        return None
    cause = {"inject": "the fault", "heal": "the heal of", "step": "the step"}[clock.cause.kind] + f" {clock.cause.cause}"
    late = f"still bad {clock.low_s:.1f} s after {cause}{declared_in_words(clock.declared_s, ' of that')}"
    if clock.cause.verified_ns is None:
        return inconclusive(f"{clock.journey}: {cause} was not verified")
    if clock.served_low_s(timeline) > limit.value:
        back = ", when it was healed: it recovered only because of the heal" if clock.ended_by == "heal" else ""
        return fail(f"{clock.journey}: {late}{back}")
    if clock.low_s > limit.value:
        begin_ns, end_ns = clock.cause.counted_from_ns, clock.bad_ns[-1]
        by = dict.fromkeys(span.by for span in timeline.starved if span.begin_ns <= end_ns and span.end_ns > begin_ns)
        starved_s = format_s(seconds(timeline.starved_ns(begin_ns, end_ns)))
        why = f"{late}, but the machine was starved for {starved_s} of that ({', '.join(by)})"
    elif clock.ended_by != "recovered":
        after = f"not recovered {format_s(seconds(clock.end_ns - clock.cause.at_ns))} after {cause}"
        why = f"{after}, {'when the prober had stopped sending' if clock.quiet else _ENDS[clock.ended_by]}"
    elif clock.doubt:
        why = clock.doubt
    elif clock.high_s is None:
        cure = "let the fault last longer" if clock.kind == "rto" else "observe for longer"
        why = f"only a share of the slots was bad, so the good slots after them may be chance; {cure}"
    elif clock.high_s > limit.value:
        # What makes the interval wide: mostly the slots, or the cause's own time from call to verified effect.
        own_s = seconds(clock.cause.counted_from_ns - clock.cause.at_ns)
        cure = "raise the probe rate"
        if own_s > max(1.0, clock.high_s - clock.low_s - own_s):
            cure = f"the {'fault' if clock.cause.kind == 'inject' else clock.cause.kind} itself took {own_s:.1f} s of it"
        why = f"the objective lies within {clock.low_s:.2f}..{clock.high_s:.2f} s; {cure}"
    else:
        return PASS
    return inconclusive(f"{clock.journey}: {why}")


def declared_in_words(declared_s: float, of: str = "") -> str:
    """` + 840.0 s declared`; with `of`, as a part of a time before it. Empty if nothing was declared."""
    if not declared_s:
        return ""
    return f" ({format_s(declared_s)}{of} declared)" if of else f" + {format_s(declared_s)} declared"


# --- what a service noticed of each fault -----------------------------------------------------------------------

# "degraded": noticed only by what a declared degraded mode allows, which `run_data` finds
Impact = Literal["noticed", "masked", "unnoticed", "unclear", "degraded"]


def impacts(clocks: Sequence[Clock], timeline: EventTimeline) -> dict[str, Impact]:
    """By fault, whether a service noticed it: judge/README.md, Noticed, masked, unnoticed. `clocks`: all of the service."""
    injects = [event for event in timeline.events if event.kind == "inject"]
    overlapping = {id_ for clock in clocks for id_ in clock.overlapping}
    found: dict[str, Impact] = {}
    for fault in dict.fromkeys(fault for event in injects for fault in event.faults):
        own = [clock for clock in clocks if clock.cause.kind == "inject" and fault in clock.cause.faults]
        ids = {id_ for event in injects for id_ in event.ids if base_id(id_) == fault}
        if own:
            starved = all(timeline.is_starved(due_ns) for clock in own for due_ns in clock.bad_ns)
            found[fault] = "unclear" if starved else "noticed"
        else:
            found[fault] = "masked" if ids <= overlapping else "unnoticed"
    return found
