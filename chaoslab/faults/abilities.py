"""What a fault needs of a runtime, asked before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaoslab.errors import SpecError
from chaoslab.spec import model
from chaoslab.stack.protocol import CanBar, CanBarNeighbours, CanDestroyDisks, CanStop, CanThrottle
from chaoslab.stack.topology import Topology


def refuse_impossible(timeline: Sequence[model.FaultBase], topology: Topology, runtime: type, name: str) -> None:
    """Raises SpecError for faults that a runtime, known by its class, cannot do."""
    cannot = [
        f"the {name} runtime cannot do {fault.fault} ({fault.id}): {why}"
        for fault in timeline
        for why in _lacking(fault, topology, runtime)
    ]
    if cannot:
        raise SpecError("\n".join(cannot))


def _lacking(fault: model.FaultBase, topology: Topology, runtime: type) -> Iterator[str]:
    match fault:
        case model.SitePowerLoss(disks="destroy") if not issubclass(runtime, CanDestroyDisks):
            yield "it cannot lose volumes; say disks: keep"
        case model.ServiceStop() | model.ServiceRestart() if not issubclass(runtime, CanStop):
            yield "it cannot ask a replica to end; use service.kill"
        case model.ServiceThrottle() if not issubclass(runtime, CanThrottle):
            yield "it cannot limit the processor"
        case model.DependencyDown() if not issubclass(runtime, CanBar):
            yield "it cannot bar the way to one service"
        case model.DependencyDown(callers="all") if not issubclass(runtime, CanBarNeighbours):
            near = _neighbours(fault.service, topology)
            if near:
                yield f"{', '.join(near)} reach it inside their own place; say callers: elsewhere, or --runtime embedded"


def _neighbours(service: str, topology: Topology) -> list[str]:
    """Replicas of other services that stand where this one does."""
    sites = {replica.site for replica in topology.of_service(service)}
    return [replica.name for replica in topology.replicas if replica.site in sites and replica.service != service]


def relayed_services(timeline: Sequence[model.FaultBase]) -> frozenset[str]:
    """The services that even their neighbours have to reach through the relay."""
    return frozenset(one.service for one in timeline if isinstance(one, model.DependencyDown) and one.callers == "all")
