"""One run as a case to judge: its journeys and services with what was measured of each, worked out when asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from chaoslab.buckets import Ledger, ledger_of, together
from chaoslab.clock import NS_PER_S
from chaoslab.clocks import AFTER_HEAL_S, Clock, Look, Notice, Script, base_id, flaps, notices, run_clocks, settled
from chaoslab.losses import Span
from chaoslab.measure import outages, skewed
from chaoslab.premises import shares_late
from chaoslab.record import Injection, Record
from chaoslab.result import Outage
from chaoslab.schedule import schedule
from chaoslab.slots import Slots
from chaoslab.spec.model import Experiment, ExperimentObjectives, Good, Journey, StackSpec
from chaoslab.starvation import Starved, starved_spans
from chaoslab.writes import Writes

_UNKNOWN_WITHIN_S = Good().within
_LEAD_NS = 3 * NS_PER_S  # looked at before the fault, for the last good slot before an outage
_LATE_NS_MAX = NS_PER_S // 20  # a slot sent later than this, or than its period, makes its second a starved one


@dataclass(frozen=True)
class JourneyCase:
    """One journey of the run. `spec` is None for one that the stack does not know."""

    name: str
    service: str
    spec: Journey | None
    record: Record
    slots: Slots
    look: Look

    @cached_property
    def clocks(self) -> list[Clock]:
        return run_clocks(self.name, self.settled, self.look)

    @cached_property
    def settled(self) -> Slots:
        """The slots as they count for clocks."""
        return settled(self.slots, self.look)

    @cached_property
    def since_fault(self) -> Slots:
        """From the first fault to the end; nothing where nothing was injected."""
        first_ns = self.record.first_inject_ns
        return self.slots.due_in(0, 0) if first_ns is None else self.slots.decided_in(first_ns, self.look.end_ns)

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
        """Share of good slots since the first fault; 0 where there are none."""
        return 1 - self.bad / len(self.since_fault) if len(self.since_fault) else 0.0

    @cached_property
    def availability_range(self) -> tuple[float, float]:
        """The share of good slots with those of starved seconds as bad, and as good."""
        seen = self.since_fault
        doubtful = {n for one in self.look.starved for n in seen.numbers(one.begin_ns, one.end_ns)}
        bad = sum(not seen.good[number] for number in doubtful)
        total = len(seen) or 1
        return (len(seen) - self.bad - (len(doubtful) - bad)) / total, (len(seen) - self.bad + bad) / total

    @cached_property
    def flaps(self) -> int:
        """How often it was bad for one slot alone, or went bad again after a stable run of good slots with no event between."""
        return flaps(self.settled, self.look) + sum(clock.relapses for clock in self.clocks)

    @cached_property
    def outages(self) -> list[Outage]:
        """Those that reached into the time since the first fault."""
        first_ns = self.record.first_inject_ns
        if first_ns is None:
            return []
        seen = self.slots.decided_in(first_ns - _LEAD_NS, self.look.end_ns)
        return outages(seen, since_ns=first_ns, origin_ns=self.record.first_ns)

    def ledger(self, outages: Sequence[Span]) -> Ledger | None:
        """The writes in buckets; None for a journey that keeps no ledger. `outages`: when an RTO clock of its service ran."""
        if self.spec is None or self.spec.ledger is None:
            return None
        record = self.record
        writes = record.probes[self.name].writes if self.name in record.probes else Writes(record.ids)
        return ledger_of(writes, record.reads.get(self.name, ()), record.injections, outages)

    @property
    def linearizable(self) -> bool:
        return self.spec is not None and self.spec.ledger is not None and self.spec.ledger.linearizable


@dataclass(frozen=True)
class ServiceCase:
    """One service: its journeys, and what it owes."""

    name: str
    journeys: Sequence[JourneyCase]
    objectives: ExperimentObjectives
    look: Look

    @cached_property
    def clocks(self) -> list[Clock]:
        """Those of all its journeys, by their cause."""
        every = chain.from_iterable(journey.clocks for journey in self.journeys)
        return sorted(every, key=lambda clock: clock.cause.at_ns)

    @cached_property
    def notices(self) -> dict[str, Notice]:
        """By fault: whether any of its journeys noticed it."""
        return notices(self.clocks, self.look)

    @cached_property
    def ledger(self) -> Ledger | None:
        outages = [(clock.cause.at_ns, clock.end_ns) for clock in self.clocks if clock.kind == "rto"]
        ledgers = [journey.ledger(outages) for journey in self.journeys]
        kept = [ledger for ledger in ledgers if ledger is not None]
        return together(kept) if kept else None

    @property
    def linearizable(self) -> bool:
        return any(journey.linearizable for journey in self.journeys)


@dataclass(frozen=True)
class Case:
    """A run with its script and its stack."""

    experiment: Experiment
    stack: StackSpec
    record: Record
    objectives: Mapping[str, ExperimentObjectives]

    @cached_property
    def journeys(self) -> dict[str, JourneyCase]:
        """Those that had to be probed, and those that were."""
        return {name: self._journey(name) for name in self.slots}

    @cached_property
    def services(self) -> dict[str, ServiceCase]:
        """Those that were to be probed, and those that the experiment itself speaks of."""
        names = dict.fromkeys([*(journey.service for journey in self.journeys.values()), *self.experiment.objectives])
        return {name: self._service(name) for name in names}

    @cached_property
    def look(self) -> Look:
        record = self.record
        return Look.of(
            record.injections,
            record.steps,
            _script(self.experiment, [*self.objectives.values()]),
            end_ns=record.observed_end_ns,
            cut=record.cut_ns is not None,
            starved=self.starved,
        )

    @property
    def watched_ns(self) -> int:
        """From the first fault to the end of the look."""
        first_ns = self.record.first_inject_ns
        return 0 if first_ns is None else max(0, self.look.end_ns - first_ns)

    def injections_of(self, fault: str) -> list[Injection]:
        """All injections of one fault, its cycles counted in."""
        return [one for one in self.record.injections if base_id(one.id) == fault]

    @cached_property
    def starved(self) -> list[Starved]:
        """Spans in which the machine did not serve, whoever had it."""
        record = self.record
        return starved_spans(
            record.machine,
            steady=(record.steady_begin_ns, record.steady_end_ns),
            booting=_booting(record, self.experiment),
            sites=self.stack.sites,
            late_slots=[one for slots in self.slots.values() for one in _sent_late(slots)],
        )

    @cached_property
    def late(self) -> dict[str, float]:
        """By journey, the share of slots that the prober sent late."""
        return shares_late(self.record, self.slots, self.experiment.steady_state)

    @cached_property
    def slots(self) -> dict[str, Slots]:
        """Of the journeys that had to be probed, and of those that were."""
        wanted = self.experiment.probe.journeys
        names = dict.fromkeys([*(self.stack.journeys if wanted is None else wanted), *sorted(self.record.probes)])
        return {name: self._slots(name) for name in names}

    def _slots(self, name: str) -> Slots:
        spec, probed = self.stack.journeys.get(name), self.record.probes.get(name)
        within_s = spec.good.within if spec else _UNKNOWN_WITHIN_S
        period_ns = round(NS_PER_S / self.experiment.probe.slots_per_s)
        return (probed.slots if probed else Slots()).ordered(period_ns=period_ns, within_ns=round(within_s * NS_PER_S))

    def _service(self, name: str) -> ServiceCase:
        own = [journey for journey in self.journeys.values() if journey.service == name]
        return ServiceCase(name, own, self.objectives.get(name, ExperimentObjectives()), self.look)

    def _journey(self, name: str) -> JourneyCase:
        spec = self.stack.journeys.get(name)
        service = spec.service if spec else self.record.probes[name].service
        return JourneyCase(name, service, spec, self.record, self.slots[name], self.look)


def _script(experiment: Experiment, objectives: Sequence[ExperimentObjectives]) -> Script:
    return {(action.fault_id, action.verb): action.at_s for action in schedule(experiment.timeline, objectives)}


def _booting(record: Record, experiment: Experiment) -> list[tuple[str, int, int]]:
    """The sites that a fault had taken, from the heal to some seconds after it was seen whole."""
    site_of = {fault.id: getattr(fault, "site", None) for fault in experiment.timeline}
    found = []
    for one in record.injections:
        site = site_of.get(one.id)
        if site is not None and one.heal_ns is not None:
            end_ns = record.last_ns if one.healed_ns is None else one.healed_ns + round(AFTER_HEAL_S * NS_PER_S)
            found.append((site, one.heal_ns, end_ns))
    return found


def _sent_late(slots: Slots) -> list[tuple[int, int]]:
    """Due and sent of the slots that went out too late."""
    limit_ns = min(slots.period_ns, _LATE_NS_MAX)
    return [(due, sent) for due, sent in zip(slots.due, slots.sent, strict=True) if sent - due > limit_ns]
