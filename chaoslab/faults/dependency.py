"""A running service that its callers cannot reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict, Field

from chaoslab.cleanup.journal import AnyStep
from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective, NotReady
from chaoslab.faults import proof
from chaoslab.faults.base import Proof
from chaoslab.faults.proof import Endpoint, prove_return, prove_silence, reachable
from chaoslab.faults.targets import UNKNOWN, UNUSABLE, check_service
from chaoslab.spec.fault import FaultBase, Pair, Touched
from chaoslab.spec.fault_types import FaultType
from chaoslab.spec.stackfile.topology import Flow, Topology
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.report import Report
from chaoslab.spec.yaml.short import Short
from chaoslab.stack.protocol import CanBlock, CanBlockWithinSite, Stack

Places = Annotated[list[str], Short(lambda raw: [raw], str), Field(min_length=1)]


class DependencyDown(FaultBase):
    """A service is unreachable for its callers, and runs. `refuse`: calls are refused; `silent`: calls are accepted and never
    answered.

    Callers are all that reach it through an address of the stack: users, other services, and its own replicas in other places.
    `callers: elsewhere` does not block callers in the same place as the replica that they call; `from` blocks only callers in
    the places that it names, such as that of a third party.
    """

    fault: Literal["dependency.down"]
    in_words: ClassVar[str] = "{} could not be reached"
    service: str
    mode: Literal["refuse", "silent"] = "refuse"
    callers: Literal["all", "elsewhere"] = "all"
    places: Annotated[
        Places | None,
        Field(alias="from", description="Only callers in these places are blocked; by default, callers in all places."),
    ] = None
    target_fields: ClassVar[tuple[str, ...]] = ("service", "places")
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @property
    def target(self) -> str:
        return self.service if self.places is None else f"{self.service} from {', '.join(self.places)}"

    def check(self, topology: Topology, report: Report) -> None:
        for index, place in enumerate(self.places or ()):
            if place not in topology.places:
                report(("from", index), f"unknown place {place!r}{suggest(place, topology.places)}", UNKNOWN)
        if self.service == topology.replica(topology.entry[0]).service:
            message = f"{self.service} is the entry, through which everything is measured; name a service behind it"
            report(("service",), message, UNUSABLE)
        else:
            check_service(self.service, topology, report, has_site=False)

    def ways(self, topology: Topology) -> frozenset[Flow]:
        """The blocked directions: from the place of callers to that of a replica."""
        sites = {replica.site for replica in topology.of_service(self.service)}
        callers = topology.places if self.places is None else self.places
        ways = frozenset(Flow(place, site) for site in sites for place in callers)
        return ways if self.callers == "all" else frozenset(way for way in ways if way.source != way.to)

    def conflicts_with(self, other: FaultBase) -> bool:
        """The heal of one unblocks the service for all callers."""
        return isinstance(other, DependencyDown) and other.service == self.service

    def touches(self, topology: Topology) -> Touched:
        sites = {replica.site for replica in topology.of_service(self.service)}
        return Touched(proxies=frozenset(Pair((site, place)) for site in sites for place in topology.places))

    def lacking(self, topology: Topology, runtime: type) -> Iterator[str]:
        if not issubclass(runtime, CanBlock):
            yield "it cannot block access to a single service"
        elif not issubclass(runtime, CanBlockWithinSite):
            inside = {way.to for way in self.ways(topology) if way.source == way.to}
            near = [replica.name for replica in topology.replicas if replica.site in inside and replica.service != self.service]
            if near:
                yield f"{', '.join(near)} reach it inside their own place; use callers: elsewhere, or --runtime embedded"

    def relayed_services(self) -> frozenset[str]:
        return frozenset({self.service}) if self.callers == "all" else frozenset()


class BlockingStack(Stack, CanBlock, Protocol):
    """A stack that can block access to single replicas."""


class DependencyFault:
    """All access of the callers to the service is blocked; verified from each place that has such callers."""

    def __init__(self, spec: DependencyDown, stack: BlockingStack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._clock = clock
        self._replicas = stack.topology.of_service(spec.service)
        self._names = [replica.name for replica in self._replicas]
        self._blocked = spec.ways(stack.topology)
        self._endpoints: tuple[Endpoint, ...] = ()
        self._spared: tuple[Endpoint, ...] = ()

    def prepare(self) -> None:
        """Ask from each place that has callers, blocked or not: all callers elsewhere; in the same place, other services.

        Raises FaultNotEffective if a caller that is to be blocked gets no answer even now, or if there is none.
        """
        topology, service = self._stack.topology, self._spec.service
        beside = {replica.site for replica in topology.replicas if replica.service != service}
        seen: dict[bool, list[Endpoint]] = {True: [], False: []}
        for replica in self._replicas:
            for place in topology.places:
                if place != replica.site or place in beside:
                    endpoints = reachable(self._stack, [replica], seen_from=place)
                    seen[Flow(place, replica.site) in self._blocked].extend(endpoints)
        self._endpoints, self._spared = tuple(seen[True]), tuple(seen[False])
        if not self._endpoints:
            raise FaultNotEffective(f"no caller reaches {self._spec.target}, so blocking it could not be verified")

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        places = self._stack.topology.places
        spared = [way for source in places for to in places if (way := Flow(source, to)) not in self._blocked]
        self._stack.block(self._names, self._spec.mode, except_flows=spared)
        told = {} if self._spec.places is None else {"from": ", ".join(self._spec.places)}
        return {"mode": self._spec.mode, "callers": self._spec.callers, **told}

    def verify(self) -> Proof:
        """No blocked caller gets an answer, the service is running, and all other callers get answers."""
        silence, states = prove_silence(self._stack, self._endpoints, self._clock), self._stack.states()
        dead = [f"{name} is {states[name]}" for name in self._names if states[name] != "running"]
        if dead:
            raise FaultNotEffective(f"other callers got no answer either: {', '.join(dead)}")
        try:
            prove_return(self._stack, self._spared, Deadline.after(proof.EFFECT_TIMEOUT_S, self._clock))
        except NotReady as silent:
            raise FaultNotEffective(f"other callers got no answer either: {silent}") from silent
        return silence

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._stack.unblock(self._names)
        return {}

    def verify_heal(self, deadline: Deadline) -> Proof:
        return prove_return(self._stack, self._endpoints, deadline)


FAULT_TYPES = (FaultType(DependencyDown, DependencyFault),)
