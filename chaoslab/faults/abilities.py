"""What the faults of a timeline need of a runtime, checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence

from chaoslab.errors import SpecError
from chaoslab.spec.fault import FaultBase
from chaoslab.spec.stackfile.topology import Topology


def refuse_impossible(timeline: Sequence[FaultBase], topology: Topology, runtime: type, name: str) -> None:
    """Raises SpecError for faults that a runtime, given by its class, cannot inject."""
    cannot = [
        f"the {name} runtime cannot inject {fault.fault} ({fault.id}): {why}"
        for fault in timeline
        for why in fault.lacking(topology, runtime)
    ]
    if cannot:
        raise SpecError("\n".join(cannot))


def relayed_services(timeline: Sequence[FaultBase]) -> frozenset[str]:
    """The services that callers in the same place, too, have to reach through the relay."""
    return frozenset().union(*(fault.relayed_services() for fault in timeline))


def cut_replicas(timeline: Sequence[FaultBase], topology: Topology) -> frozenset[str]:
    """The replicas whose volumes need to support a power cut."""
    return frozenset().union(*(fault.cuts_disks_of(topology) for fault in timeline))
