"""What a plan cannot know, and what does not work without changes: one sentence each, and the line to write. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from chaoslab.adopt.entry import Entry
from chaoslab.adopt.facts import Mount, Project, Service
from chaoslab.adopt.groups import Group
from chaoslab.adopt.plan import Note
from chaoslab.adopt.servers import only_copies, server_of

SOCKET = "docker.sock"


def notes_on(
    project: Project, groups: Sequence[Group], entry: Entry, site: Mapping[str, str], measured: Collection[str]
) -> Iterator[Note]:
    """Notes on the entry, on known servers, and on each service.

    `site`: the place of each service of the file; `measured`: the services (groups) that journeys measure.
    """
    if not entry.speaks_http:
        server = server_of(project.services[entry.service])
        what = f"it is {server.title}" if server else "unknown"
        yield Note(
            entry.service,
            f"the entry does not speak HTTP ({what}), so the journey will never get a good answer",
            "entry: <a service that answers HTTP>:<port>",
        )
    elif len(project.services) > 1 and all(entry.service in one.members for one in groups if one.name in measured):
        yield Note(
            entry.service,
            "it is outside all sites, and may answer these requests by itself; a fire that users do not notice is inconclusive",
            "request: {path: /<a path that is answered by a service in a site>}",
        )
    titles = {server.title for service in project.services.values() if (server := server_of(service)) is not None}
    for group in groups:
        members = [project.services[name] for name in group.members]
        server = server_of(members[0])
        if entry.service in group.members and len(members) > 1:
            others = ", ".join(name for name in group.members if name != entry.service)
            yield Note(group.name, f"users reach only {entry.service}, and {others} only through it")
        apart = len({site[name] for name in group.members}) > 1
        if server is not None and server.cannot:
            yield Note(group.name, f"{server.title} cannot cross sites: {server.cannot}")
        elif server is not None and apart:
            for member in members:
                if server.title in ("Redis", "Valkey") and only_copies(member) and "Redis Sentinel" not in titles:
                    yield Note(
                        member.name,
                        "it only copies another server, and no Sentinel here promotes it: while the other is lost, writes fail",
                        "three services that run Sentinel, one of them outside both sites, and callers that ask them who leads",
                    )
                if setting := server.needs(member):
                    yield Note(member.name, f"{server.title} in two sites has to announce the service's name", setting)
        elif server is not None and server.setting and not apart and group.members[0] != entry.service:
            standby = server.setting if server.setting.startswith("a ") else "a replica in another site"
            yield Note(group.name, f"{server.title} has no other replica; to survive the loss of its site it needs {standby}")
    for service in project.services.values():
        yield from _ways_around(service, project, site)
        for mount in service.mounts:
            yield from _shared(mount, service, project, site)


def _ways_around(service: Service, project: Project, site: Mapping[str, str]) -> Iterator[Note]:
    """Connections that no link carries, or that no fault of a link cuts."""
    name = service.name
    if service.containers > 1:
        yield Note(
            name,
            f"its {service.containers} containers are one Compose service, and therefore all in one site ({site[name]})",
            f"a service for each site, such as {name}-1 and {name}-2, and both names where {name} is called",
        )
    if service.network_mode and service.network_mode.partition(":")[0] not in ("service", "none", "bridge", "default"):
        yield Note(
            name,
            f"network_mode {service.network_mode} bypasses the links between sites; a run refuses it",
            f"services: {{{name}: {{network_mode: !reset null}}}}",
        )
    if service.udp:
        ports = ", ".join(map(str, service.udp))
        yield Note(name, f"UDP port {ports} cannot cross sites: the links between them carry only TCP")
    for address in service.addresses:
        for other in project.services.values():
            for where, text in other.words():
                if re.search(rf"(?<![\d.]){re.escape(address)}(?![\d.])", text):
                    yield Note(
                        name, f"cannot cross sites: {where} calls it by its IP address {address}", f"its name, {name}, there"
                    )
    if any(mount.source.endswith(SOCKET) for mount in service.mounts):
        server = server_of(service)
        if server is not None and server.title == "Traefik":
            yield Note(
                name,
                "cannot cross sites: with Docker's socket, Traefik calls containers by IP address",
                "a file provider with the names of the services",
            )
        else:
            yield Note(name, "it uses Docker's socket, and no fault can cut that connection")


def _shared(mount: Mount, service: Service, project: Project, site: Mapping[str, str]) -> Iterator[Note]:
    """Files that services in two sites share, and the user's files that a run would copy."""
    if mount.read_only or not mount.source or mount.source.endswith(SOCKET):
        return
    sharing = [
        other.name
        for other in project.services.values()
        if site[other.name] != site[service.name]
        and any(one.source == mount.source and not one.read_only for one in other.mounts)
    ]
    if sharing and service.name < sharing[0]:
        what = f"{mount.source} is shared with {', '.join(sharing)} in another site, and no fault can cut that connection"
        yield Note(service.name, what)
    server = server_of(service)
    if mount.is_path and not (server and mount.target.rstrip("/") in server.data):
        line = f"services: {{{service.name}: {{volumes: ['<a volume>:{mount.target}']}}}}"
        yield Note(service.name, f"a run works on a copy of {mount.source}, which takes time if it is large", line)
