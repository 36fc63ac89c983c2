"""The facts about a user's Compose project, in one form for both readers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from expandvars import ExpandvarsException, expand

from chaoslab.spec.stackfile.merge import long_form

_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_PORT_MAX = 65_535
_RANGE_MAX = 100


class Mount(NamedTuple):
    """Something mounted into a container. `source` is a volume's name or a path; "" for an anonymous volume."""

    source: str
    target: str
    is_path: bool
    read_only: bool


@dataclass(frozen=True)
class Service:
    """One entry under `services:`. `texts`: files that belong to it, by name: its Dockerfile, a mounted nginx.conf."""

    name: str
    image: str = ""
    build: str = ""
    command: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[int, int | None] = field(default_factory=dict)  # TCP port inside → on the host, None for a random one
    exposed: tuple[int, ...] = ()
    udp: tuple[int, ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)  # depends_on: service → condition
    check: str = ""  # the command of its health check
    mounts: tuple[Mount, ...] = ()
    networks: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()  # static ones
    aliases: tuple[str, ...] = ()  # other names: container_name, and aliases in networks
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # service → names it has here
    network_mode: str = ""
    containers: int = 1
    restart: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def repository(self) -> str:
        """The image without registry, tag and digest: `bitnami/redis`."""
        path = re.sub(r"(@.*|:[^/]*)$", "", self.image)
        first, slash, rest = path.partition("/")
        return rest if slash and re.search(r"[.:]|^localhost$", first) else path

    @property
    def likeness(self) -> tuple[str, str]:
        """What replicas of one service share: the image, or what it is built from."""
        return (self.repository, "") if self.image else ("", self.build or self.name)

    def words(self) -> Iterator[tuple[str, str]]:
        """Every text that may name other services, with its source."""
        for name, value in self.environment.items():
            yield f"{name} of {self.name}", value
        yield f"the command of {self.name}", self.command
        yield f"the health check of {self.name}", self.check
        for name, value in self.labels.items():
            yield f"label {name} of {self.name}", value
        yield from self.texts.items()


@dataclass(frozen=True)
class Project:
    """The services that start, and the volumes that the project does not own.

    `whole`: services about which one file says everything, so that another service can extend them from there.
    """

    services: Mapping[str, Service]
    external_volumes: tuple[str, ...] = ()
    whole: frozenset[str] = frozenset()


def project_of(
    config: Mapping[str, Any], texts: Mapping[str, Mapping[str, str]], folder: str = "", whole: Iterable[str] = ()
) -> Project:
    """A project from `docker compose config` or from merged files; invalid parts are left out, since `check` reports them.

    Paths below `folder` are shown relative to it.
    """
    services = {
        str(name): service_of(str(name), entry, texts.get(str(name), {}), folder)
        for name, entry in mapping(config.get("services")).items()
        if isinstance(entry, dict)
    }
    volumes = mapping(config.get("volumes"))
    external = tuple(key for key, volume in volumes.items() if isinstance(volume, dict) and volume.get("external"))
    return Project(services, external, frozenset(whole))


def service_of(name: str, entry: Mapping[str, Any], texts: Mapping[str, str], folder: str = "") -> Service:
    """A service, from an entry in short or long form."""
    entry = long_form(entry)
    ports = list(_ports(entry.get("ports")))
    networks = entry.get("networks")
    attached = [one for one in mapping(networks).values() if isinstance(one, dict)]
    addresses = [one.get(key) for one in attached for key in ("ipv4_address", "ipv6_address")]
    build, check = entry.get("build"), mapping(entry.get("healthcheck"))
    links: dict[str, tuple[str, ...]] = {}
    for link in items(entry.get("links")):
        other, _, alias = str(link).partition(":")
        links[other] = (*links.get(other, ()), *([alias] if alias and alias != other else []))
    deploy = mapping(entry.get("deploy"))
    replicas = plain(deploy.get("replicas", entry.get("scale")))
    return Service(
        name=name,
        image=plain(entry.get("image")),
        build=plain(build.get("context", ".") if isinstance(build, dict) else build),
        command=" ".join([words(entry.get("entrypoint")), words(entry.get("command"))]).strip(),
        environment={key: plain(value) for key, value in mapping(entry.get("environment")).items()},
        published={target: host for target, host, protocol in ports if protocol == "tcp"},
        exposed=tuple(target for target, _, protocol in _ports(entry.get("expose")) if protocol == "tcp"),
        udp=tuple(target for target, _, protocol in ports if protocol == "udp"),
        needs={
            str(other): str(mapping(how).get("condition", "service_started"))
            for other, how in mapping(entry.get("depends_on")).items()
        },
        check="" if check.get("disable") else words(check.get("test")),
        mounts=tuple(
            mount._replace(source=f".{mount.source.removeprefix(folder)}")
            if mount.source.startswith(f"{folder}/") and folder
            else mount
            for mount in _mounts(entry.get("volumes"))
        ),
        networks=tuple(map(str, networks)) if isinstance(networks, dict | list) else (),
        addresses=tuple(plain(address) for address in addresses if address),
        aliases=tuple(
            dict.fromkeys(
                plain(alias)
                for alias in [entry.get("container_name"), *(alias for one in attached for alias in items(one.get("aliases")))]
                if alias
            )
        ),
        links=links,
        network_mode=plain(entry.get("network_mode")),
        containers=max(1, int(replicas)) if re.fullmatch(r"\d{1,4}", replicas) else 1,
        restart=plain(entry.get("restart") or mapping(deploy.get("restart_policy")).get("condition")),
        labels={str(key): plain(value) for key, value in mapping(entry.get("labels")).items()},
        texts=texts,
    )


def plain(value: Any) -> str:
    """Text with the defaults of its variables filled in; a variable without a default is left unchanged."""
    text = "" if value is None else str(value)
    if "$" not in text:
        return text
    try:
        return str(expand(text.replace("$$", "$"), environ={})) or text
    except ExpandvarsException:
        return text


def words(value: Any) -> str:
    """A command as one line."""
    return " ".join(plain(word) for word in value) if isinstance(value, list) else plain(value)


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _ports(raw: Any) -> Iterator[tuple[int, int | None, str]]:
    """From `ports` or `expose`: the port inside, the port on the host, the protocol."""
    for entry in items(raw):
        if isinstance(entry, dict):
            inside, host, protocol = plain(entry.get("target")), plain(entry.get("published")), plain(entry.get("protocol"))
        else:
            text, _, protocol = plain(entry).partition("/")
            rest, _, inside = text.rpartition(":")
            host = rest.rpartition(":")[2]
        for number, target in enumerate(_span(inside)):
            yield target, next(iter([*_span(host)][number:]), None), protocol or "tcp"


def _span(text: str) -> Iterable[int]:
    match = _PORTS.fullmatch(text)
    first = int(match.group(1)) if match else 0
    last = int(match.group(2) or first) if match else 0
    return range(first, last + 1) if 0 < first <= last <= _PORT_MAX and last - first < _RANGE_MAX else ()


def _mounts(raw: Any) -> Iterator[Mount]:
    for entry in items(raw):
        if isinstance(entry, dict):
            source, target = plain(entry.get("source")), plain(entry.get("target"))
            if entry.get("type", "volume") in ("volume", "bind"):
                yield Mount(source, target, entry.get("type") == "bind", bool(entry.get("read_only")))
            continue
        parts = plain(entry).split(":")
        source = parts[0] if len(parts) > 1 else ""
        target, options = parts[1] if len(parts) > 1 else parts[0], parts[2:]
        yield Mount(source, target, source.startswith((".", "/", "~", "$")), "ro" in ",".join(options).split(","))
