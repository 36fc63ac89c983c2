"""From the facts of a project to a plan of its rehearsal: sites, replicas, entry, journeys, each with its reason. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from chaoslab.adopt.entry import Entry, Route, Served, entry_of, routes_of
from chaoslab.adopt.facts import Project
from chaoslab.adopt.groups import Group, groups_of, spread
from chaoslab.adopt.notes import notes_on
from chaoslab.adopt.plan import Answers, Journey, Note, Placed, Plan
from chaoslab.adopt.ports import names_of, ports_of
from chaoslab.adopt.servers import server_of
from chaoslab.spec.stackfile.model import OUTSIDE

WITNESS = "witness"
_JOB = re.compile(r"migrat|seed|setup|bootstrap|fixture|(^|[-_])init([-_]|$)|create-?buckets?|db-?init", re.I)
_DONE = "service_completed_successfully"
_ALONE = "single point of failure: it has no other replica"


class Part(NamedTuple):
    """`here` of the `of` containers of a service. `extends`: that service, where this one is new."""

    extends: str = ""
    here: int = 1
    of: int = 0


def plan_of(project: Project, answers: Answers, served: Served | None = None) -> Plan:
    """The plan. `served`: what answers on the entry's published port now. Raises KeyError for an entry that is no service."""
    served = served or Served()
    entry = entry_of(project, answers.entry)
    project, parts = apart(project, entry, answers.sites)
    groups = groups_of(project, answers.sites)
    sites = _sites_of(project, groups, entry, answers.sites)
    routes = routes_of(project, groups, entry, served)
    if answers.path is not None:
        routes = [Route(answers.path, routes[0].group, "you named it", routes[0].host)]
    placed = tuple(_placed(project, groups, entry, sites, parts))
    burns = next((site for site in answers.sites if any(one.site == site for one in placed)), answers.sites[0])
    alone = tuple(
        group.name
        for group in groups
        if len({one.site for one in placed if one.service == group.name}) == 1
        and any(one.service == group.name and one.site == burns for one in placed)
        and group.members[0] not in jobs_of(project)
    )
    asked = {route.group for route in routes}
    notes = list(notes_on(project, groups, entry, {one.name: one.site for one in placed}, asked))
    unseen = [
        group.name
        for group in groups
        if group.name not in asked
        and any(one.service == group.name and one.site == burns for one in placed)
        and group.members[0] not in jobs_of(project)
        and _is_called(group, project)
    ]
    if unseen and (checks := [route for route in routes if route.is_check]):
        text = f"GET {checks[0].path} is a health check: if it reads no data, a pass shows nothing about {', '.join(unseen)}"
        notes.append(Note(checks[0].group, text, "request: {path: /<a path that reads data>}"))
    return Plan(
        sites=tuple(site for site in answers.sites if any(one.site == site for one in placed)),
        empty=tuple(site for site in answers.sites if all(one.site != site for one in placed)),
        placed=placed,
        entry=entry,
        journeys=tuple(_journeys(routes, served)),
        rto_s=answers.rto_s,
        burns=burns,
        burnt=tuple(
            dict.fromkeys(
                one.service for one in placed if one.site == burns and any(one.service == route.group for route in routes)
            )
        ),
        alone=alone,
        own_volumes=project.external_volumes,
        notes=tuple(notes),
    )


def _is_called(group: Group, project: Project) -> bool:
    """Whether a service that is not its replica waits for it, or names it in its settings."""
    names = {name for member in group.members for name in names_of(project.services[member], project)}
    mention = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, names))})(?![\w-])")
    others = [one for one in project.services.values() if one.name not in group.members]
    return any(names & set(one.needs) or any(mention.search(text) for _, text in one.words()) for one in others)


def jobs_of(project: Project) -> set[str]:
    """Services that end by design: others wait for their end, or their name shows it."""
    awaited = {name for one in project.services.values() for name, until in one.needs.items() if until == _DONE}
    named = {
        one.name
        for one in project.services.values()
        if _JOB.search(one.name) and not one.published and one.restart in ("", "no", "none", "on-failure") and not one.check
    }
    return (awaited | named) & set(project.services)


