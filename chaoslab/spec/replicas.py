"""A service entry of a Compose file as a Replica: its labels, ports, dependencies and health check. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from expandvars import ExpandvarsException, expand

from chaoslab.spec.model import OUTSIDE
from chaoslab.spec.problems import shorten
from chaoslab.spec.quantities import duration_s
from chaoslab.spec.source import KeyPath
from chaoslab.stack.interpolate import defaults_in
from chaoslab.stack.topology import Healthcheck, Replica

Tell = Callable[[KeyPath, str], None]  # a problem at a path of the service

SITE, SERVICE = "chaoslab.site", "chaoslab.service"
_LISTENS = re.compile(r"(?:0\.0\.0\.0|\[::\]):(\d{1,5})")
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
PORT_MAX = 65_535
PORTS_IN_RANGE_MAX = 100


def replica_of(name: str, service: Mapping[str, Any], tell: Tell) -> Replica:
    """The replica that an entry in long form describes; what cannot be understood is told and left out."""
    labels = service.get("labels") or {}
    if not isinstance(labels, dict):
        tell(("labels",), "labels must be a mapping or a list of name=value")
        labels = {}
    return Replica(
        name=name,
        service=_label(labels, SERVICE, name),
        site=_label(labels, SITE, OUTSIDE),
        ports=tuple(dict.fromkeys(_ports(service, tell))),
        depends_on=_depends_on(service.get("depends_on"), tell),
        healthcheck=_healthcheck(service.get("healthcheck"), tell),
    )


def _depends_on(raw: Any, tell: Tell) -> tuple[str, ...]:
    if raw is None or isinstance(raw, dict):
        return tuple(raw or ())
    tell(("depends_on",), "depends_on must be a list or a mapping of service names")
    return ()


def _label(labels: Mapping[str, Any], key: str, default: str) -> str:
    value = labels.get(key)
    return default if value is None else _by_default(str(value))


def _by_default(text: str) -> str:
    """The text with every `${VAR:-default}` replaced by its default."""
    try:
        return str(expand(text, environ={}))
    except ExpandvarsException:
        return text


def _ports(service: Mapping[str, Any], tell: Tell) -> Iterator[int]:
    for key in ("expose", "ports"):
        entries = service.get(key) or []
        if not isinstance(entries, list):
            tell((key,), f"{key} must be a list")
            continue
        for index, entry in enumerate(entries):
            yield from _container_ports(entry, (key, index), tell)
    for text in _texts(service):
        for default in defaults_in(text):
            match = _LISTENS.fullmatch(default)
            if match and int(match.group(1)) <= PORT_MAX:
                yield int(match.group(1))


def _container_ports(entry: Any, path: KeyPath, tell: Tell) -> range:
    """`8080`, `80:8080`, `127.0.0.1:80:8080/tcp`, `3000-3005` or {target: 8080}."""
    target = entry.get("target") if isinstance(entry, dict) else entry
    text, _, protocol = _by_default(str(target)).rpartition(":")[2].partition("/")
    match = _RANGE.fullmatch(text)
    first = int(match.group(1)) if match else 0
    last = int(match.group(2) or first) if match else 0
    if not 1 <= first <= last <= PORT_MAX or last - first >= PORTS_IN_RANGE_MAX:
        tell(path, f"{shorten(entry)} is no port from 1 to {PORT_MAX}")
        return range(0)
    return range(0) if protocol == "udp" else range(first, last + 1)


def _texts(service: Mapping[str, Any]) -> Iterator[str]:
    environment = service.get("environment")
    if isinstance(environment, dict):
        yield from (str(value) for value in environment.values() if value is not None)
    for key in ("command", "entrypoint"):
        words = service.get(key)
        yield from (str(word) for word in words) if isinstance(words, list) else [str(words)]


def _healthcheck(raw: Any, tell: Tell) -> Healthcheck | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        tell(("healthcheck",), "healthcheck must be a mapping, such as {test: [CMD, python, -m, health], interval: 1s}")
        return None
    test = _test(raw.get("test"), tell)
    if test is None or raw.get("disable") is True:
        return None
    usual = Healthcheck(test)
    return Healthcheck(
        test,
        interval_s=_seconds(raw, "interval", usual.interval_s, tell),
        timeout_s=_seconds(raw, "timeout", usual.timeout_s, tell),
        retries=_retries(raw.get("retries", usual.retries), usual.retries, tell),
        start_period_s=_seconds(raw, "start_period", usual.start_period_s, tell),
    )


def _test(raw: Any, tell: Tell) -> tuple[str, ...] | None:
    if raw in (None, ["NONE"]):
        return None
    words = [str(word) for word in raw] if isinstance(raw, list) else []
    if len(words) == 2 and words[0] == "CMD-SHELL":
        return ("sh", "-c", words[1])
    if len(words) >= 2 and words[0] == "CMD":
        return tuple(words[1:])
    tell(
        ("healthcheck", "test"),
        "a health check's test must begin with CMD, CMD-SHELL or NONE, such as [CMD, python, -m, health]",
    )
    return None


def _seconds(raw: Mapping[str, Any], key: str, default: float, tell: Tell) -> float:
    value = raw.get(key)
    if value is None:
        return default
    try:
        return duration_s(_by_default(value) if isinstance(value, str) else value)
    except ValueError as wrong:
        tell(("healthcheck", key), f"{key}: {wrong}")
        return default


def _retries(raw: Any, default: int, tell: Tell) -> int:
    text = _by_default(str(raw))
    if re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII):
        return int(text)
    tell(("healthcheck", "retries"), f"retries must be a whole number from 1 to 9999, not {shorten(raw)}")
    return default
