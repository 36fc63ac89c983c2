"""Faults of one service's replicas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from chaoslab.cleanup.journal import AnyStep
from chaoslab.clock import SYSTEM, Clock, Deadline, wait_until
from chaoslab.errors import FaultNotEffective
from chaoslab.faults import proof
from chaoslab.faults.base import Proof
from chaoslab.faults.boot import held_back
from chaoslab.faults.proof import Before, alive_before, prove_back, prove_down
from chaoslab.faults.targets import EMPTY, UNKNOWN, check_service
from chaoslab.spec.fault import CALL_TIMEOUT_S, CallLimits, FaultBase, Touched
from chaoslab.spec.fault_types import FaultType
from chaoslab.spec.stackfile.topology import Topology
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.quantities import Ratio, Seconds
from chaoslab.spec.yaml.report import Report
from chaoslab.stack.protocol import CanStop, CanThrottle, Stack


class ReplicaFault(FaultBase):
    """A fault of a service's replicas, in one site or in all."""

    service: str
    site: str | None = None  # None: in every site
    target_fields: ClassVar[tuple[str, ...]] = ("service", "site")

    def check(self, topology: Topology, report: Report) -> None:
        if not check_service(self.service, topology, report, has_site=True) or self.site is None:
            return
        if self.site not in topology.places:
            report(("site",), f"unknown site {self.site!r}{suggest(self.site, topology.places)}", UNKNOWN)
        elif not topology.of_service(self.service, self.site):
            places = ", ".join(dict.fromkeys(replica.site for replica in topology.of_service(self.service)))
            message = f"service {self.service!r} has no replica in {self.site}; it runs in {places}"
            report(("site",), message, EMPTY)

    def touches(self, topology: Topology) -> Touched:
        return Touched(replicas=frozenset(replica.name for replica in topology.of_service(self.service, self.site)))

    def shares_replicas_with(self, other: ReplicaFault) -> bool:
        """Whether any replica is a target of both."""
        return self.service == other.service and (self.site == other.site or None in (self.site, other.site))


class ServiceKill(ReplicaFault):
    """SIGKILL; the network stays up, so peers see a FIN immediately."""

    fault: Literal["service.kill"]
    in_words: ClassVar[str] = "{} had crashed"
    takes_down: ClassVar[bool] = True


class ServicePause(ReplicaFault):
    """Frozen: connections are accepted, but never answered."""

    fault: Literal["service.pause"]
    in_words: ClassVar[str] = "{} was frozen"


class _AskedToEnd(ReplicaFault):
    def lacking(self, topology: Topology, runtime: type) -> Iterator[str]:
        if not issubclass(runtime, CanStop):
            yield "it cannot ask a replica to stop; use service.kill"


class ServiceStop(_AskedToEnd):
    """Asked to stop (SIGTERM, or the `stop_signal` of its Compose entry), and killed if it has not stopped within `grace`.

    Replicas that had to be killed are reported; the service is down either way.
    """

    fault: Literal["service.stop"]
    in_words: ClassVar[str] = "{} was stopped"
    takes_down: ClassVar[bool] = True
    grace: Seconds = 10.0

    def call_limits(self, topology: Topology) -> CallLimits:
        return CallLimits(inject_s=self.grace + CALL_TIMEOUT_S)


class ServiceRestart(_AskedToEnd):
    """A rolling restart: each replica is stopped, started, and healthy `within` before the next one is stopped.

    It is in effect once the first replica is seen down, and verified when each has been. It starts everything again: its end is
    its heal, which is verified when all replicas answer again. A restart that fails ends the run early, and is healed then.
    """

    fault: Literal["service.restart"]
    in_words: ClassVar[str] = "{} was restarted"
    grace: Annotated[Seconds, Field(description="How long a replica may take to stop before it is killed.")] = 10.0
    within: Annotated[Seconds, Field(description="How long a replica may take to get healthy again.")] = 60.0

    def call_limits(self, topology: Topology) -> CallLimits:
        replicas = len(topology.of_service(self.service, self.site))
        return CallLimits(inject_s=replicas * (self.grace + self.within + CALL_TIMEOUT_S))


class ServiceThrottle(ReplicaFault):
    """The service gets the processor for the share `cpu` of each 100 ms.

    embedded: all its processes are frozen for the rest, even idle ones, so its answers are delayed, too. compose: a quota of
    that share of one processor, which affects only processes that compute.
    """

    fault: Literal["service.throttle"]
    in_words: ClassVar[str] = "{} was slow"
    cpu: Annotated[Ratio, Field(ge=0.05, le=0.9, description="From 5% to 90%.")]

    def conflicts_with(self, other: FaultBase) -> bool:
        if isinstance(other, ServicePause):
            return self.shares_replicas_with(other)
        return super().conflicts_with(other)

    def lacking(self, topology: Topology, runtime: type) -> Iterator[str]:
        if not issubclass(runtime, CanThrottle):
            yield "it cannot limit CPU time"


class StoppingStack(Stack, CanStop, Protocol):
    """A stack that can ask a replica to stop."""


class ThrottlingStack(Stack, CanThrottle, Protocol):
    """A stack that can limit the CPU time of replicas."""


