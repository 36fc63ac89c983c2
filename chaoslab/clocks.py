"""When each recovery clock of a journey starts, what started it, and what ends it: measurement.md, section 2. Pure.

Instants are monotonic nanoseconds. A clock counts from its cause: the event (an inject, a heal or a step) that came last before
the bad slot that started it. `run_clocks` finds the clocks of one journey; `judged` holds one against its objective.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from chaoslab.clock import NS_PER_S
from chaoslab.measure import blind_after, lucky_slots, seconds, share_bad, stable_slots
from chaoslab.record import Injection, StepTaken
from chaoslab.said import PASS, Said, fail, inconclusive
from chaoslab.slots import Slot, Slots
from chaoslab.starvation import Starved
from chaoslab.units import Threshold, format_s

Kind = Literal["rto", "failback"]
EventKind = Literal["inject", "heal", "step"]
EndedBy = Literal["recovered", "heal", "inject", "end", "cut"]
Script = Mapping[tuple[str, str], float]  # (fault id, "inject" or "heal"): the scripted instant in seconds

AFTER_HEAL_S = 5.0  # who recovers so soon after the heal of another fault may owe it to that heal


def base_id(id_: str) -> str:
    """The fault that a row's id belongs to: `flap#3` is the third cycle of `flap`."""
    return id_.partition("#")[0]


