"""The Compose project that is started, rendered from the one that the user wrote. Pure.

The user's services keep their commands, environment, volumes and names. Replaced are their networks (by one for each place and
the WAN between them), their published ports (by those that the harness uses, on the loopback), their health checks and restart
policies. The WAN is a container with a Toxiproxy for each direction between two places; a gate is a SOCKS server in a place,
through which the harness calls as a client there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaoslab.errors import SpecError
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Replica, Topology
from chaoslab.stack.compose.images import CONTROL as CONTROL_PROGRAM
from chaoslab.stack.compose.images import WAN as WAN_IMAGE
from chaoslab.stack.compose.wan import Reach, Wan
from chaoslab.stack.loop_disk import MOUNT_OPTIONS
from chaoslab.stack.ports import LOOPBACK

RUN_LABEL, SITE_LABEL, REPLICA_LABEL, ROLE_LABEL = "chaoslab.run", "chaoslab.site", "chaoslab.replica", "chaoslab.role"
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
    "depends_on",
)
SOCKS_PORT = 1080  # of the gates
CONTROL, CONTROL_PORT = "chaoslab-control", 8080
DISK_TARGET = "/disk"  # where a watch mounts its volume
_NO_ADDRESSES = ("volumes", "image", "build", "labels")  # `name:digits` in there is no address

Config = Mapping[str, Any]  # the output of `docker compose config`


def ports_of(config: Config, exposed: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """The TCP ports of each service: published, exposed by it or by its image, or mentioned as `name:port` in the file.

    `exposed` has the ports of each image.
    """
    services, owners = config["services"], dict[str, list[str]]()
    for owner, known in names_of(config).items():
        for name in known:
            owners.setdefault(name, []).append(owner)
    names = "|".join(re.escape(name) for name in sorted(owners, key=len, reverse=True))
    mention = re.compile(rf"(?<![\w.-])({names}):(\d{{1,5}})(?!\d)")
    mentioned: dict[str, set[int]] = {}  # by service, whichever of its names it is
    for service in services.values():
        for text in _strings({key: value for key, value in service.items() if key not in _NO_ADDRESSES}):
            for name, port in mention.findall(text):
                for owner in owners[name] if 0 < int(port) < 65_536 else ():
                    mentioned.setdefault(owner, set()).add(int(port))
    found: dict[str, tuple[int, ...]] = {}
    for name, service in services.items():
        declared = [int(port["target"]) for port in service.get("ports") or [] if port.get("protocol", "tcp") == "tcp"]
        for text in service.get("expose") or []:
            span, _, protocol = str(text).partition("/")
            first, _, last = span.partition("-")
            declared += range(int(first), int(last or first) + 1) if protocol in ("", "tcp") else ()
        declared += exposed.get(image_of(config, name), ())
        shares = str(service.get("network_mode") or "").startswith("service:")  # its ports are those of that service
        found[name] = () if shares else tuple(sorted({*declared, *mentioned.get(name, ())}))
    return found


def image_of(config: Config, name: str) -> str:
    """The image of a service; an image that is only built has the name that Compose gives it."""
    return str(config["services"][name].get("image") or f"{config['name']}-{name}")


def names_of(config: Config) -> dict[str, tuple[str, ...]]:
    """Every name that a service goes by: its own, its container's, its host's, its aliases in networks and in links."""
    linked: dict[str, list[str]] = {}
    for service in config["services"].values():
        for link in service.get("links") or []:
            target, _, alias = str(link).partition(":")
            linked.setdefault(target, []).append(alias or target)
    found: dict[str, tuple[str, ...]] = {}
    for name, service in config["services"].items():
        attachments = [attached for attached in (service.get("networks") or {}).values() if attached]
        aliases = [alias for attached in attachments for alias in attached.get("aliases") or []]
        own = [name, service.get("container_name") or name, service.get("hostname") or name]
        found[name] = tuple(dict.fromkeys([*own, *aliases, *linked.get(name, ())]))
    return found


def _strings(value: Any) -> Iterable[str]:
    """Every text in a tree."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner)