class _FaultOfReplicas:
    def __init__(self, spec: ReplicaFault, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._stack = stack
        self._clock = clock
        self._replicas = stack.topology.of_service(spec.service, spec.site)
        self._names = [replica.name for replica in self._replicas]
        self._before = Before()

    def prepare(self) -> None:
        self._before = alive_before(self._stack, self._replicas)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def _prove(self, state: str, names: Sequence[str] | None = None) -> Proof:
        """Verify that these replicas, or all, are in this state, and that none of their ports answers."""
        states, about = self._stack.states(), self._names if names is None else names
        wrong = [f"{name} is {states[name]}" for name in about if states[name] != state]
        if wrong:
            raise FaultNotEffective(f"not {state}: {', '.join(wrong)}")
        return prove_down(self._stack, self._before.of(about), self._clock)

    def verify_heal(self, deadline: Deadline) -> Proof:
        return prove_back(self._stack, self._before, deadline)


class KillFault(_FaultOfReplicas):
    """SIGKILL; the network stays up, so peers see a FIN immediately."""

    def inject(self) -> dict[str, Any]:
        return self._stack.kill(self._names).detail()

    def verify(self) -> Proof:
        return self._prove("dead")

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        with held_back(self._stack, self._names, deadline) as share:
            self._stack.start(self._names, deadline)
        return share


class PauseFault(_FaultOfReplicas):
    """Frozen: connections are accepted, but never answered."""

    def inject(self) -> dict[str, Any]:
        self._stack.pause(self._names)
        return {}

    def verify(self) -> Proof:
        return self._prove("paused")

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._stack.resume(self._names)
        return {}


class StopFault(_FaultOfReplicas):
    """Stopped as by an operator. A replica that had to be killed is down as well; the report names it."""

    def __init__(self, spec: ServiceStop, stack: StoppingStack, clock: Clock = SYSTEM) -> None:
        super().__init__(spec, stack, clock)
        self._stopping, self._grace_s = stack, spec.grace

    def inject(self) -> dict[str, Any]:
        return self._stopping.stop(self._names, self._grace_s).detail()

    def verify(self) -> Proof:
        return self._prove("dead")

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        with held_back(self._stack, self._names, deadline) as share:
            self._stack.start(self._names, deadline)
        return share


class RestartFault(_FaultOfReplicas):
    """One replica after the other, each healthy before the next; the observation of each while it is down is the proof."""

    ends_by_itself: Literal[True] = True

    def __init__(self, spec: ServiceRestart, stack: StoppingStack, clock: Clock = SYSTEM) -> None:
        super().__init__(spec, stack, clock)
        self._stopping, self._spec = stack, spec
        self._seen_down: dict[str, Proof] = {}
        self._doubts: dict[str, str] = {}

    def inject(self) -> dict[str, Any]:
        """Raises NotReady if a replica does not get healthy again; then no further replica is stopped."""
        killed: list[str] = []
        shares: dict[str, Any] = {}
        for name in self._names:
            killed += self._stopping.stop([name], self._spec.grace).killed
            try:  # before it is started again; `verify` reports replicas that were not seen down
                self._seen_down[name] = self._prove("dead", [name])
            except FaultNotEffective as doubt:
                self._doubts[name] = str(doubt)
            deadline = Deadline.after(self._spec.within, self._clock)
            with held_back(self._stack, [name], deadline) as share:
                self._stack.start([name], deadline)
            shares |= share
        return {"rolled": list(self._names), "had_to_be_killed": killed, **shares}

    def verify(self) -> Proof:
        unseen = [self._doubts.get(name, f"{name} was not seen down") for name in self._names if name not in self._seen_down]
        if unseen:
            raise FaultNotEffective("; ".join(unseen))
        first = min(self._seen_down.values(), key=lambda seen: seen.since_ns)
        return Proof(first.since_ns, {"seen_down": list(self._seen_down)})

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Start what an interrupted restart left down."""
        with held_back(self._stack, self._names, deadline) as share:
            self._stack.start(self._names, deadline)
        return share


class ThrottleFault(_FaultOfReplicas):
    """Limited CPU. The share is observed from outside; its effect on users shows in the journeys."""

    def __init__(self, spec: ServiceThrottle, stack: ThrottlingStack, clock: Clock = SYSTEM) -> None:
        super().__init__(spec, stack, clock)
        self._throttling, self._share = stack, spec.cpu
        self._shares: dict[str, float] = {}

    def prepare(self) -> None:
        super().prepare()
        self._shares = {name: self._throttling.observed_share(name) for name in self._names}

    def inject(self) -> dict[str, Any]:
        self._throttling.throttle(self._names, self._share)
        return {"share": self._share}

    def verify(self) -> Proof:
        """Verify that each replica lost at least half of the CPU that was to be taken away."""
        deadline, most = Deadline.after(proof.EFFECT_TIMEOUT_S, self._clock), (1 + self._share) / 2
        while True:
            since_ns = self._clock.now_ns()
            seen = {name: self._throttling.observed_share(name) for name in self._names}
            free = [f"{name} has {share:.0%}" for name, share in seen.items() if share > most]
            if not free:
                return Proof(since_ns, {"observed_share": seen})
            if deadline.passed:
                raise FaultNotEffective(f"{self._share:.0%} of the CPU was to be left: {', '.join(free)}")

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._throttling.unthrottle(self._names)
        return {}

    def verify_heal(self, deadline: Deadline) -> Proof:
        def observe() -> tuple[bool, str]:
            seen = {name: self._throttling.observed_share(name) for name in self._names}
            held = [f"{name} has {share:.0%}" for name, share in seen.items() if share < self._shares[name]]
            return not held, ", ".join(held) or "all free"

        wait_until("the throttle to be off", observe, deadline)
        return super().verify_heal(deadline)


FAULT_TYPES = (
    FaultType(ServiceKill, KillFault),
    FaultType(ServiceStop, StopFault),
    FaultType(ServicePause, PauseFault),
    FaultType(ServiceRestart, RestartFault),
    FaultType(ServiceThrottle, ThrottleFault),
)
