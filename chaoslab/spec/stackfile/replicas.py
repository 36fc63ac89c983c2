"""A service entry of a Compose file as a Replica: its labels, ports, dependencies and health check. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from expandvars import ExpandvarsException, expand

from chaoslab.spec.stackfile.interpolation import defaults_in
from chaoslab.spec.stackfile.merge import mount_of, volume_target
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Healthcheck, Replica
from chaoslab.spec.yaml.problems import shorten
from chaoslab.spec.yaml.quantities import duration_s
from chaoslab.spec.yaml.report import Report

SITE, SERVICE = "chaoslab.site", "chaoslab.service"
_LISTENS = re.compile(r"(?:0\.0\.0\.0|\[::\]):(\d{1,5})")
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
PORT_MAX = 65_535
PORTS_IN_RANGE_MAX = 100


def replica_of(name: str, service: Mapping[str, Any], report: Report) -> Replica:
    """The replica that an entry in long form describes; what cannot be understood is reported and left out."""
    labels = service.get("labels") or {}
    if not isinstance(labels, dict):
        report(("labels",), "labels must be a mapping or a list of name=value", "compose.labels")
        labels = {}
    depends_on = service.get("depends_on") or {}
    if not isinstance(depends_on, dict):
        report(("depends_on",), "depends_on must be a list or a mapping of service names", "compose.depends-on")
        depends_on = {}
    volumes = service.get("volumes")
    mounts = [(*mount_of(entry), volume_target(entry)) for entry in (volumes if isinstance(volumes, list) else ())]
    on_disk = [(source, target) for source, kind, read_only, target in mounts if kind in ("volume", "bind") and not read_only]
    return Replica(
        name=name,
        service=_label(labels, SERVICE, name),
        site=_label(labels, SITE, OUTSIDE),
        ports=tuple(dict.fromkeys([*_declared_ports(service, report), *_ports_listened_on(service)])),
        depends_on=tuple(depends_on),
        healthcheck=_healthcheck(service.get("healthcheck"), report.below("healthcheck")),
        volumes=tuple(dict.fromkeys(source or f"{name}:{target}" for source, target in on_disk)),
    )


def _label(labels: Mapping[str, Any], key: str, default: str) -> str:
    value = labels.get(key)
    return default if value is None else _with_defaults(str(value))


def _with_defaults(text: str) -> str:
    """The text with every `${VAR:-default}` replaced by its default."""
    try:
        return str(expand(text, environ={}))
    except ExpandvarsException:
        return text


def _is_unknown(text: str) -> bool:
    """Whether the text is a variable without a default: only Compose knows its value, from the shell or `.env`."""
    return "$" in text and (not _with_defaults(text) or "$" in _with_defaults(text))


def _declared_ports(service: Mapping[str, Any], report: Report) -> Iterator[int]:
    """Of `expose` and `ports`: `8080`, `80:8080`, `127.0.0.1:80:8080/tcp`, `3000-3005` or {target: 8080}."""
    for key in ("expose", "ports"):
        entries = service.get(key) or []
        if not isinstance(entries, list):
            report((key,), f"{key} must be a list", "compose.ports")
            continue
        for index, entry in enumerate(entries):
            target = entry.get("target") if isinstance(entry, dict) else entry
            text, _, protocol = _with_defaults(str(target)).rpartition(":")[2].partition("/")
            match = _RANGE.fullmatch(text)
            first = int(match.group(1)) if match else 0
            last = int(match.group(2) or first) if match else 0
            if not match and "$" in str(target):
                continue  # a variable that only Compose knows; the runtime asks it
            if not 1 <= first <= last <= PORT_MAX or last - first >= PORTS_IN_RANGE_MAX:
                report((key, index), f"{shorten(entry)} is not a port from 1 to {PORT_MAX}", "compose.ports")
            elif protocol != "udp":
                yield from range(first, last + 1)


def _ports_listened_on(service: Mapping[str, Any]) -> Iterator[int]:
    """Of defaults such as `${LISTEN:-0.0.0.0:8080}` in the environment and the command."""
    environment = service.get("environment")
    texts = [str(value) for value in environment.values() if value is not None] if isinstance(environment, dict) else []
    for key in ("command", "entrypoint"):
        words = service.get(key)
        texts += [str(word) for word in words] if isinstance(words, list) else [str(words)]
    for default in (default for text in texts for default in defaults_in(text)):
        match = _LISTENS.fullmatch(default)
        if match and int(match.group(1)) <= PORT_MAX:
            yield int(match.group(1))


def _healthcheck(raw: Any, report: Report) -> Healthcheck | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        message = "healthcheck must be a mapping, such as {test: [CMD, python, -m, health], interval: 1s}"
        report((), message, "compose.healthcheck")
        return None
    test = _test(raw.get("test"), report)
    if test is None or raw.get("disable") is True:
        return None
    usual = Healthcheck(test)
    given = str(raw.get("retries", usual.retries))
    retries = str(usual.retries) if _is_unknown(given) else _with_defaults(given)
    if not re.fullmatch(r"[1-9]\d{0,3}", retries, re.ASCII):
        message = f"retries must be a whole number from 1 to 9999, not {shorten(raw['retries'])}"
        report(("retries",), message, "compose.healthcheck")
        retries = str(usual.retries)
    return Healthcheck(
        test,
        interval_s=_seconds(raw, "interval", usual.interval_s, report),
        timeout_s=_seconds(raw, "timeout", usual.timeout_s, report),
        retries=int(retries),
        start_period_s=_seconds(raw, "start_period", usual.start_period_s, report),
    )


def _test(raw: Any, report: Report) -> tuple[str, ...] | None:
    """The argument list of a health check; None where there is none, or none that can be understood."""
    if raw in (None, ["NONE"]):
        return None
    words = [str(word) for word in raw] if isinstance(raw, list) else []
    if len(words) == 2 and words[0] == "CMD-SHELL":
        return ("sh", "-c", words[1])
    if len(words) >= 2 and words[0] == "CMD":
        return tuple(words[1:])
    message = "a health check's test must begin with CMD, CMD-SHELL or NONE, such as [CMD, python, -m, health]"
    report(("test",), message, "compose.healthcheck")
    return None


def _seconds(raw: Mapping[str, Any], key: str, default: float, report: Report) -> float:
    value = raw.get(key)
    if value is None or (isinstance(value, str) and _is_unknown(value)):
        return default
    try:
        return duration_s(_with_defaults(value) if isinstance(value, str) else value)
    except ValueError as wrong:
        report((key,), f"{key}: {wrong}", "compose.healthcheck")
        return default
