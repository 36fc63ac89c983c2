"""The steady state as it is lived through: the rows of the last seconds, for the function that the judge asks, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from chaoslab.baseline import troubles
from chaoslab.clock import NS_PER_S
from chaoslab.events import Condition, Machine, Probe
from chaoslab.slots import Slot, Slots
from chaoslab.spec.model import Journey, ProbeSpec, SteadyState


class SteadyWindow:
    """Rolling window of `hold` seconds. Feed it rows; `trouble` says why there is no steady state yet, or None."""

    def __init__(self, spec: SteadyState, probe: ProbeSpec, journeys: Mapping[str, Journey]) -> None:
        """`journeys`: all of the stack's."""
        self._spec = spec
        self._period_ns = round(NS_PER_S / probe.slots_per_s)
        wanted = journeys if probe.journeys is None else probe.journeys
        self._within_ns = {name: round(journeys[name].good.within * NS_PER_S) for name in wanted}
        self._seen: dict[str, deque[Probe]] = {name: deque() for name in wanted}
        self._conditions: dict[tuple[str, str], Condition] = {}
        self._machine: deque[Machine] = deque()

    def add(self, row: Probe | Condition | Machine) -> None:
        if isinstance(row, Condition):
            self._conditions[row.id, row.role] = row
        elif isinstance(row, Machine):
            self._machine.append(row)
        elif row.journey in self._seen:
            self._seen[row.journey].append(row)

    def trouble(self, now_ns: int) -> str | None:
        """Why the last `hold` seconds before `now_ns` are no steady state; None when they are."""
        self._forget(now_ns - round(self._spec.hold * NS_PER_S))
        conditions = sorted(self._conditions.values(), key=lambda row: row.t_ns)
        journeys = {name: self._slots(name) for name in self._seen}
        found = troubles(journeys, conditions, self._machine, self._spec, now_ns)
        return "; ".join(found) or None

    def _forget(self, before_ns: int) -> None:
        for slots in self._seen.values():
            while slots and slots[0].due_ns < before_ns:
                slots.popleft()
        while self._machine and self._machine[0].t_ns < before_ns:
            self._machine.popleft()

    def _slots(self, name: str) -> Slots:
        in_order = sorted(Slot(row.due_ns, row.sent_ns, row.end_ns, row.good) for row in self._seen[name])
        return Slots(in_order, period_ns=self._period_ns, within_ns=self._within_ns[name])
