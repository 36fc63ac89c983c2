"""The current state of a run, derived from its rows as they appear. Pure except for its clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from chaoslab.clock import NS_PER_MS, NS_PER_S, SYSTEM, Clock
from chaoslab.history.rows import Anchor, AnyRow, Fault, Load, Machine, Phase, PhaseRow, Probe, Step
from chaoslab.judge.starvation import in_words

State = Literal["up", "degraded", "down", "unknown"]
FaultState = Literal["inject", "effective", "ineffective", "heal", "reconnected", "healed", "unhealed"]

WINDOW_S = 1.0
_UP_FROM = 0.95  # one bad slot in fifty is not reported
_DOWN_BELOW = 0.5
_LOAD_STALE_S = 3.0
_MACHINE_STALE_S = 2.0
_PROBED: tuple[Phase, ...] = ("steady", "faults", "failback")  # in other phases, silence is not an outage
_WORST_FIRST: tuple[State, ...] = ("down", "degraded", "unknown", "up")


@dataclass(frozen=True)
class ServiceNow:
    """One service over the last second, by its worst journey. `since_s`: how long it has been in this state."""

    good_share: float | None
    slots: int
    p95_ms: float | None
    state: State
    since_s: float = 0.0


@dataclass(frozen=True)
class FaultNow:
    """The state of a fault. `since_s`: since its last event."""

    name: str
    target: str
    state: FaultState
    since_s: float


@dataclass(frozen=True)
class StepNow:
    """A running step; `since_s`: for how long."""

    name: str
    what: str
    since_s: float


@dataclass(frozen=True)
class Status:
    """A snapshot of a run. `left_s` is what remains of the phase, `phase_length_s` all of it; None when it has no set length.

    `at_most`: the phase is over earlier when the services are back.

    `phase` is None before the first, when `begun` is False, and after one that was cut short.

    `services` is empty while nothing is probed. `starved`: when the machine is starved, how late it is and what uses it.
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
    steps: Mapping[str, StepNow] = field(default_factory=dict)
    at_most: bool = False


@dataclass
class _Journey:
    service: str
    recent: deque[tuple[int, bool, float]] = field(default_factory=deque)  # end, good, latency in ms

    def now(self, since_ns: int) -> ServiceNow:
        while self.recent and self.recent[0][0] < since_ns:
            self.recent.popleft()
        slots = len(self.recent)
        if not slots:  # it has answered before, so silence means that it hangs
            return ServiceNow(None, 0, None, "down")
        share = sum(good for _, good, _ in self.recent) / slots
        latencies = sorted(latency for _, good, latency in self.recent if good)
        p95 = latencies[min(len(latencies) - 1, int(len(latencies) * 0.95))] if latencies else None
        return ServiceNow(share, slots, p95, "up" if share >= _UP_FROM else "degraded" if share >= _DOWN_BELOW else "down")


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
        self._steps: dict[str, Step] = {}  # those under way
        self._states: dict[str, tuple[State, int]] = {}

    def row(self, row: AnyRow) -> None:
        """Take one row in."""
        if self._start_ns is None or isinstance(row, Anchor):
            self._start_ns = row.t_ns
        if isinstance(row, Probe):
            journey = self._journeys.setdefault(row.journey, _Journey(row.service))
            journey.recent.append((row.end_ns, row.good, (row.end_ns - row.due_ns) / NS_PER_MS))
        elif isinstance(row, PhaseRow):
            self._phase, self._begun = (row if row.event == "begin" else None), True
        elif isinstance(row, Fault):
            self._faults[row.id.partition("#")[0]] = row  # the cycles of a fault are one line
        elif isinstance(row, Step) and row.event == "begin":
            self._steps[row.id] = row
        elif isinstance(row, Step) and row.event in ("end", "failed"):
            self._steps.pop(row.id, None)
        elif isinstance(row, Load):
            self._load = row
        elif isinstance(row, Machine):
            self._machine = row

    def status(self) -> Status:
        """The state at this instant of the clock."""
        now_ns = self._clock.now_ns()
        load = self._load if self._load and _since_s(self._load.t_ns, now_ns) <= _LOAD_STALE_S else None
        machine = self._machine if self._machine and _since_s(self._machine.t_ns, now_ns) <= _MACHINE_STALE_S else None
        planned = self._phase.detail.get("planned_s") if self._phase else None
        planned_s = float(planned) if isinstance(planned, int | float) else None
        left_s = None
        if self._phase and planned_s is not None:
            left_s = max(0.0, planned_s - _since_s(self._phase.t_ns, now_ns))
        return Status(
            phase=self._phase.phase if self._phase else None,
            elapsed_s=_since_s(self._start_ns, now_ns) if self._start_ns is not None else 0.0,
            left_s=left_s,
            phase_length_s=planned_s,
            services=self._services(now_ns),
            faults={
                id_: FaultNow(row.name, row.target, row.event, _since_s(row.t_ns, now_ns)) for id_, row in self._faults.items()
            },
            users=load.users if load else 0,
            rps=float(load.requests) if load else 0.0,
            failures_per_s=float(load.failures) if load else 0.0,
            begun=self._begun,
            starved=in_words(machine) if machine and machine.starved else None,
            steps={
                id_: StepNow(row.name, str(row.detail.get("target", "")), _since_s(row.t_ns, now_ns))
                for id_, row in self._steps.items()
            },
            at_most=self._phase is not None and bool(self._phase.detail.get("at_most")),
        )

    def _services(self, now_ns: int) -> dict[str, ServiceNow]:
        """Each service by its worst journey, with the slowest journey's p95 and the slots of all."""
        if self._begun and (self._phase is None or self._phase.phase not in _PROBED):
            return {}
        by_service: dict[str, list[ServiceNow]] = {}
        for journey in self._journeys.values():
            by_service.setdefault(journey.service, []).append(journey.now(now_ns - round(WINDOW_S * NS_PER_S)))
        found = {}
        for service, journeys in sorted(by_service.items()):
            worst = min(journeys, key=lambda now: (_WORST_FIRST.index(now.state), now.good_share or 0.0))
            p95_ms = max((now.p95_ms for now in journeys if now.p95_ms is not None), default=None)
            state, since_ns = self._states.get(service, (None, now_ns))
            if state != worst.state:
                since_ns = now_ns
                self._states[service] = (worst.state, since_ns)
            slots = sum(now.slots for now in journeys)
            found[service] = ServiceNow(worst.good_share, slots, p95_ms, worst.state, _since_s(since_ns, now_ns))
        return found


def _since_s(then_ns: int, now_ns: int) -> float:
    return (now_ns - then_ns) / NS_PER_S
