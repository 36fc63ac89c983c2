"""What a Compose file says that a run does in another way, or cannot do: each with its place and its cure. Pure.

`compose/README.md` has the whole table. Values with a variable in them are left to the runtime, which asks Compose.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from chaoslab.spec.stackfile.merge import mount_of, volume_target
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Replica
from chaoslab.spec.yaml.problems import KeyPath
from chaoslab.spec.yaml.report import Report

_ADDRESS = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|(?<![\w:])f[cd][0-9a-f]{2}(?::[0-9a-f]{0,4}){2,7}(?![\w:])", re.IGNORECASE
)
_PRIVATE = [ipaddress.ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
_SOCKET = "docker.sock"
_SPOKEN = ("environment", "command", "entrypoint", "extra_hosts", "healthcheck")  # where a service names others
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

Services = Mapping[str, Mapping[str, Any]]  # in long form, by replica name


def check_support(data: Mapping[str, Any], services: Services, replicas: Sequence[Replica], report: Report) -> None:
    """All services of a merged file. `data` is the file itself."""
    sites = {replica.name: replica.site for replica in replicas}
    for name, service in services.items():
        at = report.below("services", name)
        for other, how in _map(service, "depends_on").items():
            if isinstance(how, dict) and how.get("restart") is True:
                message = f"restart: true is for Compose's commands; when a fault ends {other}, nothing restarts this service"
                at(("depends_on", other, "restart"), message, "compose.dependency-restart", level="note")
        _check_links(service, services, at)
        _check_network_mode(name, service, sites, at)
        ports = [(key, index, port) for key in ("ports", "expose") for index, port in enumerate(_list(service, key))]
        for key, index, port in ports:
            if (port.get("protocol") if isinstance(port, dict) else str(port).rpartition("/")[2]) == "udp":
                what = "what sends to it must be in its site, or use TCP as well"
                at((key, index), f"UDP does not cross sites: the links carry TCP; {what}", "compose.udp", level="warning")
        _check_containers(service, sites[name], at)
    _check_circles(services, report)
    _check_addresses(data, services, report)
    _check_volumes(data, services, sites, report)
    _check_declared(data, report)
    texts = [text for service in services.values() for _, text in _spoken(service)]
    for replica in replicas:
        mention = re.compile(rf"(?<![\w.-]){re.escape(replica.name)}:\d{{1,5}}(?!\d)")  # from which a run learns the port
        if replica.site != OUTSIDE and not replica.ports and not any(map(mention.search, texts)):
            message = f"{replica.name} has no known port, so no other site can reach it; if it listens, add expose"
            report(("services", replica.name), message, "compose.no-port", level="note", key=True)


def _check_circles(services: Services, report: Report) -> None:
    """Compose refuses services that wait for each other in a circle. Each circle is told once, at one of its needs."""
    needs: dict[str, dict[str, KeyPath]] = {}  # by service, those that must start before it, and where the file says so
    for name, service in services.items():
        found = needs[name] = {other: ("depends_on", other) for other in _map(service, "depends_on")}
        for key in ("links", "volumes_from"):
            found |= {str(entry).partition(":")[0]: (key, index) for index, entry in enumerate(_list(service, key))}
        for key in ("network_mode", "ipc", "pid"):
            kind, _, owner = str(service.get(key) or "").partition(":")
            found |= {owner: (key,)} if kind == "service" else {}
    while True:
        try:
            TopologicalSorter(needs).prepare()
            return
        except CycleError as cycle:
            circle = [*reversed(cycle.args[1])]  # each of which needs the next, the first again at the end
        waiting, needed = circle[:2]
        message = f"a circle: {' → '.join(circle)}; each waits for the next, so none would start; remove one of these needs"
        report(("services", waiting, *needs[waiting].pop(needed)), message, "compose.circle", key=True)


def _check_links(service: Mapping[str, Any], services: Services, report: Report) -> None:
    for index, link in enumerate(_list(service, "links")):
        target, _, alias = str(link).partition(":")
        if "$" not in target and target not in services:
            message = f"links to {target}, which is not a service that starts; name one, or remove the link"
            report(("links", index), message, "compose.link-unknown")
        elif alias in services and alias != target:
            message = f"the alias {alias} is the name of another service; choose an alias that is free"
            report(("links", index), message, "compose.link-unknown")
    if _list(service, "external_links"):
        message = "external_links bypass every fault, and are left out; make each a service of the stack"
        report(("external_links",), message, "compose.external-links", level="warning")


def _check_network_mode(name: str, service: Mapping[str, Any], sites: Mapping[str, str], report: Report) -> None:
    mode = service.get("network_mode")
    kind, _, owner = str(mode or "").partition(":")
    if mode is None or "$" in str(mode) or str(mode) in ("", "bridge", "default", "none"):
        return
    if kind == "service" and sites.get(owner) == sites[name]:
        return
    cure = (
        f"label {name} with the site of {owner}"
        if kind == "service" and owner in sites
        else "remove it: network_mode: !reset null"
    )
    report(("network_mode",), f"network_mode {mode} would bypass the links between sites; {cure}", "compose.network-mode")


def _check_containers(service: Mapping[str, Any], site: str, report: Report) -> None:
    deploy = service.get("deploy")
    for path, holder in ((("scale",), service), (("deploy", "replicas"), deploy)):
        count = holder.get(path[-1]) if isinstance(holder, dict) else None
        if not re.fullmatch(r"\d+", str(count)) or int(str(count)) == 1:
            continue
        if site == OUTSIDE:
            message = f"{count} containers of a service outside all sites need one address; give it a site, or one container"
            report(path, message, "compose.containers-outside")
        else:
            message = f"its {count} containers are one replica, lost together; on the embedded runtime it is one process"
            report(path, message, "compose.containers", level="note")


def _check_volumes(data: Mapping[str, Any], services: Services, sites: Mapping[str, str], report: Report) -> None:
    users: dict[str, list[tuple[str, KeyPath]]] = {}  # by volume, the services that may write to it
    for name, service in services.items():
        for index, volume in enumerate(_list(service, "volumes")):
            path: KeyPath = ("services", name, "volumes", index)
            source, kind, read_only = mount_of(volume)
            if kind == "volume" and source and not read_only:
                users.setdefault(source, []).append((name, path))
            if source.endswith(_SOCKET):
                message = (
                    "with the engine's socket it reaches containers by ways that no fault cuts, and beyond this run; "
                    "take the mount away in an overlay"
                )
                report(path, message, "compose.engine-socket", level="warning")
            elif not read_only and (kind == "bind" or _map(_map(data, "volumes"), source).get("external")):
                message = f"{source or volume_target(volume)} is yours: a run works on a copy of it; to share it: --use-binds"
                report(path, message, "compose.own-data", level="note")
    for source, mounts in users.items():
        across = sorted({sites[name] for name, _ in mounts})
        if len(across) > 1:
            message = (
                f"volume {source} is used in {', '.join(across)}: it survives the loss of each; write a volume for each site"
            )
            report(mounts[-1][1], message, "compose.volume-shared", level="warning")


def _check_addresses(data: Mapping[str, Any], services: Services, report: Report) -> None:
    """Static addresses are not kept; an address that is written out leads past the links, or nowhere."""
    static = set()
    for name, service in services.items():
        for network, attached in _map(service, "networks").items():
            for key in ("ipv4_address", "ipv6_address"):
                address = attached.get(key) if isinstance(attached, dict) else None
                if address is not None:
                    static.add(str(address))
                    message = f"{address} is not kept: each site has a network of its own; {name} is reached by its name"
                    report(("services", name, "networks", network, key), message, "compose.static-address", level="warning")
    subnets: list[Network] = []
    for network in _map(data, "networks").values():
        pools = (network.get("ipam") or {}).get("config") if isinstance(network, dict) else None
        for pool in pools if isinstance(pools, list) else ():
            with contextlib.suppress(ValueError, AttributeError):
                subnets.append(ipaddress.ip_network(str(pool.get("subnet")), strict=False))
    for name, service in services.items():
        for path, text in _spoken(service):
            for address in _ADDRESS.findall(text):
                own = address in static or _is_in(address, subnets)
                if own or _is_in(address, _PRIVATE):
                    where = "of this stack" if own else "of a private network"
                    what = "and those are not kept in a run" if own else "to which no link leads that a fault could cut"
                    message = f"{address} is an address {where}, {what}; write the name of the service"
                    report(("services", name, *path), message, "compose.address-literal", level="warning")


def _is_in(address: str, subnets: Iterable[Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in subnet for subnet in subnets)


def _check_declared(data: Mapping[str, Any], report: Report) -> None:
    """What the file declares beside its services: networks, configs and secrets."""
    for name, network in _map(data, "networks").items():
        if isinstance(network, dict) and network.get("internal") is True:
            message = "internal is not kept: in a run each site has one network, from which the internet is reached"
            report(("networks", name, "internal"), message, "compose.network-internal", level="note")
    for part in ("configs", "secrets"):
        for name, entry in _map(data, part).items():
            if isinstance(entry, dict) and entry.get("external"):
                message = f"external {part} are those of a swarm; give it a file, or content, in an overlay"
                report((part, name, "external"), message, "compose.config-external")


def _spoken(service: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Every text in which a service names others, and its path."""
    return _texts({key: service[key] for key in _SPOKEN if key in service})


def _texts(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text in a tree, and its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


def _list(service: Mapping[str, Any], key: str) -> list[Any]:
    found = service.get(key)
    return found if isinstance(found, list) else []


def _map(owner: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = owner.get(key)
    return found if isinstance(found, dict) else {}
