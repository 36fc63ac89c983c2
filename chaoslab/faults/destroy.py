"""The loss of sites with all that is on their disks, and the new machines that take their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from chaoslab.background import in_thread
from chaoslab.cleanup.journal import AnyStep
from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective, NotReady
from chaoslab.faults.base import Proof
from chaoslab.faults.proof import Before, alive_before, not_hidden, prove_back, prove_down
from chaoslab.faults.service import ReplicaFault
from chaoslab.faults.site import kill_behind_fence
from chaoslab.faults.targets import UNUSABLE, check_site
from chaoslab.spec.fault import FaultBase, Touched, pairs
from chaoslab.spec.fault_types import FaultType
from chaoslab.spec.stackfile.topology import Flow, Replica, Topology
from chaoslab.spec.yaml.quantities import Seconds
from chaoslab.spec.yaml.report import Report
from chaoslab.stack.protocol import CanDestroyDisks, Stack

_POLL_S = 0.05


class SiteDestroy(FaultBase):
    """Cuts the sites off silently, kills everything in them at once, and destroys every disk in them.

    `replaced_after` its effect, new machines start: the same replicas, with empty disks, not fenced. The timeline's steps have
    to restore what they need to serve again. The fault stays active: its heal only verifies that everything answers, so that
    the RTO counts from the loss until users are served.
    """

    fault: Literal["site.destroy"]
    in_words: ClassVar[str] = "destroyed: {}"
    sites: Annotated[list[str], Field(min_length=1, description="The sites that are lost together.")]
    replaced_after: Annotated[
        Seconds, Field(description="How long after the effect the new machines start, with empty disks.")
    ] = 5.0
    target_fields: ClassVar[tuple[str, ...]] = ("sites",)

    @property
    def replaced_after_s(self) -> float:
        return self.replaced_after

    @property
    def target(self) -> str:
        return " ".join(self.sites)

    def check(self, topology: Topology, report: Report) -> None:
        for index, site in enumerate(self.sites):
            if site in self.sites[:index]:
                report(("sites", index), f"{site} is listed twice", UNUSABLE)
            else:
                check_site(site, topology, report, at=("sites", index))

    def conflicts_with(self, other: FaultBase) -> bool:
        """Conflicts with every fault that starts something in one of these sites, or a service in every site."""
        if isinstance(other, ReplicaFault) and other.site is None:
            return True
        sites = [*getattr(other, "sites", ()), getattr(other, "site", None)]
        return not set(self.sites).isdisjoint(sites)

    def touches(self, topology: Topology) -> Touched:
        flows = [flow for site in self.sites for flow in topology.flows_around(site)]
        names = frozenset(replica.name for site in self.sites for replica in topology.in_site(site))
        return Touched(fences=pairs(flows), replicas=names)

    def lacking(self, topology: Topology, runtime: type) -> Iterator[str]:
        if not issubclass(runtime, CanDestroyDisks):
            yield "it cannot destroy volumes"


class DestroyingStack(Stack, CanDestroyDisks, Protocol):
    """A stack that can lose the volumes of replicas."""


class DestroyFault:
    """Fence, kill, destroy the disks, verify; then start new machines in the background. Steps of the timeline do the rest."""

    def __init__(self, spec: SiteDestroy, stack: DestroyingStack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._clock = clock
        topology = stack.topology
        self._replicas: tuple[Replica, ...] = tuple(each for site in spec.sites for each in topology.in_site(site))
        self._names = [replica.name for replica in self._replicas]
        self._flows: tuple[Flow, ...] = tuple(dict.fromkeys(f for site in spec.sites for f in topology.flows_around(site)))
        self._before = Before()
        self._healing = threading.Event()
        self._replacement: Future[dict[str, Any]] | None = None

    def prepare(self) -> None:
        self._before = alive_before(self._stack, self._replicas)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        report = kill_behind_fence(self._stack, self._flows, self._names, self._spec, self._clock)
        self._stack.destroy_disks(self._names)
        return {**report, "disks_destroyed": len(self._names)}

    def verify(self) -> Proof:
        states = self._stack.states()
        alive = [name for name in self._names if states[name] in ("running", "paused")]
        if alive:
            raise FaultNotEffective(f"still running after the loss: {', '.join(alive)}")
        proof = prove_down(self._stack, self._before, self._clock)
        self._replacement = in_thread(self._replace, f"the new machines in {self._spec.target}")
        return proof

    def _replace(self) -> dict[str, Any]:
        """Start everything with empty disks, in time. Wait for replicas that need a restore only for as long as a heal may
        take.
        """
        due_ns = self._clock.now_ns() + round(self._spec.replaced_after * NS_PER_S)
        while (left_ns := due_ns - self._clock.now_ns()) > 0 and not self._healing.is_set():
            self._clock.sleep(min(_POLL_S, left_ns / NS_PER_S))
        if self._healing.is_set():
            return {}
        detail = not_hidden(self._stack.links.lift(self._flows, self._spec.id))
        try:
            self._stack.start(self._names, Deadline.after(self._stack.topology.spec.heal, self._clock))
        except NotReady as waiting:
            detail["not_healthy_by_itself"] = str(waiting).splitlines()[0]
        return detail

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Remove the fence if it still stands, and start what is not running: new machines that did not start yet, or ended."""
        self._healing.set()
        detail: dict[str, Any] = {}
        if self._replacement is not None:
            while not self._replacement.done() and not deadline.passed:
                self._clock.sleep(_POLL_S)
            if self._replacement.done() and self._replacement.exception() is None:
                detail = self._replacement.result()
        detail |= not_hidden(self._stack.links.lift(self._flows, self._spec.id))
        self._stack.start(self._names, deadline)
        return detail

    def verify_heal(self, deadline: Deadline) -> Proof:
        return prove_back(self._stack, self._before, deadline)


FAULT_TYPES = (FaultType(SiteDestroy, DestroyFault),)
