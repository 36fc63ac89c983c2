"""A service that its callers cannot reach, while it lives."""

from __future__ import annotations

from typing import Any, Protocol

from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective
from chaoslab.faults.base import Evidence
from chaoslab.faults.witness import Witness, prove_return, prove_silence, witnesses
from chaoslab.spec.model import DependencyDown
from chaoslab.stack.protocol import CanBar, Stack
from chaoslab.stack.topology import Flow
from chaoslab.undo import AnyStep


class BarringStack(Stack, CanBar, Protocol):
    """A stack that can bar the ways to single replicas."""


class DependencyFault:
    """Every way that leads to the service is barred; proven from each place that has callers."""

    def __init__(self, spec: DependencyDown, stack: BarringStack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._clock = clock
        self._replicas = stack.topology.of_service(spec.service)
        self._names = [replica.name for replica in self._replicas]
        self._spare = [] if spec.callers == "all" else [Flow(place, place) for place in stack.topology.places]
        self._witnesses: tuple[Witness, ...] = ()

    def prepare(self) -> None:
        """Raises FaultNotEffective where no caller is answered even now."""
        self._witnesses = tuple(
            path
            for replica in self._replicas
            for place in self._stack.topology.places
            if self._has_callers(place, replica.site)
            for path in witnesses(self._stack, [replica], seen_from=place)
        )

    def _has_callers(self, place: str, site: str) -> bool:
        """Whether somebody stands there whom the bar is about: anybody elsewhere, another service in the same place."""
        if place != site:
            return True
        others = any(replica.service != self._spec.service for replica in self._stack.topology.in_site(place))
        return others and self._spec.callers == "all"

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        self._stack.bar(self._names, self._spec.mode, spare=self._spare)
        return {"mode": self._spec.mode, "callers": self._spec.callers}

    def verify(self) -> Evidence:
        """Nobody is answered, and the service runs: else it would be another fault."""
        evidence, states = prove_silence(self._stack, self._witnesses, self._clock), self._stack.states()
        dead = [f"{name} is {states[name]}" for name in self._names if states[name] != "running"]
        if dead:
            raise FaultNotEffective(f"silent, but not for its callers alone: {', '.join(dead)}")
        return evidence

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._stack.unbar(self._names)
        return {}

    def verify_heal(self, deadline: Deadline) -> Evidence:
        return prove_return(self._stack, self._witnesses, deadline)
