"""Proof, at boot, that no path between two places goes around the WAN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from chaoslab.errors import EnvironmentFault, StackError
from chaoslab.stack.docker_containers import Containers
from chaoslab.stack.socks import call_through
from chaoslab.stack.topology import Address, Topology
from chaoslab.stack.wan import Reach

_TRY_S = 0.4
_AT_ONCE = 32
_CURE = "let the engine manage the machine's packet filter: its options iptables and icc have to be on"


class Path(NamedTuple):
    """A caller's place, and a replica's own address in its own place."""

    place: str
    replica: str
    direct: Address


def require_isolation(containers: Containers, topology: Topology, reach: Reach, gates: Mapping[str, Address]) -> None:
    """Raises StackError when a replica stands in more networks than its place's, EnvironmentFault when places meet."""
    attached = _attachments(containers)
    for replica, networks in attached.items():
        home = reach.networks[topology.replica(replica).site].name
        if set(networks) - {home}:
            raise StackError(f"{replica} stands in {', '.join(networks)} and not only in {home}: faults would be bypassed")
    paths = [
        Path(place, replica, Address(ip, port))
        for place in gates
        for replica, networks in attached.items()
        if topology.replica(replica).site != place
        for ip in networks.values()
        for port in reach.ports[replica][:1]
    ]
    if open_ones := _open(paths, gates):
        words = ", ".join(f"{path.replica} from {path.place}" for path in open_ones)
        raise EnvironmentFault(f"these are reached around the WAN: {words}", cure=_CURE)


def _attachments(containers: Containers) -> dict[str, dict[str, str]]:
    """The networks of each running replica, and its address there."""
    running = [one for one in containers.seen() if one.role == "replica" and one.state == "running"]
    details: Sequence[Mapping[str, Any]] = containers.at_once(lambda one: containers.inspect(one.id), running)
    return {
        one.replica: {
            name: str(network["IPAddress"])
            for name, network in found["NetworkSettings"]["Networks"].items()
            if network["IPAddress"]
        }
        for one, found in zip(running, details, strict=True)
    }


def _open(paths: Sequence[Path], gates: Mapping[str, Address]) -> list[Path]:
    """Those on which a call gets anything back, be it a refusal."""

    def is_open(path: Path) -> bool:
        return call_through(gates[path.place], path.direct, _TRY_S, speak=False) != "silent"

    if not paths:
        return []
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return [path for path, found in zip(paths, pool.map(is_open, paths), strict=True) if found]