@dataclass(frozen=True)
class Event:
    """What may start or end a clock. `ids`: the faults (or the step) that it is about, in the order of their calls.

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
        """The faults it is about, cycles counted as their fault."""
        return tuple(dict.fromkeys(map(base_id, self.ids)))

    @property
    def counted_from_ns(self) -> int:
        """From when its effect is known to have been there."""
        return max(self.at_ns, self.verified_ns or self.at_ns)


@dataclass(frozen=True)
class Look:
    """What all journeys of a run have in common: its events, when each fault burnt, and until when we looked."""

    events: Sequence[Event]
    burning: Mapping[str, tuple[int, int | None]]  # by row id: from the inject to the heal of its event
    end_ns: int
    cut: bool = False
    starved: Sequence[Starved] = ()  # excused ones alone: they stop the clock

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
    ) -> Look:
        """Events in order of time; what is scripted for one instant is one event. What came after the end does not count."""
        own_end = {one.id for one in injections if one.detail.get("own_end")}  # no event: recovery with such an end is met
        waited = {one.id for one in injections if "waited_s" in one.detail}
        script = {key: at_s for key, at_s in script.items() if key[0] not in waited}
        injects = _together([(one.id, one.inject_ns, _effect_ns(one)) for one in injections], "inject", script)
        healed = [(one.id, one.heal_ns, _healed_ns(one)) for one in injections if one.heal_ns is not None]
        heals = _together([one for one in healed if one[0] not in own_end], "heal", script)
        taken = [Event("step", (step.id,), step.begin_ns, step.begin_ns) for step in steps]
        begun = {id_: event.at_ns for event in injects for id_ in event.ids}
        over = {id_: at_ns for id_, at_ns, _ in healed} | {id_: event.at_ns for event in heals for id_ in event.ids}
        events = [*injects, *taken, *heals]
        return cls(
            events=sorted((event for event in events if event.at_ns < end_ns), key=_order),
            burning={id_: (at_ns, over.get(id_)) for id_, at_ns in begun.items()},
            end_ns=end_ns,
            cut=cut,
            starved=[one for one in starved if one.excused],
        )

    def burns_at(self, at_ns: int) -> bool:
        """Whether any fault burns at this instant."""
        return any(begin_ns <= at_ns and (end_ns is None or at_ns < end_ns) for begin_ns, end_ns in self.burning.values())

    def is_own_heal(self, heal: Event, cause: Event) -> bool:
        """Whether this is the heal after which none of the faults that an inject began burns any more."""
        if cause.kind != "inject" or heal.kind != "heal" or set(heal.ids).isdisjoint(cause.ids):
            return False
        ends = [self.burning[id_][1] for id_ in cause.ids]
        return all(end_ns is not None and end_ns <= heal.at_ns for end_ns in ends)

    def until_next(self, event: Event) -> int:
        """When the next event comes, or the end of the look."""
        return next((one.at_ns for one in self.events if one.at_ns > event.at_ns), self.end_ns)

    def starved_ns(self, begin_ns: int, end_ns: int) -> int:
        """How much of begin..end was starved; what several spans cover counts once."""
        total_ns, until_ns = 0, begin_ns
        for one in sorted(self.starved, key=lambda one: one.begin_ns):
            total_ns += max(0, min(end_ns, one.end_ns) - max(until_ns, one.begin_ns))
            until_ns = max(until_ns, one.end_ns)
        return total_ns

    def is_starved(self, at_ns: int) -> bool:
        """Whether the machine was starved at this instant."""
        return any(one.begin_ns <= at_ns < one.end_ns for one in self.starved)


def _order(event: Event) -> tuple[int, int]:
    """By time; what is healed and what is hurt at the same instant, the heal first."""
    return event.at_ns, ("heal", "step", "inject").index(event.kind)


def _effect_ns(one: Injection) -> int | None:
    return one.effective_ns if one.verified else None


def _healed_ns(one: Injection) -> int | None:
    return one.healed_ns if one.heal_verified else None


def _together(calls: Sequence[tuple[str, int, int | None]], kind: Literal["inject", "heal"], script: Script) -> list[Event]:
    """`calls`: id, call and verification of each. What the script does not know stands alone."""
    groups: dict[object, list[tuple[str, int, int | None]]] = {}
    for call in sorted(calls, key=lambda call: (call[1], call[0])):
        groups.setdefault(script.get((call[0], kind), call), []).append(call)
    events = []
    for own in groups.values():
        verified = [verified_ns for _, _, verified_ns in own if verified_ns is not None]
        last_ns = max(verified) if len(verified) == len(own) else None
        events.append(Event(kind, tuple(id_ for id_, _, _ in own), own[0][1], last_ns))
    return events


@dataclass(frozen=True)
class Clock:
    """One clock of one journey. `bad_ns`: due times of its bad slots; a slot in flight at an event counts as due at it.

    `back_ns`: the end of the first good slot, where it recovered; `luck_ns`: by how much the truth may be later in a brown-out,
    None when the good run is too short to tell. `struck`: the ids of the injects that came while it ran.
    `doubt`: why nobody can tell what brought it back. `relapses`: how often it went bad again after a stable run of good slots.
    """

    journey: str
    cause: Event
    kind: Kind
    bad_ns: Sequence[int]
    ended_by: EndedBy
    back_ns: int | None = None
    luck_ns: int | None = 0
    struck: tuple[str, ...] = ()
    doubt: str = ""
    relapses: int = 0
    end_ns: int = 0
    silent: bool = False  # nobody looked any more, well before its end

    @property
    def low_s(self) -> float:
        """Seconds it took at least."""
        return seconds(max(0, self.bad_ns[-1] - self.cause.counted_from_ns))

    @property
    def high_s(self) -> float | None:
        """Seconds it took at most; None when its end was not seen, or may have been luck."""
        if self.back_ns is None or self.luck_ns is None:
            return None
        return seconds(self.back_ns + self.luck_ns - self.cause.at_ns)

    @property
    def verified(self) -> bool:
        """Whether its cause was seen from outside."""
        return self.cause.verified_ns is not None

    def served_low_s(self, look: Look) -> float:
        """Seconds it took at least, had the machine served: without the starved seconds, and the bad slots in them."""
        last_ns = max((due_ns for due_ns in self.bad_ns if not look.is_starved(due_ns)), default=0)
        begin_ns = self.cause.counted_from_ns
        return seconds(max(0, last_ns - begin_ns - look.starved_ns(begin_ns, last_ns)))

    def only_starved(self, look: Look) -> bool:
        """Whether all of it may be the machine's doing."""
        return all(look.is_starved(due_ns) for due_ns in self.bad_ns)


def run_clocks(journey: str, settled: Slots, look: Look) -> list[Clock]:
    """All clocks of a journey, in order. Bad slots before the first event start none. `settled`: see there."""
    if not look.events:
        return []
    stable = stable_slots(settled.period_ns)
    return list(_Walk(journey, _without(settled, _alone(settled, stable)), look).clocks())


def flaps(settled: Slots, look: Look) -> int:
    """Bad slots that stand alone, from the first event on."""
    alone = _alone(settled, stable_slots(settled.period_ns)) if look.events else []
    return sum(settled.due[number] >= look.events[0].at_ns for number in alone)


def settled(slots: Slots, look: Look) -> Slots:
    """Slots as they count: in flight at an event they tell nothing of the time before it.

    Bad, they count as due at it; good, not at all. What was in flight at the end of the look is left out.
    """
    slots = slots.decided_in(0, look.end_ns)
    moved: dict[int, int] = {}
    for event in look.events:
        for number in slots.numbers(event.at_ns - slots.within_ns, event.at_ns):
            if slots.end[number] > event.at_ns:
                moved[number] = event.at_ns
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