@dataclass(frozen=True)
class Renderer:
    """Renders the project.

    `publish_ip`: the only address that ports are published on. `take_port`: hands out ports of this machine, so that they stay
    when a container is started again; None leaves them to Docker, which chooses new ones.
    `devices`: by key, the loop device of each volume whose power can be cut; see `own_disks`.
    """

    config: Config
    topology: Topology
    reach: Reach
    wans: Sequence[Wan]
    run_id: str
    publish_ip: str = LOOPBACK
    take_port: Callable[[], int] | None = None
    devices: Mapping[str, str] = field(default_factory=dict)

    def project(self) -> dict[str, Any]:
        """The project. Raises SpecError for what would get around the WAN, such as the host's network."""
        replicas = {replica.name: self._replica(replica) for replica in self.topology.replicas}
        networks = {place: {"external": True, "name": one.name} for place, one in self.reach.networks.items()}
        volumes = {key: self._volume(key, volume or {}) for key, volume in (self.config.get("volumes") or {}).items()}
        wans = {wan.name: self._wan(wan) for wan in self.wans}
        return {
            "name": self.topology.project,
            "services": {**replicas, **wans, **self._beside()},
            "networks": networks,
            "volumes": {**volumes, CONTROL: self._volume(CONTROL, {})},
            **{part: self.config[part] for part in ("configs", "secrets") if self.config.get(part)},
        }

    def _replica(self, replica: Replica) -> dict[str, Any]:
        service: Mapping[str, Any] = self.config["services"][replica.name]
        rendered = {key: value for key, value in service.items() if key not in _REPLACED and value is not None}
        rendered |= {
            "image": image_of(self.config, replica.name),
            "pull_policy": "never",
            "labels": {
                **_labels(service),
                RUN_LABEL: self.run_id,
                SITE_LABEL: replica.site,
                REPLICA_LABEL: replica.name,
                ROLE_LABEL: "replica",
            },
            "restart": "no",  # or the engine would undo a kill
            "deploy": {key: value for key, value in (service.get("deploy") or {}).items() if key != "restart_policy"},
            "healthcheck": {"disable": True},  # the harness runs it, and only while a start waits
        }
        if shared := shared_network(self.config, self.topology.replicas, replica):
            return {**rendered, "network_mode": shared}
        ports = self.reach.ports[replica.name] if replica.site == OUTSIDE else ()
        given = service.get("extra_hosts") or []
        extra_hosts = [f"{name}={address}" for name, address in given.items()] if isinstance(given, Mapping) else given
        return {
            **rendered,
            "networks": {replica.site: {"aliases": list(self.reach.names[replica.name])}},
            "extra_hosts": [*extra_hosts, *self._own_addresses(replica.site, but=self.reach.names[replica.name])],
            "ports": [self._published(port) for port in ports],
        }

    def _volume(self, key: str, volume: Mapping[str, Any]) -> dict[str, Any]:
        if volume.get("external"):
            return dict(volume)  # the user's own: never removed, never destroyed
        kept = {part: value for part, value in volume.items() if part not in ("name", "labels")}
        if key in self.devices:
            kept = {"driver": "local", "driver_opts": {"type": "ext4", "device": self.devices[key], "o": MOUNT_OPTIONS}}
        return {**kept, "name": f"{self.topology.project}_{key}", "labels": {**_labels(volume), RUN_LABEL: self.run_id}}

    def _wan(self, wan: Wan) -> dict[str, Any]:
        """The Toxiproxy of one direction."""
        proxies = [{"name": p.name, "listen": p.listen, "upstream": p.upstream, "enabled": True} for p in wan.proxies]
        return {
            **self._ours(wan.name, "wan", "wan"),
            "cap_add": ["NET_ADMIN"],
            "environment": {
                "LOG_LEVEL": "error",  # by default Toxiproxy writes several lines for each connection
                "WAN_PROXIES": json.dumps(proxies).replace("$", "$$"),
                "WAN_ADDRESSES": " ".join(dict.fromkeys(address for _, address in wan.hosts)),
                "WAN_API_PORT": str(self.reach.api_port),
            },
            "networks": {wan.flow.to: {}, wan.flow.source: {"aliases": list(wan.aliases), "priority": 1000}},
            "ports": [self._published(port) for port in (self.reach.api_port, *(own for _, _, own in wan.published))],
        }

    def _beside(self) -> dict[str, Any]:
        """The gates, through which the harness calls as a client in a place; the watches; and the control."""
        found: dict[str, Any] = {}
        for place in self.topology.places:
            if place != OUTSIDE:
                found[gate_name(place)] = {
                    **self._ours(gate_name(place), place, "gate"),
                    "entrypoint": ["microsocks", "-i", "0.0.0.0", "-p", str(SOCKS_PORT)],  # noqa: S104 - inside its container
                    "networks": {place: {}},
                    "extra_hosts": self._own_addresses(place),
                    "ports": [self._published(SOCKS_PORT)],
                }
        for key in self.devices:  # a watch mounts a volume whose power can be cut, beside its replicas
            found[watch_name(key)] = {
                **self._ours(watch_name(key), OUTSIDE, "watch"),
                "entrypoint": ["sleep", "infinity"],
                "cap_add": ["SYS_ADMIN"],
                "network_mode": "none",
                "volumes": [{"type": "volume", "source": key, "target": DISK_TARGET, "volume": {"nocopy": True}}],
            }
        found[CONTROL] = {  # an idle server outside the sites, with a volume of its own; see `machine.control`
            **self._ours(CONTROL, OUTSIDE, "control"),
            "entrypoint": ["python3", CONTROL_PROGRAM, "0.0.0.0", str(CONTROL_PORT), "/control/file"],  # noqa: S104 - inside its container
            "networks": {OUTSIDE: {}},
            "volumes": [{"type": "volume", "source": CONTROL, "target": "/control"}],
            "ports": [self._published(CONTROL_PORT)],
        }
        return found

    def _ours(self, name: str, site: str, role: str) -> dict[str, Any]:
        """What all containers of the harness have in common."""
        return {
            "image": WAN_IMAGE,
            "pull_policy": "never",
            "restart": "no",  # a Toxiproxy that is restarted has forgotten every fault: better that its end is noticed
            "labels": {RUN_LABEL: self.run_id, SITE_LABEL: site, REPLICA_LABEL: name, ROLE_LABEL: role},
        }

    def _own_addresses(self, place: str, but: Sequence[str] = ()) -> list[str]:
        """Names and addresses, for the hosts file of a container in a place, of the replicas elsewhere that have their own."""
        hosts = (host for wan in self.wans if wan.flow.source == place for host in wan.hosts)
        return [f"{name}={address}" for name, address in hosts if name not in but]

    def _published(self, port: int) -> dict[str, Any]:
        place = {"mode": "host", "host_ip": self.publish_ip, "target": port, "protocol": "tcp"}
        return place if self.take_port is None else {**place, "published": str(self.take_port())}


def shared_network(config: Config, replicas: Sequence[Replica], replica: Replica) -> str | None:
    """The network mode of a replica that has no network of its own. Raises SpecError for a mode that gets around the WAN."""
    mode = str(config["services"][replica.name].get("network_mode") or "")
    if mode in ("", "bridge", "default"):
        return None
    same_site = {f"service:{one.name}" for one in replicas if one.site == replica.site}
    if mode == "none" or mode in same_site:
        return mode
    raise SpecError(
        f"service {replica.name}: network_mode {mode} would bypass the links between sites",
        cure="remove network_mode, or label the service with the site of the service whose network it shares",
    )


def gate_name(place: str) -> str:
    return f"gate-{place}"


def watch_name(key: str) -> str:
    return f"watch-{key}"


def _labels(owner: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in (owner.get("labels") or {}).items()}
