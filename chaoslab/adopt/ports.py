"""The TCP ports that services listen on, each with its source. Pure.

Another port works between sites only if the image declares it; connections to undeclared ports hang.
"""

from __future__ import annotations

import re

from chaoslab.adopt.facts import Project, Service
from chaoslab.adopt.servers import server_of

_LOCAL = re.compile(r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\]):(\d{2,5})\b")
_FLAG = re.compile(r"(?:--?(?:port|http-port|bind|listen)[= ]|(?<!\S)-[pb] ?|runserver |http\.server )\S*?:?(\d{2,5})\b")
_LISTEN = re.compile(r"(?m)^\s*(?:listen|bind)\s+(?:\S*:)?(\d{2,5})\b")  # of nginx and haproxy
_EXPOSE = re.compile(r"(?im)^\s*EXPOSE\s+(.+)$")


def names_of(service: Service, project: Project) -> tuple[str, ...]:
    """Every name by which other services may call a service."""
    linked = [alias for one in project.services.values() for alias in one.links.get(service.name, ())]
    return tuple(dict.fromkeys([service.name, *service.aliases, *linked]))


def ports_of(service: Service, project: Project) -> dict[int, str]:
    """Each port, and why; those that the file declares come first."""
    guesses = [*((port, "published") for port in service.published), *((port, "exposed") for port in service.exposed)]
    for where, text in service.texts.items():
        if where == "Dockerfile":
            words = [word.partition("/") for line in _EXPOSE.findall(text) for word in line.split()]
            declared = [number for number, _, protocol in words if number.isdigit() and protocol in ("", "tcp")]
            guesses += [(int(port), "EXPOSE in its Dockerfile") for port in declared]
        else:
            guesses += [(int(port), f"listened on in {where}") for port in _LISTEN.findall(text)]
    guesses += [(int(port), "its health check") for port in _LOCAL.findall(service.check)]
    guesses += [(int(port), "its command") for pattern in (_LOCAL, _FLAG) for port in pattern.findall(service.command)]
    if re.fullmatch(r"\d{2,5}", service.environment.get("PORT", "")):
        guesses.append((int(service.environment["PORT"]), "PORT in its environment"))
    for key, value in service.labels.items():
        if key.startswith("traefik.") and key.endswith(".server.port") and value.isdigit():
            guesses.append((int(value), "one of its labels"))
    names = "|".join(re.escape(name) for name in names_of(service, project))
    mention = re.compile(rf"(?<![\w.-])(?:{names}):(\d{{2,5}})(?!\d)")
    for other in project.services.values():
        for where, text in other.words():
            guesses += [(int(port), f"named in {where}") for port in mention.findall(text)]
    if (server := server_of(service)) is not None:
        guesses += [(port, f"the port of {server.title}") for port in server.ports]
    found: dict[int, str] = {}
    for port, why in guesses:
        if 0 < port <= 65_535:
            found.setdefault(port, why)
    return found
