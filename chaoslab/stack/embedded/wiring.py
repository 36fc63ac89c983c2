"""The addresses by which the replicas of an embedded stack reach each other. Pure, but for the ports it is handed.

A replica listens on a local port of its own. A client in the same site gets that port; a client in another place gets the
relay's proxy for the link between the two places. What the members of a cluster *advertise* to each other (etcd, Patroni) has
to be one address for every client: a router of the relay, which finds out each client's site. That costs a look at the process
table for each connection, so clients that are not members get the proxy of their link as usual.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from chaoslab.spec.stackfile.topology import Address, Flow, Replica, Topology
from chaoslab.stack.ports import LOOPBACK

_ADDRESS = re.compile(r"^([A-Za-z0-9][\w.-]*):(\d{1,5})$")
_ANY = ("0.0.0.0", "[::]", "localhost", LOOPBACK)  # noqa: S104 - matched, never bound

Endpoint = tuple[str, int]  # replica and the port it has in the Compose file


@dataclass(frozen=True)
class Proxy:
    """Carries connections that are opened `flow`'s way from `listen` to `upstream`."""

    name: str
    flow: Flow
    listen: Address
    upstream: Address
    replica: str
    port: int


@dataclass(frozen=True)
class Router:
    """One advertised address of a replica's port; `routes` names the proxy for clients of each other place."""

    name: str
    listen: Address
    upstream: Address
    routes: dict[str, str]
    replica: str
    port: int


@dataclass
class Wiring:
    """Addresses, handed out when they are first asked for, so that only links in use exist."""

    topology: Topology
    take_port: Callable[[], int]
    relayed: frozenset[str] = frozenset()  # services that are reached through the relay from within their site as well
    _local: dict[Endpoint, Address] = field(default_factory=dict)
    _proxies: dict[tuple[Endpoint, str], Proxy] = field(default_factory=dict)
    _routers: dict[Endpoint, Router] = field(default_factory=dict)

    @property
    def proxies(self) -> list[Proxy]:
        return list(self._proxies.values())

    @property
    def routers(self) -> list[Router]:
        return list(self._routers.values())

    def local(self, replica: str, port: int) -> Address:
        """Where the replica itself listens."""
        endpoint = (replica, port)
        if endpoint not in self._local:
            self._local[endpoint] = Address(LOOPBACK, self.take_port())
        return self._local[endpoint]

    def seen_from(self, place: str, replica: str, port: int) -> Address:
        """Where a client in `place` reaches a replica's port, through the link where there is one.

        From within the site of a relayed service it is a proxy from that site to itself: no fence ever holds that flow.
        """
        target = self.topology.replica(replica)
        if place == target.site and target.service not in self.relayed:
            return self.local(replica, port)
        return self._proxy((replica, port), place, target.site).listen

    def given_to(self, client: Replica, default: str) -> str | None:
        """The address that replaces an interpolation's default for this client; None when that is no address of the stack."""
        match = _ADDRESS.match(default)
        if match is None:
            return None
        host, port = match.group(1), int(match.group(2))
        if host in _ANY:
            return str(self.local(client.name, port))
        target = next((replica for replica in self.topology.replicas if replica.name == host), None)
        if target is None:
            return None
        if client.service == target.service:
            if f"{host}:{port}" in self.topology.spec.advertised:
                endpoint = (host, port)
                if endpoint not in self._routers:
                    places = [place for place in self.topology.places if place != target.site]
                    routes = {place: self._proxy(endpoint, place, target.site).name for place in places}
                    listen = Address(LOOPBACK, self.take_port())
                    self._routers[endpoint] = Router(
                        f"router_{host}_{port}", listen, self.local(host, port), routes, host, port
                    )
                return str(self._routers[endpoint].listen)
            if client.site == target.site:  # itself, or a replica of the same service beside it: never blocked
                return str(self.local(host, port))
        return str(self.seen_from(client.site, host, port))

    def _proxy(self, endpoint: Endpoint, place: str, site: str) -> Proxy:
        key = (endpoint, place)
        if key not in self._proxies:
            name = f"{place}_{site}_{endpoint[0]}_{endpoint[1]}"
            listen = Address(LOOPBACK, self.take_port())
            self._proxies[key] = Proxy(name, Flow(place, site), listen, self.local(*endpoint), *endpoint)
        return self._proxies[key]
