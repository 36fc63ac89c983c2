"""Faults of an entire site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from chaoslab.cleanup.journal import AnyStep
from chaoslab.clock import NS_PER_MS, SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective, NotHealthy, NotReady, StackError
from chaoslab.faults.base import OnReconnected, Proof
from chaoslab.faults.boot import held_back
from chaoslab.faults.proof import (
    Before,
    Endpoint,
    alive_before,
    not_hidden,
    prove_back,
    prove_down,
    prove_return,
    prove_silence,
    reachable,
)
from chaoslab.faults.targets import EMPTY, UNKNOWN, UNUSABLE, check_site
from chaoslab.spec.fault import FaultBase, Pair, Touched, pairs
from chaoslab.spec.fault_types import FaultType
from chaoslab.spec.stackfile.topology import Flow, Replica, Topology
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.report import Report
from chaoslab.stack.protocol import CanCutDisks, CanDestroyDisks, Stack

# Behind the fence a cluster member cannot reach a majority, so some services do not get healthy there: do not wait long.
INSIDE_TIMEOUT_S = 3.0


def kill_behind_fence(
    stack: Stack, flows: Sequence[Flow], names: Sequence[str], fault: FaultBase, clock: Clock
) -> dict[str, Any]:
    """Cut these flows silently, then kill the replicas at once; how long each took. Raises StackError if a flow stays open."""
    began_ns = clock.now_ns()
    stack.links.fence(flows, fault.id)
    if missing := set(flows) - stack.links.fenced():
        raise StackError(f"the fence around {fault.target} is not closed: {', '.join(map(str, missing))}")
    fenced_ns = clock.now_ns()
    return {"fence_ms": (fenced_ns - began_ns) / NS_PER_MS, **stack.kill(names).detail()}


class SitePowerLoss(FaultBase):
    """Cuts the site off silently, then kills everything in it at once. `disks: destroy` also destroys its volumes.

    With `disks: cut` the volumes lose what was written to them and never synced, as in a power cut; with `keep` they lose
    nothing, since the kernel keeps running. For a loss in stages, write several of these at different times; all but the last
    name their share in `services`. For a return in stages, write several at the same time, each with its share and its own
    `heal_after`.
    """

    fault: Literal["site.power-loss"]
    in_words: ClassVar[str] = "no power in {}"
    takes_down: ClassVar[bool] = True
    site: str
    disks: Literal["keep", "destroy", "cut"] = "keep"
    services: list[str] | None = None  # only these replicas, for losses in stages
    target_fields: ClassVar[tuple[str, ...]] = ("site",)

    @property
    def cuts_disks(self) -> bool:
        return self.disks == "cut"

    def check(self, topology: Topology, report: Report) -> None:
        if not check_site(self.site, topology, report):
            return
        names = [replica.name for replica in topology.in_site(self.site)]
        for index, name in enumerate(self.services or ()):
            if name not in names:
                report(("services", index), f"no replica {name!r} is in {self.site}{suggest(name, names)}", UNKNOWN)
        if self.services == []:
            message = "services is empty, so nothing would lose power; remove the key to cut the power of the entire site"
            report(("services",), message, EMPTY)
        if self.cuts_disks:
            self._check_volumes(topology, report)

    def _check_volumes(self, topology: Topology, report: Report) -> None:
        """Check that the cut affects a volume, and only volumes of replicas that lose power."""
        dark = self._dark(topology)
        users: dict[str, list[str]] = {}
        for replica in topology.replicas:
            for volume in replica.volumes:
                users.setdefault(volume, []).append(replica.name)
        cut = {volume: names for volume, names in users.items() if not dark.isdisjoint(names)}
        if not cut and dark:
            message = f"nothing that would lose power in {self.site} has a volume, so there is nothing to cut; use disks: keep"
            report(("disks",), message, UNUSABLE)
        for volume, names in cut.items():
            if others := [name for name in names if name not in dark]:
                message = f"volume {volume} cannot be cut: {', '.join(others)} uses it, too, and keeps its power"
                report(("disks",), message, UNUSABLE)

    def _dark(self, topology: Topology) -> frozenset[str]:
        """The replicas that lose power."""
        names = frozenset(replica.name for replica in topology.in_site(self.site))
        return names if self.services is None else names & frozenset(self.services)

    def conflicts_with(self, other: FaultBase) -> bool:
        if isinstance(other, SitePowerLoss) and self.services and other.services and self.site == other.site:
            return not set(self.services).isdisjoint(other.services)
        return super().conflicts_with(other)

    def touches(self, topology: Topology) -> Touched:
        """A part of a site is killed behind no fence: the rest shares the site's links."""
        fences = pairs(topology.flows_around(self.site)) if self.services is None else frozenset[Pair]()
        return Touched(fences=fences, replicas=self._dark(topology))

    def cuts_disks_of(self, topology: Topology) -> frozenset[str]:
        return self._dark(topology) if self.cuts_disks else frozenset()

    def lacking(self, topology: Topology, runtime: type) -> Iterator[str]:
        if self.disks == "destroy" and not issubclass(runtime, CanDestroyDisks):
            yield "it cannot destroy volumes; use disks: keep"
        if self.cuts_disks:
            if not issubclass(runtime, CanCutDisks):
                yield "it cannot cut the power of volumes; use disks: keep"
            elif why := runtime.why_no_cut():
                yield f"it cannot cut the power of volumes here: {why}"


