"""What is going on right now, worked out from the rows of a run as they appear. Pure but for the clock it is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from chaoslab.clock import NS_PER_S, SYSTEM, Clock
from chaoslab.events import Anchor, AnyRow, Fault, Load, Machine, Phase, PhaseRow, Probe
from chaoslab.starvation import in_words

State = Literal["up", "degraded", "down", "unknown"]
FaultState = Literal["inject", "effective", "ineffective", "heal", "healed", "unhealed"]

WINDOW_S = 1.0
_UP_FROM = 0.95  # one unlucky slot in fifty is not worth a line
_DOWN_BELOW = 0.5
_LOAD_STALE_S = 3.0
_MACHINE_STALE_S = 2.0
_PROBED: tuple[Phase, ...] = ("steady", "faults", "failback")  # else silence would read as an outage
_WORST_FIRST: tuple[State, ...] = ("down", "degraded", "unknown", "up")


@dataclass(frozen=True)
class ServiceNow:
    """One service over the last second, as its worst journey. `since_s`: how long it has been in this state."""

    good_share: float | None
    slots: int
    p95_ms: float | None
    state: State
    since_s: float = 0.0


@dataclass(frozen=True)
class FaultNow:
    """Where a fault stands. `since_s`: since its last event."""

    name: str
    target: str
    state: FaultState
    since_s: float


@dataclass(frozen=True)
class Status:
    """One look at a run. `left_s` is what remains of the phase, `phase_length_s` all of it; None when it has no set length.

    `phase` is None before the first, when `begun` is False, and after one that was cut short.

    `services` is empty while nothing is probed. `starved`: how late a machine that is starved is, and who has it.
    """

    phase: Phase | None
    elapsed_s: float
    left_s: float | None
    phase_length_s: float | None
    services: Mapping[str, ServiceNow]
    faults: Mapping[str, FaultNow]
    users: int
    rps: float
    failures_per_s: float
    begun: bool = True
    starved: str | None = None


@dataclass
class _Journey:
    service: str
    recent: deque[tuple[int, bool, float]] = field(default_factory=deque)  # end, good, latency in ms

    def now(self, since_ns: int) -> ServiceNow:
        while self.recent and self.recent[0][0] < since_ns:
            self.recent.popleft()
        slots = len(self.recent)
        if not slots:  # it has answered before: silence is the sign of a hang
            return ServiceNow(None, 0, None, "down")
        share = sum(good for _, good, _ in self.recent) / slots
        latencies = sorted(latency for _, good, latency in self.recent if good)
        p95 = latencies[min(len(latencies) - 1, int(len(latencies) * 0.95))] if latencies else None
        return ServiceNow(share, slots, p95, _state_of(share))


class StatusTracker:
    """Feed it rows with `row`, ask it for a `status`. A phase's length comes from its begin row's `detail["planned_s"]`."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._start_ns: int | None = None
        self._phase: PhaseRow | None = None
        self._begun = False
        self._load: Load | None = None
        self._machine: Machine | None = None
        self._journeys: dict[str, _Journey] = {}
        self._faults: dict[str, Fault] = {}
        self._states: dict[str, tuple[State, int]] = {}

    def row(self, row: AnyRow) -> None:
        """Take one row in."""
        if self._start_ns is None or isinstance(row, Anchor):
            self._start_ns = row.t_ns
        if isinstance(row, Probe):
            journey = self._journeys.setdefault(row.journey, _Journey(row.service))
            journey.recent.append((row.end_ns, row.good, (row.end_ns - row.due_ns) / 1e6))
        elif isinstance(row, PhaseRow):
            self._phase, self._begun = (row if row.event == "begin" else None), True
        elif isinstance(row, Fault):
            self._faults[row.id.partition("#")[0]] = row  # the cycles of a fault are one line
        elif isinstance(row, Load):
            self._load = row
        elif isinstance(row, Machine):
            self._machine = row

    def status(self) -> Status:
        """How things stand at this instant of the clock."""
        now_ns = self._clock.now_ns()
        load = self._load if self._load and _since_s(self._load.t_ns, now_ns) <= _LOAD_STALE_S else None
        return Status(
            phase=self._phase.phase if self._phase else None,
            elapsed_s=_since_s(self._start_ns, now_ns) if self._start_ns is not None else 0.0,
            left_s=self._left_s(now_ns),
            phase_length_s=self._planned_s,
            services=self._services(now_ns),
            faults={
                id_: FaultNow(row.name, row.target, row.event, _since_s(row.t_ns, now_ns)) for id_, row in self._faults.items()
            },
            users=load.users if load else 0,
            rps=float(load.requests) if load else 0.0,
            failures_per_s=float(load.failures) if load else 0.0,
            begun=self._begun,
            starved=self._starved(now_ns),
        )

    def _starved(self, now_ns: int) -> str | None:
        row = self._machine
        return in_words(row) if row and row.starved and _since_s(row.t_ns, now_ns) <= _MACHINE_STALE_S else None

    @property
    def _planned_s(self) -> float | None:
        planned_s = self._phase.detail.get("planned_s") if self._phase else None
        return float(planned_s) if isinstance(planned_s, int | float) else None

    def _left_s(self, now_ns: int) -> float | None:
        if self._phase is None or self._planned_s is None:
            return None
        return max(0.0, self._planned_s - _since_s(self._phase.t_ns, now_ns))

    def _services(self, now_ns: int) -> dict[str, ServiceNow]:
        if self._begun and (self._phase is None or self._phase.phase not in _PROBED):
            return {}
        by_service: dict[str, list[ServiceNow]] = {}
        for journey in self._journeys.values():
            by_service.setdefault(journey.service, []).append(journey.now(now_ns - round(WINDOW_S * NS_PER_S)))
        return {service: self._aged(service, _worst(journeys), now_ns) for service, journeys in sorted(by_service.items())}

    def _aged(self, service: str, now: ServiceNow, now_ns: int) -> ServiceNow:
        state, since_ns = self._states.get(service, (None, now_ns))
        if state != now.state:
            since_ns = now_ns
            self._states[service] = (now.state, now_ns)
        return ServiceNow(now.good_share, now.slots, now.p95_ms, now.state, _since_s(since_ns, now_ns))


def _worst(journeys: list[ServiceNow]) -> ServiceNow:
    worst = min(journeys, key=lambda now: (_WORST_FIRST.index(now.state), now.good_share or 0.0))
    slowest = [now.p95_ms for now in journeys if now.p95_ms is not None]
    return ServiceNow(worst.good_share, sum(now.slots for now in journeys), max(slowest, default=None), worst.state)


def _state_of(share: float) -> State:
    return "up" if share >= _UP_FROM else "degraded" if share >= _DOWN_BELOW else "down"


def _since_s(then_ns: int, now_ns: int) -> float:
    return (now_ns - then_ns) / NS_PER_S