def _without(slots: Slots, flaps: Sequence[int]) -> Slots:
    """The same with these slots as good ones."""
    forgiven = Slots(period_ns=slots.period_ns, within_ns=slots.within_ns)
    forgiven.extend(slots, 0, len(slots))
    for number in flaps:
        forgiven.good[number] = 1
    return forgiven


def _alone(slots: Slots, stable: int) -> list[int]:
    """The bad slots with a stable run of good ones before and after."""
    bad = [-1, *slots.bad_numbers(), len(slots)]
    return [
        bad[place] for place in range(1, len(bad) - 1) if min(bad[place] - bad[place - 1], bad[place + 1] - bad[place]) > stable
    ]


@dataclass
class _Running:
    """A clock that has not ended. `numbers`: places of its bad slots."""

    cause: Event
    kind: Kind
    numbers: list[int] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    heals: list[Event] = field(default_factory=list)


class _Walk:
    """From event to event through the slots of one journey."""

    def __init__(self, journey: str, seen: Slots, look: Look) -> None:
        self._journey, self._seen, self._look = journey, seen, look
        self._stable = stable_slots(seen.period_ns)
        self._running: _Running | None = None

    def clocks(self) -> Iterator[Clock]:
        events, seen = self._look.events, self._seen
        for place, event in enumerate(events):
            end_ns = events[place + 1].at_ns if place + 1 < len(events) else self._look.end_ns
            if self._running is not None:
                yield from self._meet(event, self._running)
            segment = seen.numbers(event.at_ns, end_ns)
            bad = [number for number in seen.bad_numbers(segment.start) if number < segment.stop] if segment else []
            if bad and self._running is None:
                kind: Kind = "rto" if self._look.burns_at(seen.due[bad[0]]) else "failback"
                self._running = _Running(event, kind)
            if self._running is not None:
                self._running.numbers += bad
                if segment.stop - self._running.numbers[-1] > self._stable:
                    yield self._recovered(self._running)
        if self._running is not None:
            yield self._ended(self._running, "cut" if self._look.cut else "end", self._look.end_ns)

    def _meet(self, event: Event, running: _Running) -> Iterator[Clock]:
        """What an event does to a clock that runs."""
        first_good = running.numbers[-1] + 1
        good_before = first_good < self._seen.numbers(event.at_ns, event.at_ns).start
        if good_before and self._good_run(first_good) >= self._stable:
            stable_ns = self._seen.due[first_good + self._stable - 1]
            heal = next(
                (one for one in self._look.events if one.kind == "heal" and event.at_ns <= one.at_ns <= stable_ns), None
            )
            doubt = f"the good run began before the heal of {heal.cause} and was stable only after it" if heal else ""
            yield self._recovered(running, doubt)
        elif self._look.is_own_heal(event, running.cause):
            yield self._ended(running, "heal", event.at_ns)
        elif event.kind == "heal":
            running.heals.append(event)
        elif running.kind == "failback":
            yield self._ended(running, "inject", event.at_ns)
        else:
            running.struck += event.ids if event.kind == "inject" else ()

    def _recovered(self, running: _Running, doubt: str = "") -> Clock:
        first_good = running.numbers[-1] + 1
        back_ns = self._seen.end[first_good]
        luck = lucky_slots(share_bad(running.numbers, self._stable))
        shaky = next((heal for heal in running.heals if _near(back_ns, heal)), None)
        if shaky is not None and not doubt:
            doubt = f"it came back with the heal of {shaky.cause}: nobody can tell what brought it back"
        clock = self._ended(running, "recovered", back_ns)
        luck_ns = luck * self._seen.period_ns if luck <= self._unhealed_run(first_good) else None
        return replace(clock, back_ns=back_ns, luck_ns=luck_ns, doubt=doubt)

    def _ended(self, running: _Running, by: EndedBy, end_ns: int) -> Clock:
        self._running = None
        numbers = running.numbers
        relapses = sum(later - earlier > self._stable for earlier, later in pairwise(numbers))
        return Clock(
            journey=self._journey,
            cause=running.cause,
            kind=running.kind,
            bad_ns=[self._seen.due[number] for number in numbers],
            ended_by=by,
            struck=tuple(dict.fromkeys(running.struck)),
            relapses=relapses,
            end_ns=end_ns,
            silent=blind_after(end_ns - self._seen.due[self._seen.numbers(0, end_ns).stop - 1], self._seen.period_ns),
        )

    def _good_run(self, first: int) -> int:
        """How many good slots follow, up to the next bad one or the end of the look."""
        bad = self._seen.good.find(0, first)
        return (len(self._seen) if bad < 0 else bad) - first

    def _unhealed_run(self, first: int) -> int:
        """As many of those as a heal had no part in: what is good after it proves nothing of the time before."""
        heals = (one.at_ns for one in self._look.events if one.kind == "heal" and one.at_ns > self._seen.due[first])
        heal = self._seen.numbers(0, next(heals, self._look.end_ns)).stop
        return min(self._good_run(first), heal - first)


