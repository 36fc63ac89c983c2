"""The data of one run: its journeys and services with the measurements of each, computed on demand. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from chaoslab.clock import NS_PER_S
from chaoslab.history.result import OutageResult
from chaoslab.judge.clocks import (
    AFTER_HEAL_S,
    Clock,
    Event,
    EventTimeline,
    Impact,
    base_id,
    counted_slots,
    impacts,
    in_flight,
    restoration,
    run_clocks,
    single_flaps,
)
from chaoslab.judge.degraded import as_allowed, as_declared, as_seen
from chaoslab.judge.intervals import seconds, skewed
from chaoslab.judge.ledger import Ledger, ledger_of, merged
from chaoslab.judge.losses import Span
from chaoslab.judge.objectives import tightest
from chaoslab.judge.outages import outages
from chaoslab.judge.run_record import FailedSlot, Injection, Record
from chaoslab.judge.slots import Slots
from chaoslab.judge.starvation import Starved, starved_spans
from chaoslab.judge.validity import shares_skewed
from chaoslab.judge.writes import Writes
from chaoslab.spec.model import Experiment, ExperimentObjectives
from chaoslab.spec.objectives import mode_of
from chaoslab.spec.stackfile.journey import Good, Journey
from chaoslab.spec.stackfile.model import Mode, StackSpec
from chaoslab.spec.step import StepBase
from chaoslab.spec.timeline import schedule
from chaoslab.spec.yaml.quantities import RECOVERED

_UNKNOWN_WITHIN_S = Good().within
_LEAD_NS = 3 * NS_PER_S  # read before the fault, for the last good slot before an outage
_LATE_NS_MAX = NS_PER_S // 20  # a slot sent later than this, or than its period, makes its second starved


@dataclass(frozen=True)
class JourneyData:
    """One journey of the run. `spec` is None if the stack does not define it.

    `changes`: what was done to the stack, as in `RunData.changes`. `mode`: what it may lose while a fault is active.
    """

    name: str
    service: str
    spec: Journey | None
    record: Record
    slots: Slots
    timeline: EventTimeline
    changes: Sequence[Injection]
    mode: Mode = "required"

    @property
    def op(self) -> str:
        """read or write."""
        return self.spec.op if self.spec else self.record.probes[self.name].op

    @cached_property
    def clocks(self) -> list[Clock]:
        """The clocks that are judged, by its degraded mode."""
        return run_clocks(self.name, self.declared, self.timeline)

    @cached_property
    def clocks_seen(self) -> list[Clock]:
        """The clocks without regard to its degraded mode."""
        if self.mode == "required":
            return self.clocks
        return run_clocks(self.name, as_seen(self.counted, self.mode, self.later_ns), self.timeline)

    @property
    def later_ns(self) -> Sequence[int]:
        """Due times of the good slots that a 202 answered."""
        probed = self.record.probes.get(self.name)
        return probed.later_ns if probed else ()

    @cached_property
    def counted(self) -> Slots:
        """The slots as they count for clocks."""
        return counted_slots(self.slots, self.timeline)

    @cached_property
    def declared(self) -> Slots:
        """The slots as they count for clocks, by its degraded mode."""
        return as_declared(self.counted, self.mode, self.later_ns, self.timeline)

    @cached_property
    def since_fault(self) -> Slots:
        """From the first fault to the end; empty if nothing was injected."""
        first_ns = _first_ns(self.changes)
        return self.slots.due_in(0, 0) if first_ns is None else self.slots.decided_in(first_ns, self.timeline.end_ns)

    @cached_property
    def bad(self) -> int:
        """Bad slots since the first fault."""
        return self.since_fault.bad

    @cached_property
    def skewed(self) -> int:
        """Slots since the first fault that were sent late."""
        return skewed(self.since_fault)

    @property
    def availability(self) -> float:
        """Share of good slots since the first fault; 0 without slots."""
        return 1 - self.bad / len(self.since_fault) if len(self.since_fault) else 0.0

    @cached_property
    def availability_range(self) -> tuple[float, float]:
        """The share of good slots with those of starved seconds as bad, and as good. Allowed bad slots are good."""
        seen = as_allowed(self.since_fault, self.timeline) if self.mode == "allowed" else self.since_fault
        doubtful = {number for span in self.timeline.starved for number in seen.numbers(span.begin_ns, span.end_ns)}
        bad = sum(not seen.good[number] for number in doubtful)
        total = len(seen) or 1
        return (len(seen) - seen.bad - (len(doubtful) - bad)) / total, (len(seen) - seen.bad + bad) / total

    @cached_property
    def flaps(self) -> int:
        """How often a single slot was bad, or slots went bad again after a stable run without an event in between."""
        return single_flaps(self.counted, self.timeline) + sum(clock.relapses for clock in self.clocks_seen)

    @cached_property
    def failed(self) -> list[tuple[int, FailedSlot]]:
        """The slots since the first fault that got no success at all, however late, and since when each counts.

        Those that a degraded mode allows are left out. One in flight at an event counts as due at it, as it does for clocks.
        """
        first_ns, probed = _first_ns(self.changes), self.record.probes.get(self.name)
        if first_ns is None or probed is None:
            return []
        found = []
        events_ns = [0, *(event.at_ns for event in self.timeline.events)]
        for slot in probed.failed:
            since_ns = max(slot.due_ns, events_ns[bisect_left(events_ns, slot.end_ns, lo=1) - 1])
            excused = self.mode == "allowed" and self.timeline.active_at(since_ns)
            if since_ns >= first_ns and slot.due_ns < self.timeline.end_ns and not excused:
                found.append((since_ns, slot))
        return found

    @cached_property
    def outages(self) -> list[OutageResult]:
        """Those that overlap the time since the first fault. One whose end was not seen lasts to the end at most."""
        return self._outages_in(self.slots, {})

    @property
    def outages_judged(self) -> list[OutageResult]:
        """Outages without those that a degraded mode allows. One in flight at an event begins there."""
        since_ns = {self.slots.due[number]: at_ns for number, at_ns in in_flight(self.slots, self.timeline).items()}
        return self._outages_in(as_allowed(self.slots, self.timeline) if self.mode == "allowed" else self.slots, since_ns)

    def _outages_in(self, slots: Slots, since_ns: Mapping[int, int]) -> list[OutageResult]:
        """`since_ns`: by the due time of a slot, when it counts, where that is later."""
        first_ns, origin_ns = _first_ns(self.changes), self.record.first_ns
        if first_ns is None:
            return []
        seen = slots.decided_in(first_ns - _LEAD_NS, self.timeline.end_ns)
        found = []
        for outage in outages(seen):
            begin_ns = seen.due[0] if outage.good_before_ns is None else outage.good_before_ns
            end_ns = seen.end[-1] if outage.good_after_ns is None else outage.good_after_ns
            if outage.last_bad_ns >= first_ns:
                from_ns = since_ns.get(outage.first_bad_ns, outage.first_bad_ns)
                low_s, high_s = seconds(max(0, outage.last_bad_ns - from_ns)), seconds(end_ns - begin_ns)
                ended = outage.good_after_ns is not None
                at_s = seconds(from_ns - origin_ns)
                found.append(OutageResult(at_s, min(low_s, high_s), high_s, outage.slots, ended=ended))
        return found

    def ledger(self, clocks: Sequence[Span], applied_by_ns: int) -> Ledger | None:
        """The writes by category; None without a ledger. `clocks`: when an RTO clock of its service ran.

        `applied_by_ns`: until then, reads may lack queued writes.
        """
        if self.spec is None or self.spec.ledger is None:
            return None
        record = self.record
        writes = record.probes[self.name].writes if self.name in record.probes else Writes(record.ids)
        until_ns = applied_by_ns if self.mode == "queued" else None
        return ledger_of(writes, record.reads.get(self.name, ()), self.changes, clocks, until_ns)

    @property
    def keeps_ledger(self) -> bool:
        return self.spec is not None and self.spec.ledger is not None

    @property
    def linearizable(self) -> bool:
        return self.spec is not None and self.spec.ledger is not None and self.spec.ledger.linearizable


@dataclass(frozen=True)
class ServiceData:
    """One service: its journeys and its objectives."""

    name: str
    journeys: Sequence[JourneyData]
    objectives: ExperimentObjectives
    timeline: EventTimeline

    @cached_property
    def clocks(self) -> list[Clock]:
        """Those of all its journeys, by their cause."""
        every = chain.from_iterable(journey.clocks for journey in self.journeys)
        return sorted(every, key=lambda clock: clock.cause.at_ns)

    @cached_property
    def impacts(self) -> dict[str, Impact]:
        """By fault: whether any of its journeys noticed it, or used what its degraded mode allows."""
        seen = impacts(self.clocks_seen, self.timeline)
        judged = impacts(self.clocks, self.timeline)
        used = {fault for fault, impact in judged.items() if impact == "unnoticed" and seen[fault] == "noticed"}
        return judged | dict.fromkeys(used, "degraded")

    @property
    def clocks_seen(self) -> list[Clock]:
        """See `JourneyData.clocks_seen`."""
        return [clock for journey in self.journeys for clock in journey.clocks_seen]

    @cached_property
    def ledgers(self) -> dict[str, Ledger]:
        """By journey, of those that have one."""
        spans = [(clock.cause.at_ns, clock.end_ns) for clock in self.clocks_seen if clock.kind == "rto"]
        found = {journey.name: journey.ledger(spans, self.applied_by_ns) for journey in self.journeys}
        return {name: ledger for name, ledger in found.items() if ledger is not None}

    @cached_property
    def ledger(self) -> Ledger | None:
        """Of all its journeys; None if none has one."""
        return merged([*self.ledgers.values()]) if self.ledgers else None

    @property
    def applied_by_ns(self) -> int:
        """Until when reads may lack queued writes: the failback objective after the last heal.

        Without such an objective, to the end of the observation.
        """
        heal = next((event for event in reversed(self.timeline.events) if event.kind == "heal"), None)
        limit = None if heal is None else tightest(heal, "failback", self.objectives)
        if heal is None or limit is None:
            return self.timeline.end_ns
        return heal.counted_from_ns + round(limit.value * NS_PER_S)

    @cached_property
    def restorations(self) -> list[tuple[Event, list[Clock]]]:
        """Of each heal, the clocks of the journeys that had bad slots after it."""
        found = []
        for heal in self.timeline.heals:
            clocks = (restoration(journey.name, journey.declared, self.timeline, heal) for journey in self.journeys)
            found.append((heal, [clock for clock in clocks if clock is not None]))
        return found

    def seen_after(self, event: Event) -> bool:
        """Whether each journey had a slot between an event and the next one."""
        end_ns = self.timeline.until_next(event)
        return all(journey.counted.numbers(event.at_ns, end_ns) for journey in self.journeys)

    @property
    def linearizable(self) -> bool:
        return any(journey.linearizable for journey in self.journeys)


@dataclass(frozen=True)
class RunData:
    """A run with its experiment, its stack and the objectives of each service."""

    experiment: Experiment
    stack: StackSpec
    record: Record
    objectives: Mapping[str, ExperimentObjectives]

    @cached_property
    def slots(self) -> dict[str, Slots]:
        """Of the journeys that were to be probed, and of those that were."""
        wanted = self.experiment.probe.journeys
        period_ns = round(NS_PER_S / self.experiment.probe.slots_per_s)
        found = {}
        for name in dict.fromkeys([*(self.stack.journeys if wanted is None else wanted), *sorted(self.record.probes)]):
            spec, probed = self.stack.journeys.get(name), self.record.probes.get(name)
            within_s = spec.good.within if spec else _UNKNOWN_WITHIN_S
            slots = probed.slots if probed else Slots()
            found[name] = slots.ordered(period_ns=period_ns, within_ns=round(within_s * NS_PER_S))
        return found

    @cached_property
    def journeys(self) -> dict[str, JourneyData]:
        """Those that were to be probed, and those that were."""
        found = {}
        for name, slots in self.slots.items():
            spec = self.stack.journeys.get(name)
            service = spec.service if spec else self.record.probes[name].service
            mode = mode_of(name, self.objectives.get(service, ExperimentObjectives()))
            found[name] = JourneyData(name, service, spec, self.record, slots, self.timeline, self.changes, mode)
        return found

    @cached_property
    def services(self) -> dict[str, ServiceData]:
        """Those that were to be probed, and those that the experiment itself has objectives for."""
        names = dict.fromkeys([*(journey.service for journey in self.journeys.values()), *self.experiment.objectives])
        found = {}
        for name in names:
            own = [journey for journey in self.journeys.values() if journey.service == name]
            found[name] = ServiceData(name, own, self.objectives.get(name, ExperimentObjectives()), self.timeline)
        return found

    @cached_property
    def timeline(self) -> EventTimeline:
        record = self.record
        actions = schedule(self.experiment.faults, [*self.objectives.values()])
        return EventTimeline.of(
            record.injections,
            record.steps,
            {(action.id, action.verb): action.at_s for action in actions if not action.latest}
            | {(fault.id, "heal"): (RECOVERED, fault.at) for fault in self.experiment.faults if fault.heals_at_recovery},
            end_ns=record.observed_end_ns,
            cut=record.cut_ns is not None or record.decided is not None,
            starved=self.starved,
            planned_change=self.experiment.is_planned_change,
        )

    @cached_property
    def changes(self) -> list[Injection]:
        """The faults that were injected; in a planned change the steps of its timeline, which are what it tests."""
        if not self.experiment.is_planned_change:
            return self.record.injections
        own: dict[tuple[str, str], StepBase] = {(step.id, step.kind): step for step in self.experiment.steps}
        return [
            Injection(
                id=taken.id,
                name=taken.name,
                target=own[taken.id, taken.name].target,
                inject_ns=taken.begin_ns,
                effective_ns=taken.end_ns,
                heal_ns=None,
                healed_ns=None,
                effect_seen=taken.end_ns is not None,
                heal_verified=False,
            )
            for taken in self.record.steps
            if (taken.id, taken.name) in own
        ]

    @property
    def watched_ns(self) -> int:
        """From the first fault to the end of the observation."""
        first_ns = _first_ns(self.changes)
        return 0 if first_ns is None else max(0, self.timeline.end_ns - first_ns)

    def injections_of(self, fault: str) -> list[Injection]:
        """All injections of one fault, including its cycles."""
        return [injection for injection in self.record.injections if base_id(injection.id) == fault]

    @cached_property
    def starved(self) -> list[Starved]:
        """Spans in which the machine was starved, whatever used it."""
        record = self.record
        late_slots: list[tuple[int, int]] = []
        for slots in self.slots.values():
            late_ns = min(slots.period_ns, _LATE_NS_MAX)
            times = zip(slots.due, slots.sent, strict=True)
            late_slots += [(due_ns, sent_ns) for due_ns, sent_ns in times if sent_ns - due_ns > late_ns]
        return starved_spans(
            record.machine,
            steady=(record.steady_begin_ns, record.steady_end_ns),
            booting=self.booting,
            sites=self.stack.sites,
            late_slots=late_slots,
        )

    @property
    def booting(self) -> list[tuple[str, int, int]]:
        """The sites that a fault had taken down, from the heal to some seconds after it was verified."""
        site_of = {fault.id: getattr(fault, "site", None) for fault in self.experiment.faults}
        found = []
        for injection in self.record.injections:
            site, healed_ns = site_of.get(injection.id), injection.healed_ns
            if site is not None and injection.heal_ns is not None:
                end_ns = self.record.last_ns if healed_ns is None else healed_ns + round(AFTER_HEAL_S * NS_PER_S)
                found.append((site, injection.heal_ns, end_ns))
        return found

    @cached_property
    def skewed(self) -> dict[str, float]:
        """By journey, the share of slots that the prober sent late."""
        return shares_skewed(self.record, self.slots, self.experiment.steady_state)


def _first_ns(changes: Sequence[Injection]) -> int | None:
    """When the first of them was called."""
    return changes[0].inject_ns if changes else None
