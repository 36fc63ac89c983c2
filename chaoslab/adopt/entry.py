"""Where users connect, and which requests they send there. Pure.

Paths come from an OpenAPI document, from the routes of a proxy, and from health checks; `/` is the last resort.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from chaoslab.adopt.facts import Project, Service
from chaoslab.adopt.groups import Group
from chaoslab.adopt.ports import names_of, ports_of
from chaoslab.adopt.servers import server_of

_USUAL_PORTS = (80, 8080, 8000, 3000, 5000, 4000, 8081, 8888, 443)
_FRONT = re.compile(r"proxy|gateway|ingress|edge|router|balancer|\blb\b|haproxy|nginx|traefik|caddy|envoy|entry|front", re.I)
_WEB = re.compile(r"web|ui|www|portal|app|site|api|server|dashboard|kibana|grafana", re.I)
_PATH = re.compile(r"/[!-z|~]*")  # no blanks, and no braces, which are placeholders
_JOURNEYS_MAX = 5

_UPSTREAM = re.compile(r"upstream\s+([\w.-]+)\s*\{([^}]*)\}")
_LOCATION = re.compile(r"location\s+(?:=|\^~)?\s*(/\S*)\s*\{([^{}]*)\}")
_PASS = re.compile(r"(?:proxy|uwsgi|fastcgi|grpc)_pass\s+(?:\w+://)?([\w.-]+)")
_CADDY = re.compile(r"(?:handle(?:_path)?\s+(/\S*)\s*\{[^}]*?)?reverse_proxy\s+(/\S*\s+)?([^\n{}]+)")
_APACHE = re.compile(r"(?im)^\s*ProxyPass\s+\"?(/[^\s\"]*)\"?\s+\"?\w+://([\w.-]+)")
_HAPROXY = re.compile(r"(?m)^\s*server\s+\S+\s+([\w.-]+):\d+")
_TRAEFIK = re.compile(r"Path(?:Prefix)?\(`([^`]+)`")
_TRAEFIK_HOST = re.compile(r"Host\(`([^`]+)`")
_HTTP_CHECK = re.compile(r"https?://[^/\s\"']+(/[^\s\"'|;)?]*)")  # without its query, which may hold a secret


class Entry(NamedTuple):
    """`speaks_http`: nothing says otherwise."""

    service: str
    port: int
    why: str
    is_proxy: bool
    speaks_http: bool


@dataclass(frozen=True)
class Route:
    """A path at the entry, the service that answers there, and how that is known. `is_check`: it may read no data."""

    path: str
    group: str
    why: str
    host: str = ""
    is_check: bool = False


@dataclass(frozen=True)
class Served:
    """What a port of this machine answered: the OpenAPI document, and the status of paths."""

    openapi: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    statuses: Mapping[str, int] = field(default_factory=dict)


def entry_of(project: Project, wanted: str | None = None) -> Entry:
    """The service and port that users reach. `wanted`: a service of the project, and perhaps a port, as `web:8080`."""
    name, _, port = (wanted or "").partition(":")
    best = project.services[name] if name else max(project.services.values(), key=lambda one: _rank(one, project))
    ports = ports_of(best, project)
    known = min(best.published or ports, key=lambda inside: _unusual(inside, best.published.get(inside)), default=80)
    number = int(port) if port.isdigit() else known
    server = server_of(best)
    reasons = [f"publishes port {number}"] if number in best.published else []
    reasons += [f"it is {server.title}"] if server and server.is_proxy else []
    reasons += ["nothing else depends on it"] if not reasons and ports else []
    why = "you named it" if wanted else " and ".join(reasons) or "the first service; no file declares a port of it"
    return Entry(best.name, number, why, _is_proxy(best, project), server is None or server.http)


def _is_proxy(service: Service, project: Project) -> bool:
    """Whether it is a proxy, by its image, or by files that forward requests to another service of the project."""
    server = server_of(service)
    others = {name: one.name for one in project.services.values() if one != service for name in names_of(one, project)}
    return bool(server and server.is_proxy) or any(_proxied(service, others))


def _unusual(*ports: int | None) -> int:
    """The index of the first of these in the list of usual ports of web servers."""
    return min((_USUAL_PORTS.index(port) for port in ports if port in _USUAL_PORTS), default=len(_USUAL_PORTS))


def _rank(service: Service, project: Project) -> tuple[object, ...]:
    server, called = server_of(service), sum(service.name in one.needs for one in project.services.values())
    fits = (_is_proxy(service, project), bool(_FRONT.search(service.name)), bool(_WEB.search(service.name)))
    web = any(_unusual(inside, host) < len(_USUAL_PORTS) for inside, host in service.published.items())
    place = list(project.services).index(service.name)
    ports = ports_of(service, project)
    return (
        bool(service.published),
        bool(ports),
        server is None or server.http,
        *fits,
        web,
        -called,
        len(service.needs),
        -place,
    )


def routes_of(project: Project, groups: Sequence[Group], entry: Entry, served: Served) -> list[Route]:
    """Paths that users may request from the entry: at least one, at most five."""
    of = {
        name: group.name for group in groups for member in group.members for name in names_of(project.services[member], project)
    }
    front = of[entry.service]
    routes = [*_proxied(project.services[entry.service], of), *_labelled(project, of)] if entry.is_proxy else []
    behind = [route for route in routes if route.group != front]
    main = next((route.group for route in behind if route.path == "/"), None)
    if entry.is_proxy and not behind:
        main = _behind(project, groups, entry, of)
        behind = [Route("/", main or front, "no file names a path" if main else "no file says what is behind the proxy")]
    main = main or (behind[0].group if behind else front)
    longest_first = sorted(behind, key=lambda route: -len(route.path))
    documented = [
        Route(path, next((one.group for one in longest_first if path.startswith(one.path)), main), f"GET in {served.where}")
        for path in islice(_documented(served.openapi), _JOURNEYS_MAX)
    ]
    if documented:
        return documented
    if not entry.is_proxy:
        behind = [Route("/", front, "the path that most servers answer")]
    fine = {(route.path, route.host): route for route in reversed(behind) if _PATH.fullmatch(route.path)}
    found = [*reversed(fine.values())] or [Route("/", behind[0].group, "the path that most servers answer")]
    if 200 <= served.statuses.get("/", 0) < 400:
        found = [replace(one, why=f"it answers at {served.where} now") if one.path == "/" else one for one in found]
    else:  # if all paths lead to one service, the path of its health check is better than none
        first = {group.name: project.services[group.members[0]] for group in groups}
        for number, route in enumerate(found):
            check = _HTTP_CHECK.search(first[route.group].check) if route.path == "/" else None
            if check is not None and check[1] != "/" and _PATH.fullmatch(check[1]):
                why = f"the path of {first[route.group].name}'s health check"
                found[number] = replace(route, path=check[1], why=why, is_check=True)
    return found[:_JOURNEYS_MAX]


def _proxied(proxy: Service, of: Mapping[str, str]) -> Iterator[Route]:
    """Routes in files of nginx, Caddy, Apache or HAProxy."""
    for file, text in proxy.texts.items():
        plain = re.sub(r"(?m)#.*$", "", text) if file != "Dockerfile" else ""
        pools = {name: re.findall(r"server\s+([\w.-]+)", body) for name, body in _UPSTREAM.findall(plain)}
        found = []  # path, host behind it, and the source
        for path, body in _LOCATION.findall(plain):
            found += [(path, host, "a location") for name in _PASS.findall(body) for host in pools.get(name, [name])]
        for block, path, hosts in _CADDY.findall(plain):
            where = (block or path).strip().rstrip("*") or "/"
            found += [(where, host, "reverse_proxy") for host in re.findall(r"[\w.-]+", re.sub(r"\w+://", "", hosts))]
        found += [(path, host, "ProxyPass") for path, host in _APACHE.findall(plain)]
        found += [("/", host, "a server") for host in _HAPROXY.findall(plain)]
        yield from (Route(path, of[host], f"{what} of {file}") for path, host, what in found if host in of)


def _labelled(project: Project, of: Mapping[str, str]) -> Iterator[Route]:
    """Routes in Traefik's labels."""
    for service in project.services.values():
        for key, rule in service.labels.items():
            if re.fullmatch(r"traefik\.http\.routers\..+\.rule", key):
                path, host = _TRAEFIK.search(rule), _TRAEFIK_HOST.search(rule)
                yield Route(path[1] if path else "/", of[service.name], f"label {key}", host[1] if host else "")