class SiteIsolate(FaultBase):
    """The site keeps running, but nothing outside can reach it."""

    fault: Literal["site.isolate"]
    in_words: ClassVar[str] = "{} could not be reached"
    site: str
    target_fields: ClassVar[tuple[str, ...]] = ("site",)

    def check(self, topology: Topology, report: Report) -> None:
        check_site(self.site, topology, report)

    def touches(self, topology: Topology) -> Touched:
        return Touched(fences=pairs(topology.flows_around(self.site)))


class PowerLossFault:
    """Fence the site, verify the fence, kill everything at once, verify that. Without the fence, peers would see FINs."""

    def __init__(self, spec: SitePowerLoss, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._clock = clock
        self._before = Before()
        self._on_reconnected: OnReconnected = lambda: None

    @property
    def _replicas(self) -> tuple[Replica, ...]:
        wanted = self._spec.services
        return tuple(r for r in self._stack.topology.in_site(self._spec.site) if wanted is None or r.name in wanted)

    @property
    def _names(self) -> list[str]:
        return [replica.name for replica in self._replicas]

    @property
    def _flows(self) -> tuple[Flow, ...]:
        """A part of a site is killed behind no fence: the rest shares the site's links."""
        return self._stack.topology.flows_around(self._spec.site) if self._spec.services is None else ()

    def on_reconnected(self, report: OnReconnected) -> None:
        self._on_reconnected = report

    def prepare(self) -> None:
        self._before = alive_before(self._stack, self._replicas)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        report = kill_behind_fence(self._stack, self._flows, self._names, self._spec, self._clock)
        if self._spec.disks == "destroy" and isinstance(self._stack, CanDestroyDisks):
            self._stack.destroy_disks(self._names)
        cut: dict[str, Any] = {}
        if self._spec.cuts_disks and isinstance(self._stack, CanCutDisks):
            cut = self._stack.cut_disks(self._names).detail()
        return {**report, **cut}

    def verify(self) -> Proof:
        states = self._stack.states()
        alive = [name for name in self._names if states[name] in ("running", "paused")]
        if alive:
            raise FaultNotEffective(f"still running after the power loss: {', '.join(alive)}")
        return prove_down(self._stack, self._before, self._clock)

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Start the site, wait for what can get healthy while cut off, remove the fence, and wait for the rest."""
        alone = Deadline.after(min(INSIDE_TIMEOUT_S, deadline.left_s), self._clock)
        detail: dict[str, Any] = {}
        with held_back(self._stack, self._names, deadline) as share:
            try:
                self._stack.start(self._names, alone)
            except NotReady as waiting:
                detail["healthy_only_after_the_fence_was_lifted"] = str(waiting).splitlines()[0]
            detail |= not_hidden(self._stack.links.lift(self._flows, self._spec.id))
            self._on_reconnected()
            self._stack.start(self._names, deadline)
        return detail | share

    def verify_heal(self, deadline: Deadline) -> Proof:
        """Raises NotHealthy if a replica that was started has ended again: that is the stack's failure."""
        try:
            return prove_back(self._stack, self._before, deadline)
        except NotReady as silent:
            states = self._stack.states()
            back = {*(endpoint.replica for endpoint in self._before.endpoints), *self._before.workers}
            ended = sorted(name for name in back if states[name] == "dead")
            if not ended:
                raise
            raise NotHealthy(f"{', '.join(ended)} ended again after the power was back: {silent}") from silent


class IsolateFault:
    """The site keeps running, but nothing gets in or out."""

    def __init__(self, spec: SiteIsolate, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._id = spec.id
        self._stack = stack
        self._clock = clock
        self._replicas = stack.topology.in_site(spec.site)
        self._flows = stack.topology.flows_around(spec.site)
        self._endpoints: tuple[Endpoint, ...] = ()

    def prepare(self) -> None:
        self._endpoints = reachable(self._stack, self._replicas)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        self._stack.links.fence(self._flows, self._id)
        return {}

    def verify(self) -> Proof:
        return prove_silence(self._stack, self._endpoints, self._clock)

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        return not_hidden(self._stack.links.lift(self._flows, self._id))

    def verify_heal(self, deadline: Deadline) -> Proof:
        return prove_return(self._stack, self._endpoints, deadline)


FAULT_TYPES = (FaultType(SitePowerLoss, PowerLossFault), FaultType(SiteIsolate, IsolateFault))
