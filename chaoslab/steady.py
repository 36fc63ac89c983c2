"""The steady state as it is lived through: the last seconds of every journey against the thresholds."""

from __future__ import annotations

from collections import defaultdict, deque

from chaoslab.clock import NS_PER_S
from chaoslab.events import Probe
from chaoslab.spec.model import ProbeSpec, SteadyState

_ENOUGH = 0.9  # of the slots that `hold` seconds should have; less means that the prober stalls


class SteadyWindow:
    """Rolling window of `hold` seconds. Feed it probe rows; `trouble` says why there is no steady state yet, or None."""

    def __init__(self, spec: SteadyState, probe: ProbeSpec) -> None:
        self._spec = spec
        self._rate = probe.slots_per_s
        self._slots: dict[str, deque[Probe]] = defaultdict(deque)
        self._first_due_ns: dict[str, int] = {}

    def add(self, row: Probe) -> None:
        self._slots[row.journey].append(row)
        self._first_due_ns.setdefault(row.journey, row.due_ns)

    def trouble(self, now_ns: int) -> str | None:
        """Why the last `hold` seconds before `now_ns` are no steady state; None when they are."""
        if not self._slots:
            return "the prober has sent nothing yet"
        since_ns = now_ns - round(self._spec.hold * NS_PER_S)
        return next((why for name in self._slots if (why := self._trouble_of(name, since_ns)) is not None), None)

    def _trouble_of(self, name: str, since_ns: int) -> str | None:
        slots = self._slots[name]
        while slots and slots[0].due_ns < since_ns:
            slots.popleft()
        if self._first_due_ns[name] > since_ns or len(slots) < self._rate * self._spec.hold * _ENOUGH:
            return f"{name}: {len(slots)} slots in the last {self._spec.hold:.0f} s, too few yet"
        limits = self._spec.journeys
        good = [slot for slot in slots if slot.good]
        share = len(good) / len(slots)
        if limits.good is not None and not limits.good.holds(share):
            return f"{name}: {share:.2%} of slots are good, wanted {limits.good}"
        p95_s = sorted(slot.end_ns - slot.due_ns for slot in slots)[int(len(slots) * 0.95)] / NS_PER_S
        if limits.p95 is not None and not limits.p95.holds(p95_s):
            return f"{name}: p95 is {p95_s * 1000:.0f} ms, wanted {limits.p95}"
        return None