def _behind(project: Project, groups: Sequence[Group], entry: Entry, of: Mapping[str, str]) -> str | None:
    """The service behind a proxy without routes: one that its files name or, without files, one that it waits for."""
    proxy = project.services[entry.service]
    named = [
        of[name]
        for _, text in proxy.words()
        for name in of
        if re.search(rf"(?<![\w.-]){re.escape(name)}:\d|//{re.escape(name)}\b", text)
    ]
    waited = [of[name] for name in proxy.needs if name in of and not proxy.texts]
    servers = {group.name: server_of(project.services[group.members[0]]) for group in groups}
    stores = {name for name, server in servers.items() if server is not None and not server.http}
    return next((name for name in [*named, *waited] if name not in (of[entry.service], *stores)), None)


def _documented(openapi: Mapping[str, Any]) -> Iterator[str]:
    """Paths that a GET without parameters can request."""
    servers, paths = openapi.get("servers"), openapi.get("paths")
    first = servers[0].get("url", "") if isinstance(servers, list) and servers and isinstance(servers[0], dict) else ""
    base = str(openapi.get("basePath") or urlsplit(str(first)).path).rstrip("/")
    for path, verbs in paths.items() if isinstance(paths, dict) else ():
        get = verbs.get("get") if isinstance(verbs, dict) else None
        if not isinstance(get, dict) or get.get("security", openapi.get("security")):
            continue
        parameters = [*(verbs.get("parameters") or []), *(get.get("parameters") or [])]
        needed = any(isinstance(one, dict) and (one.get("required") or "$ref" in one) for one in parameters)
        if not needed and _PATH.fullmatch(f"{base}{path}"):
            yield f"{base}{path}"
