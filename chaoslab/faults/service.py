"""Faults of one service's replicas."""

from __future__ import annotations

from typing import Any

from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective
from chaoslab.faults.base import Evidence
from chaoslab.faults.witness import Witness, prove_return, prove_silence, witnesses
from chaoslab.spec.model import ServiceKill, ServicePause
from chaoslab.stack.protocol import Stack
from chaoslab.undo import AnyStep


class _ReplicaFault:
    def __init__(self, spec: ServiceKill | ServicePause, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._stack = stack
        self._clock = clock
        self._replicas = stack.topology.of_service(spec.service, spec.site)
        self._names = [replica.name for replica in self._replicas]
        self._witnesses: tuple[Witness, ...] = ()

    def prepare(self) -> None:
        self._witnesses = witnesses(self._stack, self._replicas)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def _prove(self, state: str) -> Evidence:
        states = self._stack.states()
        wrong = [f"{name} is {states[name]}" for name in self._names if states[name] != state]
        if wrong:
            raise FaultNotEffective(f"not {state}: {', '.join(wrong)}")
        return prove_silence(self._stack, self._witnesses, self._clock)

    def verify_heal(self, deadline: Deadline) -> Evidence:
        return prove_return(self._stack, self._witnesses, deadline)


class KillFault(_ReplicaFault):
    """SIGKILL; the network stays, so peers see FIN at once."""

    def inject(self) -> dict[str, Any]:
        return self._stack.kill(self._names).detail()

    def verify(self) -> Evidence:
        return self._prove("dead")

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._stack.start(self._names, deadline)
        return {}


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
