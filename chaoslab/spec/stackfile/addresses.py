"""Checks of addresses: replicas that exist, and ports that they listen on. Pure; reports, never raises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from chaoslab.spec.stackfile.topology import Replica
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.report import Report

_PORT = re.compile(r"[1-9]\d{0,4}")

Replicas = Mapping[str, Replica]  # by name


def check_address(text: str, replicas: Replicas, report: Report) -> None:
    """`replica:port`, with a replica that exists and listens there."""
    name, colon, port = text.partition(":")
    if not colon or not _PORT.fullmatch(port):
        report((), f"{text!r} must be a replica and its port, such as entry:8080", "stack.address-malformed")
    else:
        check_endpoint(name, int(port), replicas, report)


def check_url(text: str, replicas: Replicas, report: Report) -> None:
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        host, port, url = None, None, urlsplit("")
    if url.scheme not in ("http", "https") or not host or not port:
        message = f"{text!r} must be a URL of a replica and its port, such as http://pg-a:8008/cluster"
        report((), message, "stack.address-malformed")
    else:
        check_endpoint(host, port, replicas, report)


def check_endpoint(name: str, port: int, replicas: Replicas, report: Report) -> None:
    replica = replicas.get(name)
    if replica is None:
        report((), f"unknown replica {name!r}{suggest(name, replicas)}", "stack.replica-unknown")
    elif port not in replica.ports:
        ports = ", ".join(str(known) for known in replica.ports) or "none"
        message = f"{name} is not known to listen on port {port} (known: {ports}); add the port to its expose list"
        report((), message, "stack.port-unknown")
