"""Faults that take a whole site."""

from __future__ import annotations

from typing import Any

from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective, NotReady, StackError
from chaoslab.faults.base import Evidence
from chaoslab.faults.boot import held_back
from chaoslab.faults.witness import Witness, not_hidden, prove_return, prove_silence, witnesses
from chaoslab.spec.model import SiteIsolate, SitePowerLoss
from chaoslab.stack.protocol import CanDestroyDisks, Stack
from chaoslab.stack.topology import Flow, Replica
from chaoslab.undo import AnyStep

# Behind the fence a cluster member cannot find its majority, so some services never get healthy inside: do not wait long.
INSIDE_TIMEOUT_S = 3.0


class PowerLossFault:
    """Fence the site, prove the fence, kill everything in it at once, prove that. Without the fence peers would see FINs."""

    def __init__(self, spec: SitePowerLoss, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._clock = clock
        self._witnesses: tuple[Witness, ...] = ()

    @property
    def _replicas(self) -> tuple[Replica, ...]:
        wanted = self._spec.services
        return tuple(r for r in self._stack.topology.in_site(self._spec.site) if wanted is None or r.name in wanted)

    @property
    def _names(self) -> list[str]:
        return [replica.name for replica in self._replicas]

    @property
    def _flows(self) -> tuple[Flow, ...]:
        """A part of a site dies behind no fence: what lives on shares the site's links."""
        return self._stack.topology.flows_around(self._spec.site) if self._spec.services is None else ()

    def prepare(self) -> None:
        self._witnesses = witnesses(self._stack, self._replicas)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        began_ns = self._clock.now_ns()
        self._stack.links.fence(self._flows)
        if missing := set(self._flows) - self._stack.links.fenced():
            raise StackError(f"the fence around {self._spec.site} is not closed: {', '.join(map(str, missing))}")
        fenced_ns = self._clock.now_ns()
        report = self._stack.kill(self._names)
        if self._spec.disks == "destroy" and isinstance(self._stack, CanDestroyDisks):
            self._stack.destroy_disks(self._names)
        return {"fence_ms": (fenced_ns - began_ns) / 1e6, **report.detail()}

    def verify(self) -> Evidence:
        states = self._stack.states()
        alive = [name for name in self._names if states[name] in ("running", "paused")]
        if alive:
            raise FaultNotEffective(f"still running after the power loss: {', '.join(alive)}")
        return prove_silence(self._stack, self._witnesses, self._clock)

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Power back: start the site, let it get healthy inside as far as it can alone, lift the fence, wait for the rest."""
        alone = Deadline.after(min(INSIDE_TIMEOUT_S, deadline.left_s), self._clock)
        detail: dict[str, Any] = {}
        with held_back(self._stack, self._names, deadline) as share:
            try:
                self._stack.start(self._names, alone)
            except NotReady as waiting:
                detail["healthy_only_after_the_fence_was_lifted"] = str(waiting).splitlines()[0]
            detail |= not_hidden(self._stack.links.lift(self._flows))
            self._stack.start(self._names, deadline)
        return detail | share

    def verify_heal(self, deadline: Deadline) -> Evidence:
        return prove_return(self._stack, self._witnesses, deadline)


class IsolateFault:
    """The site lives, and nothing gets in or out."""

    def __init__(self, spec: SiteIsolate, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._stack = stack
        self._clock = clock
        self._replicas = stack.topology.in_site(spec.site)
        self._flows = stack.topology.flows_around(spec.site)
        self._witnesses: tuple[Witness, ...] = ()

    def prepare(self) -> None:
        self._witnesses = witnesses(self._stack, self._replicas)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        self._stack.links.fence(self._flows)
        return {}

    def verify(self) -> Evidence:
        return prove_silence(self._stack, self._witnesses, self._clock)

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        return not_hidden(self._stack.links.lift(self._flows))

    def verify_heal(self, deadline: Deadline) -> Evidence:
        return prove_return(self._stack, self._witnesses, deadline)
