"""Faults of one service's replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from chaoslab.clock import SYSTEM, Clock, Deadline, wait_until
from chaoslab.errors import FaultNotEffective
from chaoslab.faults import witness
from chaoslab.faults.base import Evidence
from chaoslab.faults.boot import held_back
from chaoslab.faults.witness import Witness, prove_return, prove_silence, witnesses
from chaoslab.spec import model
from chaoslab.stack.protocol import CanStop, CanThrottle, Stack
from chaoslab.undo import AnyStep


class StoppingStack(Stack, CanStop, Protocol):
    """A stack that can ask a replica to end."""


class ThrottlingStack(Stack, CanThrottle, Protocol):
    """A stack that can keep replicas from the processor."""


class _ReplicaFault:
    def __init__(self, spec: model.ReplicaFault, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._stack = stack
        self._clock = clock
        self._replicas = stack.topology.of_service(spec.service, spec.site)
        self._names = [replica.name for replica in self._replicas]
        self._witnesses: tuple[Witness, ...] = ()

    def prepare(self) -> None:
        self._witnesses = witnesses(self._stack, self._replicas)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def _prove(self, state: str, names: Sequence[str] | None = None) -> Evidence:
        """These replicas, or all, are in this state, and none of their ports answers."""
        states, about = self._stack.states(), self._names if names is None else names
        wrong = [f"{name} is {states[name]}" for name in about if states[name] != state]
        if wrong:
            raise FaultNotEffective(f"not {state}: {', '.join(wrong)}")
        return prove_silence(self._stack, [path for path in self._witnesses if path.replica in about], self._clock)

    def verify_heal(self, deadline: Deadline) -> Evidence:
        return prove_return(self._stack, self._witnesses, deadline)


class KillFault(_ReplicaFault):
    """SIGKILL; the network stays, so peers see FIN at once."""

    def inject(self) -> dict[str, Any]:
        return self._stack.kill(self._names).detail()

    def verify(self) -> Evidence:
        return self._prove("dead")

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        with held_back(self._stack, self._names, deadline) as share:
            self._stack.start(self._names, deadline)
        return share


class PauseFault(_ReplicaFault):
    """Frozen: connections are taken, and then nothing."""

    def inject(self) -> dict[str, Any]:
        self._stack.pause(self._names)
        return {}

    def verify(self) -> Evidence:
        return self._prove("paused")

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._stack.resume(self._names)
        return {}


class StopFault(_ReplicaFault):
    """Ended as by an operator. A replica that had to be killed is down as well; the report names it."""

    def __init__(self, spec: model.ServiceStop, stack: StoppingStack, clock: Clock = SYSTEM) -> None:
        super().__init__(spec, stack, clock)
        self._stopping, self._grace_s = stack, spec.grace

    def inject(self) -> dict[str, Any]:
        return self._stopping.stop(self._names, self._grace_s).detail()

    def verify(self) -> Evidence:
        return self._prove("dead")

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        with held_back(self._stack, self._names, deadline) as share:
            self._stack.start(self._names, deadline)
        return share


class RestartFault(_ReplicaFault):
    """One replica after the other, each healthy before the next; what was seen of each while it was down is the evidence."""

    ends_by_itself: Literal[True] = True

    def __init__(self, spec: model.ServiceRestart, stack: StoppingStack, clock: Clock = SYSTEM) -> None:
        super().__init__(spec, stack, clock)
        self._stopping, self._spec = stack, spec
        self._seen_down: dict[str, Evidence] = {}
        self._doubts: dict[str, str] = {}

    def inject(self) -> dict[str, Any]:
        """Raises NotReady, and touches no further replica, when one does not get healthy again."""
        killed: list[str] = []
        shares: dict[str, Any] = {}
        for name in self._names:
            killed += self._stopping.stop([name], self._spec.grace).killed
            self._look(name)
            deadline = Deadline.after(self._spec.within, self._clock)
            with held_back(self._stack, [name], deadline) as share:
                self._stack.start([name], deadline)
            shares |= share
        return {"rolled": list(self._names), "had_to_be_killed": killed, **shares}

    def _look(self, name: str) -> None:
        """That a replica is down, before it is started again; doubts are for `verify` to tell."""
        try:
            self._seen_down[name] = self._prove("dead", [name])
        except FaultNotEffective as doubt:
            self._doubts[name] = str(doubt)

    def verify(self) -> Evidence:
        unseen = [self._doubts.get(name, f"{name} was not seen down") for name in self._names if name not in self._seen_down]
        if unseen:
            raise FaultNotEffective("; ".join(unseen))
        first = min(self._seen_down.values(), key=lambda seen: seen.since_ns)
        return Evidence(first.since_ns, {"seen_down": list(self._seen_down)})

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Start what a roll that was cut short left down."""
        with held_back(self._stack, self._names, deadline) as share:
            self._stack.start(self._names, deadline)
        return share


class ThrottleFault(_ReplicaFault):
    """Kept from the processor. The share is looked at from outside; how much is lost to it is for the journeys to show."""

    def __init__(self, spec: model.ServiceThrottle, stack: ThrottlingStack, clock: Clock = SYSTEM) -> None:
        super().__init__(spec, stack, clock)
        self._throttling, self._share = stack, spec.cpu
        self._before: dict[str, float] = {}

    def prepare(self) -> None:
        super().prepare()
        self._before = {name: self._throttling.observed_share(name) for name in self._names}

    def inject(self) -> dict[str, Any]:
        self._throttling.throttle(self._names, self._share)
        return {"share": self._share}

    def verify(self) -> Evidence:
        """At least half of what was to be taken away has to be seen gone, of each replica."""
        deadline, most = Deadline.after(witness.BITE_TIMEOUT_S, self._clock), (1 + self._share) / 2
        while True:
            since_ns = self._clock.now_ns()
            seen = {name: self._throttling.observed_share(name) for name in self._names}
            free = [f"{name} has {share:.0%}" for name, share in seen.items() if share > most]
            if not free:
                return Evidence(since_ns, {"observed_share": seen})
            if deadline.passed:
                raise FaultNotEffective(f"{self._share:.0%} of the processor were to be left: {', '.join(free)}")

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._throttling.unthrottle(self._names)
        return {}

    def verify_heal(self, deadline: Deadline) -> Evidence:
        wait_until("the throttle to be off", self._free, deadline)
        return super().verify_heal(deadline)

    def _free(self) -> tuple[bool, str]:
        seen = {name: self._throttling.observed_share(name) for name in self._names}
        held = [f"{name} has {share:.0%}" for name, share in seen.items() if share < self._before[name]]
        return not held, ", ".join(held) or "all free"
