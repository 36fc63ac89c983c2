"""The wide-area network that the Compose runtime puts between the sites of a stack. Pure.

Every place (a site, the witness's, outside) is a bridge network, and nothing but the WAN joins two of them. One container
`wan-<from>-<to>` stands in both networks of a direction. On the from-network it answers to the names of the replicas over
there, and its Toxiproxy dials them by `<replica>.<network>`; so applications keep their names and ports.

Replicas over there may use the same port. Those that share one get an address of their own each on the from-network, named in
the hosts files of the containers there; all others go by the WAN container's own address, found through Docker's DNS.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chaoslab.spec.model import OUTSIDE
from chaoslab.stack.topology import Flow, Replica, Topology

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
    """One direction of the WAN: connections that `flow.source` opens to `flow.to`.

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


def plan_wans(topology: Topology, reach: Reach) -> tuple[Wan, ...]:
    """One WAN for every ordered pair of places that has something to reach on its far side."""
    plans: list[Wan] = []
    for source in topology.places:
        taken = 0  # addresses of the from-network that are handed out already
        for to in topology.places:
            remote = [replica for replica in topology.in_site(to) if reach.ports.get(replica.name)]
            if source != to and remote:
                plan = _Direction(Flow(source, to), reach, taken)
                plans.append(plan.carrying(remote))
                taken = plan.taken
    return tuple(plans)


@dataclass
class _Direction:
    flow: Flow
    reach: Reach
    taken: int
    proxies: list[Proxy] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    hosts: list[tuple[str, str]] = field(default_factory=list)

    def carrying(self, remote: Sequence[Replica]) -> Wan:
        users = Counter(port for replica in remote for port in self.reach.ports[replica.name])
        for replica in remote:
            self._add(replica.name, shares=any(users[port] > 1 for port in self.reach.ports[replica.name]))
        harness = self._for_harness() if self.flow.source == OUTSIDE else []
        published = tuple((one.replica, one.port, int(one.listen.rpartition(":")[2])) for one in harness)
        return Wan(self.flow, (*self.proxies, *harness), tuple(self.aliases), tuple(self.hosts), published)

    def _add(self, replica: str, *, shares: bool) -> None:
        ports = self.reach.ports[replica]
        known = {*self.aliases, *(name for name, _ in self.hosts)}
        names = [name for name in self.reach.names[replica] if name not in known]
        address = _ANY
        if shares:
            self.taken += 1
            address = self.reach.networks[self.flow.source].from_the_top(self.taken)
            self.hosts += [(name, address) for name in names]
        else:
            self.aliases += names
        self.proxies += [self._proxy(f"{replica}_{port}", replica, port, f"{address}:{port}") for port in ports]

    def _proxy(self, name: str, replica: str, port: int, listen: str) -> Proxy:
        return Proxy(name, replica, port, listen, f"{replica}.{self.reach.networks[self.flow.to].name}:{port}")

    def _for_harness(self) -> list[Proxy]:
        """The same again on ports that all differ, for the machine to publish: ledgers and conditions are read there."""
        return [
            self._proxy(f"harness_{one.name}", one.replica, one.port, f"{_ANY}:{_FIRST_HARNESS_PORT + index}")
            for index, one in enumerate(self.proxies)
        ]


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
