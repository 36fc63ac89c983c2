"""Proof, at boot, that no path between two places goes around the WAN.

The WAN is the containers that join the networks of two places each; a gate is the SOCKS server in a place, through which the
harness tries the paths from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from chaoslab.errors import EnvironmentFault, StackError
from chaoslab.spec.stackfile.topology import Address, Topology
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.socks import call_through
from chaoslab.stack.compose.wan import Reach

_TRY_S = 0.4
_AT_ONCE = 32
_CURE = "let the engine manage the machine's packet filter: its options iptables and icc must be on"


class Path(NamedTuple):
    """A way from a place to a replica elsewhere: straight to its own address in its own place."""

    place: str
    replica: str
    direct: Address


def require_isolation(containers: Containers, topology: Topology, reach: Reach, gates: Mapping[str, Address]) -> None:
    """Raises StackError when a replica stands in more networks than its place's, EnvironmentFault when places meet."""
    attached = _attachments(containers)
    for replica, networks in attached.items():
        home = reach.networks[topology.replica(replica).site].name
        if set(networks) - {home}:
            raise StackError(f"{replica} is attached to {', '.join(networks)}, not only to {home}: faults would be bypassed")
    paths = [
        Path(place, replica, Address(ip, port))
        for place in gates
        for replica, networks in attached.items()
        if topology.replica(replica).site != place
        for ip in networks.values()
        for port in reach.ports[replica][:1]
    ]

    def outcome(path: Path) -> str:
        return call_through(gates[path.place], path.direct, _TRY_S, speak=False)

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:  # a refusal is an answer, too
        reached = [path for path, seen in zip(paths, pool.map(outcome, paths), strict=True) if seen != "silent"]
    if reached:
        listed = ", ".join(f"{path.replica} from {path.place}" for path in reached)
        raise EnvironmentFault(f"these paths bypass the WAN: {listed}", cure=_CURE)


def _attachments(containers: Containers) -> dict[str, dict[str, str]]:
    """The networks of each running replica, and its address there."""
    running = [one for one in containers.all() if one.role == "replica" and one.state == "running"]
    details: Sequence[Mapping[str, Any]] = containers.at_once(lambda one: containers.inspect(one.id), running)
    return {
        one.replica: {
            name: str(network["IPAddress"])
            for name, network in found["NetworkSettings"]["Networks"].items()
            if network["IPAddress"]
        }
        for one, found in zip(running, details, strict=True)
    }