def _near(back_ns: int, heal: Event) -> bool:
    """Whether a recovery may be owed to a heal that was called before it."""
    return heal.verified_ns is None or back_ns <= heal.verified_ns + AFTER_HEAL_S * NS_PER_S


def judged(clock: Clock, limit: Threshold | None, look: Look) -> Said | None:
    """One clock against its objective; None where there is none. Missed only when the time that was served exceeds it."""
    if limit is None:
        return None
    if not clock.verified:
        return inconclusive(f"{clock.journey}: {_after(clock)} was not verified")
    if clock.served_low_s(look) > limit.value:
        back = ", when it was healed: it came back only because of that" if clock.ended_by == "heal" else ""
        return fail(f"{clock.journey}: still bad {clock.low_s:.1f} s after {_after(clock)}{back}")
    why = _untold(clock, limit, look)
    return inconclusive(f"{clock.journey}: {why}") if why else PASS


def _after(clock: Clock) -> str:
    """What it counts from, in words."""
    verb = {"inject": "the fault", "heal": "the heal of", "step": "the step"}[clock.cause.kind]
    return f"{verb} {clock.cause.cause}"


def _untold(clock: Clock, limit: Threshold, look: Look) -> str:
    """Why a clock that is no fail is no pass either; empty when it is one."""
    if clock.low_s > limit.value:
        return f"still bad {clock.low_s:.1f} s after {_after(clock)}, but {_not_served(clock, look)}"
    if clock.ended_by != "recovered":
        after = f"not back {format_s(seconds(clock.end_ns - clock.cause.at_ns))} after {_after(clock)}"
        return f"{after}, {'when the prober had fallen silent' if clock.silent else _ENDS[clock.ended_by]}"
    if clock.doubt:
        return clock.doubt
    if clock.high_s is None:
        return "only a share of the slots was bad; the good run after them may be luck, look longer"
    if clock.high_s > limit.value:
        return f"the limit lies inside {clock.low_s:.2f}..{clock.high_s:.2f} s; {_narrower(clock)}"
    return ""


_ENDS: dict[EndedBy, str] = {
    "heal": "when it was healed: healed before the time of its objective was over; let it burn longer",
    "inject": "when the next event came: there was no steady state to hurt",
    "end": "when the run ended: look longer",
    "cut": "when the run was ended early",
}


def _not_served(clock: Clock, look: Look) -> str:
    begin_ns, end_ns = clock.cause.counted_from_ns, clock.bad_ns[-1]
    by = dict.fromkeys(one.by for one in look.starved if one.begin_ns <= end_ns and one.end_ns > begin_ns)
    return f"the machine did not serve for {format_s(seconds(look.starved_ns(begin_ns, end_ns)))} of that ({', '.join(by)})"


def _narrower(clock: Clock) -> str:
    """What makes the interval wide: mostly the slots, or the cause's own time from call to verified effect."""
    own_s = seconds(clock.cause.counted_from_ns - clock.cause.at_ns)
    slots_s = (clock.high_s or 0.0) - clock.low_s - own_s
    what = "fault" if clock.cause.kind == "inject" else clock.cause.kind
    return f"the {what} itself took {own_s:.1f} s of it" if own_s > max(1.0, slots_s) else "raise the probe rate"


# --- what a service noticed of each fault -------------------------------------------------------------------------

Notice = Literal["noticed", "masked", "unnoticed", "unclear"]


def notices(clocks: Sequence[Clock], look: Look) -> dict[str, Notice]:
    """By fault: what a service's journeys noticed of it. `unclear`: only where the machine may have been the cause."""
    faults = dict.fromkeys(fault for event in look.events if event.kind == "inject" for fault in event.faults)
    return {fault: _notice(fault, clocks, look) for fault in faults}


def _notice(fault: str, clocks: Sequence[Clock], look: Look) -> Notice:
    own = [clock for clock in clocks if clock.cause.kind == "inject" and fault in clock.cause.faults]
    if own:
        return "unclear" if all(clock.only_starved(look) for clock in own) else "noticed"
    injects = {id_ for event in look.events if event.kind == "inject" for id_ in event.ids if base_id(id_) == fault}
    return "masked" if injects <= {id_ for clock in clocks for id_ in clock.struck} else "unnoticed"
