"""A fault of another package, as its author writes it: a meteor kills a site's replicas, which start again when it heals."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from chaoslab.cleanup.journal import AnyStep
from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.faults.base import Proof
from chaoslab.faults.proof import Endpoint, prove_return, prove_silence, reachable
from chaoslab.faults.targets import check_site
from chaoslab.spec.fault import CallLimits, FaultBase, Touched
from chaoslab.spec.fault_types import FaultType
from chaoslab.spec.stackfile.topology import Topology
from chaoslab.spec.yaml.model import Whole
from chaoslab.spec.yaml.report import Report
from chaoslab.stack.protocol import Stack


class SiteMeteor(FaultBase):
    """Everything in the site is hit, and what is large enough hits back."""

    fault: Literal["site.meteor"]
    site: str
    diameter: Annotated[Whole, Field(ge=1, le=1000, description="In metres.")] = 10
    target_fields: ClassVar[tuple[str, ...]] = ("site",)

    def check(self, topology: Topology, report: Report) -> None:
        if check_site(self.site, topology, report) and self.diameter > 100:
            report(("diameter",), f"{self.diameter} m leave no other site", "meteor.too-large")

    def conflicts_with(self, other: FaultBase) -> bool:
        return getattr(other, "site", None) == self.site

    def touches(self, topology: Topology) -> Touched:
        return Touched(replicas=frozenset(replica.name for replica in topology.in_site(self.site)))

    def call_limits(self, topology: Topology) -> CallLimits:
        return CallLimits(inject_s=7.0)


class MeteorFault:
    def __init__(self, spec: SiteMeteor, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._stack = stack
        self._clock = clock
        self._replicas = stack.topology.in_site(spec.site)
        self._names = [replica.name for replica in self._replicas]
        self._endpoints: tuple[Endpoint, ...] = ()

    def prepare(self) -> None:
        self._endpoints = reachable(self._stack, self._replicas)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        return self._stack.kill(self._names).detail()

    def verify(self) -> Proof:
        return prove_silence(self._stack, self._endpoints, self._clock)

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._stack.start(self._names, deadline)
        return {}

    def verify_heal(self, deadline: Deadline) -> Proof:
        return prove_return(self._stack, self._endpoints, deadline)


METEOR = FaultType(SiteMeteor, MeteorFault)
