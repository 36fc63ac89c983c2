"""The rows of the last seconds, while a trial waits for its steady state, which `judge/steady_state` defines."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Condition, Fault, Machine, Probe, Step
from chaoslab.judge.intervals import stable_slots
from chaoslab.judge.slots import Slot, Slots
from chaoslab.judge.steady_state import why_not_steady
from chaoslab.spec.model import ProbeSpec, SteadyState
from chaoslab.spec.stackfile.journey import QUEUED, Journey
from chaoslab.units import format_s


class SteadyWindow:
    """Keeps the rows of the last `hold` seconds, and evaluates them with the judge's function."""

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

    def why_not_steady(self, now_ns: int) -> str | None:
        """Why the last `hold` seconds before `now_ns` were not a steady state; None if they were."""
        before_ns = now_ns - round(self._spec.hold * NS_PER_S)
        for rows in self._seen.values():
            while rows and rows[0].due_ns < before_ns:
                rows.popleft()
        while self._machine and self._machine[0].t_ns < before_ns:
            self._machine.popleft()
        journeys = {
            name: Slots(
                sorted(Slot(row.due_ns, row.sent_ns, row.end_ns, row.good) for row in rows),
                period_ns=self._period_ns,
                within_ns=self._within_ns[name],
            )
            for name, rows in self._seen.items()
        }
        conditions = sorted(self._conditions.values(), key=lambda row: row.t_ns)
        return "; ".join(why_not_steady(journeys, conditions, self._machine, self._spec, now_ns)) or None

    def never_good(self) -> str:
        """For each journey without a good answer in this time: what users get instead, and where to correct it."""
        found = []
        for name, rows in self._seen.items():
            if rows and not any(row.good for row in rows):
                took_s = format_s((rows[-1].end_ns - rows[-1].due_ns) / NS_PER_S)
                answer = rows[-1].error or (f"status {rows[-1].status}" if rows[-1].status else "no answer")
                found.append(
                    f"; {name} last got {answer} after {took_s}: see its `request` and `good` under journeys of the stack"
                )
        return "".join(found)


class Served:
    """For how long users have been served. Takes the slots of all journeys, and the events that disturb them.

    `enough_s`: how long they must have been served before a step may disturb them, or the run may end.
    """

    def __init__(self, probe: ProbeSpec, journeys: Mapping[str, Journey], queued: Collection[str] = ()) -> None:
        """`journeys`: all of the stack's; `queued`: those for which a 202 means degraded service."""
        self._queued = queued
        stable_s = stable_slots(round(NS_PER_S / probe.slots_per_s)) / probe.slots_per_s
        timeouts_s = [probe.timeout or journey.timeout for journey in journeys.values()]
        hidden_s = max(timeouts_s, default=0.0)  # a slot that hangs has no row yet
        self.enough_s = max(stable_s, hidden_s)
        self._last_bad_ns = 0
        self._last_event_ns = 0

    def add(self, row: Probe | Fault | Step) -> None:
        if not isinstance(row, Probe):
            self._last_event_ns = max(self._last_event_ns, row.t_ns)
        elif not row.good or (row.status == QUEUED and row.journey in self._queued):
            self._last_bad_ns = max(self._last_bad_ns, row.due_ns)

    def long_enough(self, now_ns: int) -> bool:
        """Whether a step may disturb them."""
        return now_ns - self._last_bad_ns > self.enough_s * NS_PER_S

    def undisturbed_s(self, now_ns: int) -> float:
        """Seconds since the last bad slot, and since the last event of a fault or a step."""
        return (now_ns - max(self._last_bad_ns, self._last_event_ns)) / NS_PER_S
