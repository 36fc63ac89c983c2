"""The Compose project that is started, rendered from the one that the user wrote. Pure.

The user's services keep their commands, environment, volumes, health checks and names. Replaced are their networks (by the
places' and the WAN), their published ports (by what the harness reads, on the loopback) and their restart policies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaoslab.errors import SpecError
from chaoslab.spec.model import OUTSIDE
from chaoslab.stack.docker_images import CONTROL as CONTROL_PROGRAM
from chaoslab.stack.docker_images import WAN as WAN_IMAGE
from chaoslab.stack.topology import Replica, Topology
from chaoslab.stack.wan import Reach, Wan

RUN, SITE, REPLICA, ROLE = "chaoslab.run", "chaoslab.site", "chaoslab.replica", "chaoslab.role"
_REPLACED = (
    "container_name",
    "links",
    "external_links",
    "networks",
    "network_mode",
    "ports",
    "extra_hosts",
    "build",
    "profiles",
    "scale",
    "depends_on",
)
SOCKS_PORT = 1080  # of the gates
CONTROL, CONTROL_PORT = "chaoslab-control", 8080
_NOT_SPEECH = ("volumes", "image", "build", "labels")  # `name:digits` in there is no address

Config = Mapping[str, Any]  # the output of `docker compose config`


def ports_of(config: Config, exposed: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """The TCP ports of each service: published, exposed by it or by its image, or spoken of as `name:port` in the file.

    `exposed` has the ports of each image.
    """
    services = config["services"]
    spoken = _spoken_of(services)
    found: dict[str, tuple[int, ...]] = {}
    for name, service in services.items():
        declared = [int(port["target"]) for port in service.get("ports") or [] if port.get("protocol", "tcp") == "tcp"]
        declared += [port for text in service.get("expose") or [] for port in _port_range(str(text))]
        declared += exposed.get(image_of(config, name), ())
        shares = str(service.get("network_mode") or "").startswith("service:")  # its ports are its host's
        found[name] = () if shares else tuple(sorted({*declared, *spoken.get(name, ())}))
    return found


def image_of(config: Config, name: str) -> str:
    """The image of a service; one that is only built has the name that Compose gives it."""
    return str(config["services"][name].get("image") or f"{config['name']}-{name}")


def names_of(config: Config) -> dict[str, tuple[str, ...]]:
    """Every name that a service goes by: its own, its container's, and its aliases in the networks of the file."""
    return {name: _names(name, service) for name, service in config["services"].items()}


def _names(name: str, service: Mapping[str, Any]) -> tuple[str, ...]:
    attachments = [attached for attached in (service.get("networks") or {}).values() if attached]
    aliases = [alias for attached in attachments for alias in attached.get("aliases") or []]
    return tuple(dict.fromkeys([name, service.get("container_name") or name, *aliases]))


def _spoken_of(services: Mapping[str, Mapping[str, Any]]) -> dict[str, set[int]]:
    names = "|".join(re.escape(name) for name in sorted(services, key=len, reverse=True))
    mention = re.compile(rf"(?<![\w.-])({names}):(\d{{1,5}})(?!\d)")
    spoken: dict[str, set[int]] = {}
    for service in services.values():
        for text in _strings({key: value for key, value in service.items() if key not in _NOT_SPEECH}):
            for name, port in mention.findall(text):
                if 0 < int(port) < 65_536:
                    spoken.setdefault(name, set()).add(int(port))
    return spoken


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner)


def _port_range(text: str) -> Iterable[int]:
    span, _, protocol = text.partition("/")
    first, _, last = span.partition("-")
    return range(int(first), int(last or first) + 1) if protocol in ("", "tcp") else ()