def _sites_of(project: Project, groups: Sequence[Group], entry: Entry, sites: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """By service of the file: its place, and the reason."""
    found: dict[str, tuple[str, str]] = {}
    jobs = jobs_of(project)
    for group in groups:
        server = server_of(project.services[group.members[0]])
        if len(group.members) == 1:
            [name] = group.members
            why = "a job that ends by design" if name in jobs else _ALONE
            found[name] = (sites[0], why)
        else:
            quorum = server is not None and server.quorum
            for name, site in spread(group, sites, quorum=quorum, witness=WITNESS).items():
                others = ", ".join(other for other in group.members if other != name)
                last = "; an odd quorum needs a witness" if site == WITNESS else ""
                found[name] = (site, f"a replica of {group.name}, as {others}: {group.why}{last}")
    if len(project.services) > 1:  # everything is measured through it, so it cannot be lost
        found[entry.service] = (OUTSIDE, f"the entry for users: {entry.why}")
    for name, service in project.services.items():
        kind, _, owner = service.network_mode.partition(":")
        if kind == "service" and owner in found:
            where = found[owner][0] if name != entry.service else OUTSIDE
            found[name], found[owner] = (where, f"it shares the network of {owner}"), (where, found[owner][1])
    for name, service in project.services.items():
        volumes = {mount.source for mount in service.mounts if mount.source and not mount.is_path}
        sharing = [
            other.name
            for other in project.services.values()
            if other.name != name and volumes & {mount.source for mount in other.mounts if not mount.is_path}
        ]
        if sharing and found[name][1] == _ALONE and all(found[other][0] not in (found[name][0], OUTSIDE) for other in sharing):
            found[name] = (found[sharing[0]][0], f"it shares a volume with {sharing[0]}")
    return found


def apart(project: Project, entry: Entry, sites: Sequence[str]) -> tuple[Project, dict[str, Part]]:
    """All containers of one service are in one site, so a service with several becomes one service for each site.

    Returns the new project, and the parts of the services that were split. Not split are jobs, services that keep data, share a
    network or have replicas with other names, and services that several files describe. One container of the entry remains.
    """
    services, parts = dict(project.services), dict[str, Part]()
    alone = {group.name for group in groups_of(project, sites) if len(group.members) == 1}
    for name, one in project.services.items():
        server = server_of(one)
        keeps_data = (server is not None and not server.http) or any(not mount.read_only for mount in one.mounts)
        if one.containers == 1 or name in jobs_of(project):
            continue
        if name == entry.service:
            services[name] = replace(one, containers=1)
            parts[name] = Part("", 1, one.containers)
        elif name in alone & project.whole and len(sites) > 1 and not (keeps_data or one.network_mode):
            for number in range(min(len(sites), one.containers)):
                here = one.containers // len(sites) + (number < one.containers % len(sites))
                own = name if number == 0 else f"{name}-{number + 1}"
                while number and own in services:
                    own += "-2"
                first = replace(one, name=own, containers=1)
                services[own] = replace(first, published={}, aliases=(*one.aliases, name)) if number else first
                parts[own] = Part(name if number else "", here, one.containers)
    return replace(project, services=services), parts


def _placed(
    project: Project,
    groups: Sequence[Group],
    entry: Entry,
    sites: Mapping[str, tuple[str, str]],
    parts: Mapping[str, Part],
) -> Iterator[Placed]:
    of = {member: group.name for group in groups for member in group.members}
    unawaited = {name for name in jobs_of(project) if all(name not in one.needs for one in project.services.values())}
    waiting = {entry.service}  # wait for the entry, directly or not: it cannot wait for these
    while more := {one.name for one in project.services.values() if not waiting.isdisjoint(one.needs)} - waiting:
        waiting |= more
    for name, service in project.services.items():
        server = server_of(service)
        declared = {*service.published, *service.exposed}
        expose = {port: why for port, why in ports_of(service, project).items() if port not in declared}
        if name == entry.service and entry.port not in declared:
            expose.setdefault(entry.port, "the entry's port; no file declares it")
        shares = service.network_mode.partition(":")[0] in ("service", "container", "host", "none")
        part = parts.get(name, Part())
        aliases = tuple(alias for one in project.services.values() for alias in one.links.get(part.extends or name, ()))
        site, why = sites[name]
        if part.of:
            containers = f"{part.here} of the {part.of} containers of {part.extends or name}"
            why = f"{why}; {containers}" if site == OUTSIDE else f"{containers}, spread over the sites"
        yield Placed(
            name=name,
            service=of[name],
            site=site,
            why=why,
            expose=expose,
            data={
                mount.target: f"chaoslab-{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-data"
                for mount in service.mounts
                if mount.is_path and not mount.read_only and server and mount.target.rstrip("/") in server.data
            },
            aliases=() if shares else tuple(dict.fromkeys([*aliases, *([part.extends] if part.extends else [])])),
            network=next(iter(service.networks), "default"),
            waits_for=tuple(sorted(unawaited - waiting)) if name == entry.service else (),
            title=server.title if server else "",
            extends=part.extends,
            containers=part.here if part.of else None,
        )


def _journeys(routes: Sequence[Route], served: Served) -> Iterator[Journey]:
    names: set[str] = set()
    for route in routes:
        slug = re.sub(r"[^a-z0-9]+", "-", route.path.lower()).strip("-")
        name = f"{route.group}.{slug or 'get'}"
        while name in names:
            name += "-2"
        names.add(name)
        status = served.statuses.get(route.path, 200)
        yield Journey(name, route.group, route.path, route.why, route.host, status if 200 <= status < 400 else 200)
