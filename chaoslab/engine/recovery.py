"""The slots of a trial while a fault waits for recovery, which `judge/recovered` defines."""

from __future__ import annotations

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Probe
from chaoslab.judge.recovered import UnhealedFault, why_not_recovered
from chaoslab.judge.slots import Slots
from chaoslab.spec.model import Experiment
from chaoslab.spec.objectives import mode_of, objectives_for, under_fault
from chaoslab.spec.stackfile.journey import QUEUED
from chaoslab.spec.stackfile.model import Mode, StackSpec


class Recovery:
    """Keeps the slots of the services that are probed, and evaluates them with the judge's function."""

    def __init__(self, experiment: Experiment, stack: StackSpec) -> None:
        self._hold_s = experiment.steady_state.hold
        self._objectives = objectives_for(experiment, stack)
        self._services: dict[str, dict[str, Slots]] = {}
        self._modes: dict[str, Mode] = {}  # by journey
        self._queued_ns: dict[str, int] = {}  # by service
        period_ns = round(NS_PER_S / experiment.probe.slots_per_s)
        for name in stack.journeys if experiment.probe.journeys is None else experiment.probe.journeys:
            journey = stack.journeys[name]
            slots = Slots(period_ns=period_ns, within_ns=round(journey.good.within * NS_PER_S))
            self._services.setdefault(journey.service, {})[name] = slots
            self._modes[name] = mode_of(name, self._objectives[journey.service])

    def add(self, row: Probe) -> None:
        """Take a slot since the faults began, in any order."""
        if (slots := self._services.get(row.service, {}).get(row.journey)) is not None:
            slots.add(row.due_ns, row.sent_ns, row.end_ns, row.good)
            if row.status == QUEUED and self._modes[row.journey] == "queued":
                self._queued_ns[row.service] = max(row.end_ns, self._queued_ns.get(row.service, 0))

    def why_not_yet(self, fault: UnhealedFault, now_ns: int) -> str | None:
        """Why a fault must not be healed yet, in words; None once every service with an RTO under it is back or missed it."""
        for service, journeys in self._services.items():
            for slots in journeys.values():
                slots.sort()
            promised = under_fault(self._objectives[service], fault.id)
            why = why_not_recovered(
                journeys,
                promised,
                fault,
                self._hold_s,
                now_ns,
                may_fail=[name for name in journeys if self._modes[name] == "allowed"],
                queued_ns=self._queued_ns.get(service),
            )
            if why is not None:
                return why
        return None
