"""Which faults get in each other's way when they act at one instant. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chaoslab.spec import model
from chaoslab.stack.topology import Flow, Topology

Pair = frozenset[str]  # two places, whichever way


@dataclass(frozen=True)
class Touched:
    """What a fault changes: the links that it fences, those whose proxies it changes, and replicas, by name."""

    fences: frozenset[Pair] = frozenset()
    proxies: frozenset[Pair] = frozenset()
    replicas: frozenset[str] = frozenset()

    def meets(self, other: Touched) -> bool:
        """Whether one has to wait for the other.

        Two changes of one proxy read, write and read back; a proxy behind a fence may not answer; and what is seen of a slow
        link proves nothing while it is cut. Two fences only add up: they may be closed at once. So may be whatever a command
        of the user's own does: nobody knows what it touches.
        """
        links = self.proxies & (other.fences | other.proxies) or self.fences & other.proxies
        return bool(links or self.replicas & other.replicas)

    def lifts_before(self, other: Touched) -> bool:
        """Whether its fence is to be lifted before the other takes its toxics away."""
        return bool(self.fences & other.proxies)


def touched(fault: model.FaultBase, topology: Topology) -> Touched:
    """What a fault of the timeline changes in this stack."""
    found = Touched()
    match fault:
        case model.SitePowerLoss():
            names = frozenset(one.name for one in topology.in_site(fault.site))
            whole = Touched(fences=_pairs(topology.flows_around(fault.site)), replicas=names)
            found = whole if fault.services is None else Touched(replicas=names & frozenset(fault.services))
        case model.SiteIsolate():
            found = Touched(fences=_pairs(topology.flows_around(fault.site)))
        case model.LinkFlap() | model.LinkCut(mode="silent"):
            found = Touched(fences=frozenset({Pair((fault.source, fault.to))}))
        case model.LinkCut() | model.LinkDegrade():
            found = Touched(proxies=frozenset({Pair((fault.source, fault.to))}))
        case model.DependencyDown():
            sites = {one.site for one in topology.of_service(fault.service)}
            found = Touched(proxies=frozenset(Pair((site, place)) for site in sites for place in topology.places))
        case model.ReplicaFault():
            found = Touched(replicas=frozenset(one.name for one in topology.of_service(fault.service, fault.site)))
    return found


def _pairs(flows: Iterable[Flow]) -> frozenset[Pair]:
    return frozenset(Pair((flow.source, flow.to)) for flow in flows)
