"""Which address each replica of an embedded stack is given for each other one. Pure, but for the ports it is handed.

A replica listens on a local port of its own. A caller in the same site gets that port; a caller elsewhere gets the
relay's end of the link between the two places. What the members of a cluster *advertise* to each other (etcd, Patroni)
has to be one address for every caller: a front of the relay, which tells the callers' sites apart by itself. That costs a
look at the process table for each connection, so callers that are no members get their link's end as everybody does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from chaoslab.errors import StackError
from chaoslab.stack.topology import Address, Flow, Replica, Topology

LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"^([A-Za-z0-9][\w.-]*):(\d{1,5})$")
_ANY = ("0.0.0.0", "[::]", "localhost", "127.0.0.1")  # noqa: S104 - matched, never bound

Endpoint = tuple[str, int]  # replica and the port it has in the Compose file


@dataclass(frozen=True)
class Proxy:
    """One end of a link: callers of `flow.source` reach `upstream` through `listen`."""

    name: str
    flow: Flow
    listen: Address
    upstream: Address
    replica: str


@dataclass(frozen=True)
class Front:
    """One advertised address; `routes` names the proxy for callers of each other place."""

    name: str
    listen: Address
    upstream: Address
    routes: dict[str, str]


@dataclass
class Wiring:
    """Addresses, handed out when they are first asked for, so that only links in use exist."""

    topology: Topology
    take_port: Callable[[], int]
    relayed: frozenset[str] = frozenset()  # services whose neighbours reach them through the relay as well
    _local: dict[Endpoint, Address] = field(default_factory=dict)
    _proxies: dict[tuple[Endpoint, str], Proxy] = field(default_factory=dict)
    _fronts: dict[Endpoint, Front] = field(default_factory=dict)

    @property
    def proxies(self) -> list[Proxy]:
        return list(self._proxies.values())

    @property
    def fronts(self) -> list[Front]:
        return list(self._fronts.values())

    def local(self, replica: str, port: int) -> Address:
        """Where the replica itself listens."""
        return self._listen((replica, port))

    def seen_from(self, place: str, replica: str, port: int) -> Address:
        """Where a caller that stands in `place` reaches a replica's port, through the link where there is one.

        A neighbour of a relayed service goes through a proxy from its place to the same place: no fence ever holds that flow.
        """
        target = self.topology.replica(replica)
        if place == target.site and target.service not in self.relayed:
            return self._listen((replica, port))
        return self._proxy((replica, port), place, target.site).listen

    def given_to(self, caller: Replica, default: str) -> str | None:
        """What an interpolation with this default becomes for this caller; None when it is no address of the stack."""
        match = _ADDRESS.match(default)
        if match is None:
            return None
        host, port = match.group(1), int(match.group(2))
        if host in _ANY:
            return str(self._listen((caller.name, port)))
        if host not in self._names():
            return None
        target = self.topology.replica(host)
        if caller.service == target.service:
            if f"{host}:{port}" in self.topology.spec.advertised:
                return str(self._front((host, port)).listen)
            if caller.site == target.site:  # itself, or of its own kind beside it: no caller that a bar is about
                return str(self._listen((host, port)))
        return str(self.seen_from(caller.site, host, port))

    def _names(self) -> set[str]:
        return {replica.name for replica in self.topology.replicas}

    def _listen(self, endpoint: Endpoint) -> Address:
        if endpoint not in self._local:
            self._local[endpoint] = Address(LOOPBACK, self.take_port())
        return self._local[endpoint]

    def _proxy(self, endpoint: Endpoint, place: str, site: str) -> Proxy:
        key = (endpoint, place)
        if key not in self._proxies:
            name = f"{place}_{site}_{endpoint[0]}_{endpoint[1]}"
            listen = Address(LOOPBACK, self.take_port())
            self._proxies[key] = Proxy(name, Flow(place, site), listen, self._listen(endpoint), endpoint[0])
        return self._proxies[key]

    def _front(self, endpoint: Endpoint) -> Front:
        if endpoint not in self._fronts:
            site = self.topology.replica(endpoint[0]).site
            routes = {p: self._proxy(endpoint, p, site).name for p in self.topology.places if p != site}
            listen = Address(LOOPBACK, self.take_port())
            self._fronts[endpoint] = Front(f"front_{endpoint[0]}_{endpoint[1]}", listen, self._listen(endpoint), routes)
        return self._fronts[endpoint]


def require_replica(topology: Topology, name: str) -> Replica:
    """Raises StackError, naming the known ones, when there is no such replica."""
    try:
        return topology.replica(name)
    except KeyError:
        known = ", ".join(replica.name for replica in topology.replicas)
        raise StackError(f"no replica {name!r} in this stack; it has {known}") from None
