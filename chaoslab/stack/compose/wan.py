"""The WAN: the wide-area network between the sites of a stack on the Compose runtime, a container for each direction. Pure.

Every place (a site, the witness's, outside) is a bridge network, and only the WAN joins two of them. The container
`wan-<from>-<to>` is attached to both networks of its direction. On the from-network it has the names of the replicas over
there, and its Toxiproxy dials them by `<replica>.<network>`; so applications keep their names and ports.

Replicas over there may use the same port, or a name that others have, too. Each of those gets an address of its own on the
from-network, named in the hosts files of the containers there; all others have the WAN container's own address, found through
Docker's DNS. A name that several replicas have leads to those in the caller's own place, where there are any, else to all.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Flow, Replica, Topology

_ANY = "[::]"  # and never 0.0.0.0, which every populate restarts
_FIRST_API_PORT = 8474
_FIRST_HARNESS_PORT = 20_000


@dataclass(frozen=True)
class Network:
    """The bridge network of a place. `gateway` is the machine itself."""

    name: str
    subnet: str
    gateway: str

    def from_the_top(self, index: int) -> str:
        """The address `index` below the highest of the subnet; Docker hands them out from the bottom."""
        return str(ipaddress.ip_network(self.subnet)[-2 - index])


@dataclass(frozen=True)
class Reach:
    """How replicas are reached: the ports and the names of each replica, the network of each place."""

    ports: Mapping[str, Sequence[int]]
    names: Mapping[str, Sequence[str]]
    networks: Mapping[str, Network]

    @property
    def api_port(self) -> int:
        """Where Toxiproxy's API listens: the first port from its usual one on that no replica uses."""
        used = {port for ports in self.ports.values() for port in ports}
        return next(port for port in range(_FIRST_API_PORT, _FIRST_HARNESS_PORT) if port not in used)


@dataclass(frozen=True)
class Proxy:
    """One port of one remote replica, as a Toxiproxy listens for it. `listen` and `upstream` read address:port."""

    name: str
    replica: str
    port: int
    listen: str
    upstream: str


@dataclass(frozen=True)
class Wan:
    """One direction of the WAN: connections that `flow.source` opens to `flow.to`, which may be the same place.

    `aliases`: names on the from-network that stand for the container's own address. `hosts`: name and address of the replicas
    that have an address of their own. `published`: replica, its port, and the port here that the machine publishes for it.
    """

    flow: Flow
    proxies: tuple[Proxy, ...]
    aliases: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    published: tuple[tuple[str, int, int], ...] = ()

    @property
    def name(self) -> str:
        return f"wan-{self.flow.source}-{self.flow.to}"

    @property
    def back(self) -> Flow:
        """What travels the other way through the same connections."""
        return Flow(self.flow.to, self.flow.source)


def plan_wans(topology: Topology, reach: Reach, *, within: bool = False) -> tuple[Wan, ...]:
    """One WAN container for every ordered pair of places that has something to reach on its far side.

    `within`: also one in each place, by which its replicas reach each other.
    """
    wans: list[Wan] = []
    owners = Counter(name for replica in topology.replicas for name in {*reach.names[replica.name]})
    shared = frozenset(name for name, count_ in owners.items() if count_ > 1)
    for source in topology.places:
        near = frozenset(name for replica in topology.in_site(source) for name in reach.names[replica.name])
        addresses = map(reach.networks[source].from_the_top, count(1))
        for to in topology.places:
            remote = [replica for replica in topology.in_site(to) if reach.ports.get(replica.name)]
            if remote and (source != to or (within and source != OUTSIDE)):
                known_near = near if source != to else frozenset[str]()
                wans.append(_plan_wan(Flow(source, to), remote, reach, addresses, known_near, shared))
    return tuple(wans)


def _plan_wan(
    flow: Flow,
    remote: Sequence[Replica],
    reach: Reach,
    addresses: Iterator[str],
    near: frozenset[str],
    shared: frozenset[str],
) -> Wan:
    """One direction. `addresses`: free ones of the from-network, for replicas that share a port or a name with others.

    `near`: names that lead to replicas of the from-network itself. `shared`: names that several replicas have, wherever.
    """
    users = Counter(port for replica in remote for port in reach.ports[replica.name])
    proxies, aliases, hosts = list[Proxy](), list[str](), list[tuple[str, str]]()
    for replica in remote:
        ports, upstream = reach.ports[replica.name], f"{replica.name}.{reach.networks[flow.to].name}"
        known = {*aliases, *(name for name, _ in hosts)}
        names = [name for name in reach.names[replica.name] if name not in known | near]
        address = _ANY
        # Within a place Docker's DNS has the replica's own name.
        if any(users[port] > 1 for port in ports) or flow.source == flow.to or not shared.isdisjoint(names):
            address = next(addresses)
            hosts += [(name, address) for name in names]
        else:
            aliases += names
        for port in ports:
            proxies.append(Proxy(f"{replica.name}_{port}", replica.name, port, f"{address}:{port}", f"{upstream}:{port}"))
    published: list[tuple[str, int, int]] = []
    if flow.source == OUTSIDE:  # all again on ports that differ, for this machine to publish: the harness reads there
        for own_port, proxy in enumerate([*proxies], _FIRST_HARNESS_PORT):
            proxies.append(replace(proxy, name=f"harness_{proxy.name}", listen=f"{_ANY}:{own_port}"))
            published.append((proxy.replica, proxy.port, own_port))
    return Wan(flow, tuple(proxies), tuple(aliases), tuple(hosts), tuple(published))


# --- packet rules -----------------------------------------------------------------------------------------------


def fence_rules(wan: Wan, held: Iterable[Flow], reach: Reach) -> str:
    """Input of iptables-restore that holds these flows in one direction's network namespace, and lets all others pass.

    What travels from A to B comes in from A's network and leaves into B's, whoever opened the connection. The machine itself
    keeps its way to Toxiproxy's API.
    """
    mine = [flow for flow in (wan.flow, wan.back) if flow in set(held)]
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]"]
    for place in wan.flow if mine else ():
        gateway = reach.networks[place].gateway
        lines.append(f"-A INPUT -s {gateway}/32 -p tcp -m tcp --dport {reach.api_port} -j ACCEPT")
        lines.append(f"-A OUTPUT -d {gateway}/32 -p tcp -m tcp --sport {reach.api_port} -j ACCEPT")
    for flow in mine:
        lines += _drops(flow, reach)
    return "\n".join([*lines, "COMMIT", ""])


def held_by(rules: str, wan: Wan, reach: Reach) -> frozenset[Flow]:
    """The flows that `iptables-save` says are held in one direction's namespace."""
    there = set(rules.splitlines())
    return frozenset(flow for flow in (wan.flow, wan.back) if there.issuperset(_drops(flow, reach)))


def _drops(flow: Flow, reach: Reach) -> list[str]:
    inward, outward = reach.networks[flow.source].subnet, reach.networks[flow.to].subnet
    return [f"-A INPUT -s {inward} -j DROP", f"-A OUTPUT -d {outward} -j DROP"]
