"""One run as a case to judge: its journeys and services with what was measured of each, worked out when asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from chaoslab.buckets import Ledger, ledger_of, together
from chaoslab.events import LedgerRead, Probe
from chaoslab.measure import NS_PER_S, Recovery, Slots, outages, recoveries, recovery, skewed
from chaoslab.premises import shares_late
from chaoslab.record import Record
from chaoslab.result import Outage
from chaoslab.spec.model import Experiment, Good, Journey, Objectives, StackSpec

_UNKNOWN_WITHIN_S = Good().within
_LEAD_NS = 3 * NS_PER_S  # looked at before the fault, for the last good slot before an outage


@dataclass(frozen=True)
class JourneyCase:
    """One journey of the run. `spec` is None for one that the stack does not know."""

    name: str
    service: str
    spec: Journey | None
    record: Record
    slots: Slots

    @cached_property
    def under_faults(self) -> list[Recovery]:
        return recoveries(self.slots, self.record.fault_windows())

    @cached_property
    def under_failback(self) -> list[Recovery]:
        return [recovery(self.slots, window) for window in self.record.failback_windows()]

    @cached_property
    def since_fault(self) -> Sequence[Probe]:
        """From the first fault to the end; nothing where nothing was injected."""
        first_ns = self.record.first_inject_ns
        return [] if first_ns is None else self.slots.decided_in(first_ns, self.record.observed_end_ns)

    @cached_property
    def bad(self) -> int:
        """Bad slots since the first fault."""
        return sum(not slot.good for slot in self.since_fault)

    @cached_property
    def skewed(self) -> int:
        """Slots since the first fault that were sent late."""
        return skewed(self.since_fault, self.slots.period_ns)

    @property
    def availability(self) -> float:
        """Share of good slots since the first fault; 0 where there are none."""
        return 1 - self.bad / len(self.since_fault) if self.since_fault else 0.0

    @cached_property
    def outages(self) -> list[Outage]:
        """Those that reached into the time since the first fault."""
        first_ns = self.record.first_inject_ns
        if first_ns is None:
            return []
        seen = self.slots.decided_in(first_ns - _LEAD_NS, self.record.observed_end_ns)
        return outages(seen, period_ns=self.slots.period_ns, since_ns=first_ns, origin_ns=self.record.first_ns)

    @cached_property
    def ledger(self) -> Ledger | None:
        """The writes in buckets; None for a journey that keeps no ledger."""
        if self.spec is None or self.spec.ledger is None:
            return None
        return ledger_of(self.record.probes.get(self.name, []), self._reads, self.record.injections)

    @property
    def linearizable(self) -> bool:
        return self.spec is not None and self.spec.ledger is not None and self.spec.ledger.linearizable

    @property
    def _reads(self) -> list[LedgerRead]:
        return [read for read in self.record.reads if read.journey == self.name]


@dataclass(frozen=True)
class ServiceCase:
    """One service: its journeys, and what it owes."""

    name: str
    journeys: Sequence[JourneyCase]
    objectives: Objectives

    @cached_property
    def ledger(self) -> Ledger | None:
        ledgers = [journey.ledger for journey in self.journeys]
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
    objectives: Mapping[str, Objectives]

    @cached_property
    def journeys(self) -> dict[str, JourneyCase]:
        """Those that had to be probed, and those that were."""
        wanted = self.experiment.probe.journeys
        names = dict.fromkeys([*(self.stack.journeys if wanted is None else wanted), *sorted(self.record.probes)])
        return {name: self._journey(name) for name in names}

    @cached_property
    def services(self) -> dict[str, ServiceCase]:
        """Those that were to be probed, and those that the experiment itself speaks of."""
        names = dict.fromkeys([*(journey.service for journey in self.journeys.values()), *self.experiment.objectives])
        return {name: self._service(name) for name in names}

    @cached_property
    def late(self) -> dict[str, float]:
        """By journey, the share of slots that the prober sent late."""
        return shares_late(self.record, self.slots, self.experiment.steady_state)

    @cached_property
    def slots(self) -> dict[str, Slots]:
        return {name: journey.slots for name, journey in self.journeys.items()}

    def _service(self, name: str) -> ServiceCase:
        own = [journey for journey in self.journeys.values() if journey.service == name]
        return ServiceCase(name, own, self.objectives.get(name, Objectives()))

    def _journey(self, name: str) -> JourneyCase:
        spec = self.stack.journeys.get(name)
        seen = self.record.probes.get(name, [])
        within_s = spec.good.within if spec else _UNKNOWN_WITHIN_S
        period_ns = round(NS_PER_S / self.experiment.probe.slots_per_s)
        slots = Slots(seen, period_ns=period_ns, within_ns=round(within_s * NS_PER_S))
        return JourneyCase(name, spec.service if spec else seen[0].service, spec, self.record, slots)