@dataclass(frozen=True)
class Renderer:
    """Everything that the project is made from.

    `publish_ip`: the only address that ports are published on. `take_port`: where the machine's ports come from, so that they
    stay when a container is started again; None leaves them to Docker, which chooses new ones.
    """

    config: Config
    topology: Topology
    reach: Reach
    wans: Sequence[Wan]
    run_id: str
    publish_ip: str = "127.0.0.1"
    take_port: Callable[[], int] | None = None

    def project(self) -> dict[str, Any]:
        """The project. Raises SpecError for what would get around the WAN, such as the host's network."""
        replicas = {replica.name: self._replica(replica) for replica in self.topology.replicas}
        networks = {place: {"external": True, "name": one.name} for place, one in self.reach.networks.items()}
        volumes = {key: self._volume(key, volume or {}) for key, volume in (self.config.get("volumes") or {}).items()}
        return {
            "name": self.topology.project,
            "services": {**replicas, **self._equipment()},
            "networks": networks,
            "volumes": {**volumes, CONTROL: self._volume(CONTROL, {})},
            **{part: self.config[part] for part in ("configs", "secrets") if self.config.get(part)},
        }

    def _equipment(self) -> dict[str, Any]:
        """The harness's own containers."""
        return {**{wan.name: self._wan(wan) for wan in self.wans}, **self._gates(), CONTROL: self._control()}

    def _replica(self, replica: Replica) -> dict[str, Any]:
        service: Mapping[str, Any] = self.config["services"][replica.name]
        links = [wan for wan in self.wans if wan.flow.source == replica.site]
        rendered = {key: value for key, value in service.items() if key not in _REPLACED and value is not None}
        rendered |= {
            "image": image_of(self.config, replica.name),
            "pull_policy": "never",
            "labels": {**_labels(service), RUN: self.run_id, SITE: replica.site, REPLICA: replica.name, ROLE: "replica"},
            "restart": "no",  # or the engine would undo a kill
            "deploy": {key: value for key, value in (service.get("deploy") or {}).items() if key != "restart_policy"},
            "healthcheck": {"disable": True},  # run by the harness, and only while it waits
        }
        return rendered | self._attachment(replica, service, links)

    def _attachment(self, replica: Replica, service: Mapping[str, Any], links: Sequence[Wan]) -> dict[str, Any]:
        """How a replica is attached to its place's network and finds what lies beyond."""
        if shared := shared_network(self.config, self.topology.replicas, replica):
            return {"network_mode": shared}
        ports = self.reach.ports[replica.name] if replica.site == OUTSIDE else ()
        return {
            "networks": {replica.site: {"aliases": list(self.reach.names[replica.name])}},
            "extra_hosts": [*_extra_hosts(service), *_own_addresses(links)],
            "ports": [self._published(port) for port in ports],
        }

    def _volume(self, key: str, volume: Mapping[str, Any]) -> dict[str, Any]:
        if volume.get("external"):
            return dict(volume)  # the user's own: never removed, never destroyed
        kept = {part: value for part, value in volume.items() if part not in ("name", "labels")}
        return {**kept, "name": f"{self.topology.project}_{key}", "labels": {**_labels(volume), RUN: self.run_id}}

    def _wan(self, wan: Wan) -> dict[str, Any]:
        proxies = [{"name": p.name, "listen": p.listen, "upstream": p.upstream, "enabled": True} for p in wan.proxies]
        return {
            "image": WAN_IMAGE,
            "pull_policy": "never",
            "restart": "no",  # a Toxiproxy that comes back has forgotten every fault: better that it is missed
            "cap_add": ["NET_ADMIN"],
            "environment": {
                "LOG_LEVEL": "error",  # by default Toxiproxy writes several lines for each connection
                "WAN_PROXIES": json.dumps(proxies).replace("$", "$$"),
                "WAN_ADDRESSES": " ".join(dict.fromkeys(address for _, address in wan.hosts)),
                "WAN_API_PORT": str(self.reach.api_port),
            },
            "labels": {RUN: self.run_id, SITE: "wan", REPLICA: wan.name, ROLE: "wan"},
            "networks": {wan.flow.source: {"aliases": list(wan.aliases), "priority": 1000}, wan.flow.to: {}},
            "ports": [self._published(port) for port in (self.reach.api_port, *(own for _, _, own in wan.published))],
        }

    def _gates(self) -> dict[str, dict[str, Any]]:
        """In each place but outside, a door through which the harness can stand among the callers there (SOCKS 5)."""
        return {gate_name(place): self._gate(place) for place in self.topology.places if place != OUTSIDE}

    def _gate(self, place: str) -> dict[str, Any]:
        links = [wan for wan in self.wans if wan.flow.source == place]
        return {
            "image": WAN_IMAGE,
            "pull_policy": "never",
            "restart": "no",
            "entrypoint": ["microsocks", "-i", "0.0.0.0", "-p", str(SOCKS_PORT)],  # noqa: S104 - inside its container
            "labels": {RUN: self.run_id, SITE: place, REPLICA: gate_name(place), ROLE: "gate"},
            "networks": {place: {}},
            "extra_hosts": _own_addresses(links),
            "ports": [self._published(SOCKS_PORT)],
        }

    def _control(self) -> dict[str, Any]:
        """An idle server among the replicas outside, with a volume of its own: see `machine.control`."""
        return {
            "image": WAN_IMAGE,
            "pull_policy": "never",
            "restart": "no",
            "entrypoint": ["python3", CONTROL_PROGRAM, "0.0.0.0", str(CONTROL_PORT), "/control/file"],  # noqa: S104 - inside its container
            "labels": {RUN: self.run_id, SITE: OUTSIDE, REPLICA: CONTROL, ROLE: "control"},
            "networks": {OUTSIDE: {}},
            "volumes": [{"type": "volume", "source": CONTROL, "target": "/control"}],
            "ports": [self._published(CONTROL_PORT)],
        }

    def _published(self, port: int) -> dict[str, Any]:
        place = {"mode": "host", "host_ip": self.publish_ip, "target": port, "protocol": "tcp"}
        return place if self.take_port is None else {**place, "published": str(self.take_port())}


def shared_network(config: Config, replicas: Sequence[Replica], replica: Replica) -> str | None:
    """The network mode of a replica that has no network of its own. Raises SpecError for one that gets around the WAN."""
    mode = str(config["services"][replica.name].get("network_mode") or "")
    if mode in ("", "bridge", "default"):
        return None
    neighbours = {f"service:{one.name}" for one in replicas if one.site == replica.site}
    if mode == "none" or mode in neighbours:
        return mode
    raise SpecError(
        f"service {replica.name}: network_mode {mode} would get around the links between sites",
        cure="remove network_mode, or label the service with the site of the one whose network it shares",
    )


def gate_name(place: str) -> str:
    return f"gate-{place}"


def _own_addresses(links: Sequence[Wan]) -> list[str]:
    return [f"{name}={address}" for wan in links for name, address in wan.hosts]


def _labels(owner: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in (owner.get("labels") or {}).items()}


def _extra_hosts(service: Mapping[str, Any]) -> list[str]:
    given = service.get("extra_hosts") or []
    return [f"{name}={address}" for name, address in given.items()] if isinstance(given, Mapping) else list(given)
