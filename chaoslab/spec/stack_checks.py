"""What must fit together inside a stack: names, addresses, requests and expressions. Pure; tells, and never raises."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import jmespath
from jmespath.exceptions import EmptyExpressionError, IncompleteExpressionError, JMESPathError, LexerError, ParseError

from chaoslab.spec.model import OUTSIDE, BringAbout, ConditionSpec, Journey, LedgerSpec, StackSpec
from chaoslab.spec.problems import shorten, suggest
from chaoslab.spec.source import EXTENSION, KeyPath
from chaoslab.stack.topology import Replica

REQUEST_FIELDS = ("id", "writer", "seq", "payload", "hash")
LEDGER_FIELDS = ("writer", "after")
_FIELD = re.compile(r"\{([A-Za-z_]+)\}")
_PORT = re.compile(r"[1-9]\d{0,4}")


class Tell(Protocol):
    """Takes a problem at a path of the stack's files; `key`: at the key rather than its value."""

    def __call__(self, path: KeyPath, message: str, *, key: bool = False) -> None: ...


def check_stack(spec: StackSpec, replicas: Sequence[Replica], tell: Tell, broken: Collection[KeyPath]) -> None:
    """Everything about one stack. `broken`: the paths of the section that are complained about already."""
    check = _StackCheck(spec, replicas, tell, broken)
    if ("sites",) not in broken:
        check.sites()
    if ("entry",) not in broken:
        check.address(spec.entry, "entry")
    for index, address in enumerate(spec.advertised):
        check.address(address, "advertised", index)
    check.services()
    check.dependencies()
    for name, condition in spec.conditions.items():
        check.condition(name, condition)
    for name, journey in spec.journeys.items():
        check.journey(name, journey)


class _StackCheck:
    def __init__(self, spec: StackSpec, replicas: Sequence[Replica], tell: Tell, broken: Collection[KeyPath]) -> None:
        self.spec, self.tell_at, self.broken = spec, tell, broken
        self.replicas = {replica.name: replica for replica in replicas}
        self.logical = {replica.service for replica in replicas}

    def tell(self, path: KeyPath, message: str, *, key: bool = False) -> None:
        self.tell_at((EXTENSION, *path), message, key=key)

    def sites(self) -> None:
        for index, site in enumerate(self.spec.sites):
            if site == OUTSIDE:
                self.tell(("sites", index), f"no site can be called {OUTSIDE}: that is where the users stand")
            elif site in self.spec.sites[:index]:
                self.tell(("sites", index), f"site {site!r} is listed twice")
            elif all(replica.site != site for replica in self.replicas.values()):
                labels = {replica.site for replica in self.replicas.values()} - {OUTSIDE, *self.spec.sites}
                hint = suggest(site, labels) if labels else "; label its services with chaoslab.site"
                self.tell(("sites", index), f"no service stands in site {site!r}{hint}")

    def address(self, text: str, *path: str | int) -> None:
        """`replica:port`, with a replica that exists and listens there."""
        name, colon, port = text.partition(":")
        if not colon or not _PORT.fullmatch(port):
            self.tell(path, f"{text!r} must be a replica and its port, such as entry:8080")
        else:
            self._endpoint(name, int(port), path)

    def _endpoint(self, name: str, port: int, path: KeyPath) -> None:
        replica = self.replicas.get(name)
        if replica is None:
            self.tell(path, f"unknown replica {name!r}{suggest(name, self.replicas)}")
        elif port not in replica.ports:
            ports = ", ".join(str(known) for known in replica.ports) or "none"
            self.tell(path, f"{name} is not known to listen on port {port} (known: {ports}); add the port to its expose list")

    def services(self) -> None:
        for name, service in self.spec.services.items():
            if name not in self.logical:
                self.tell(("services", name), f"unknown service {name!r}{suggest(name, self.logical)}", key=True)
            if service.tier is not None and service.tier not in self.spec.tiers:
                hint = suggest(service.tier, self.spec.tiers) or "; declare it under tiers"
                self.tell(("services", name, "tier"), f"unknown tier {service.tier!r}{hint}")
        for name in self.spec.processes:
            if name not in self.replicas:
                self.tell(("processes", name), f"unknown replica {name!r}{suggest(name, self.replicas)}", key=True)

    def dependencies(self) -> None:
        for replica in self.replicas.values():
            for other in replica.depends_on:
                if other not in self.replicas:
                    path: KeyPath = ("services", replica.name, "depends_on", other)
                    self.tell_at(
                        path, f"{replica.name} depends on unknown service {other!r}{suggest(other, self.replicas)}", key=True
                    )

    def condition(self, name: str, condition: ConditionSpec) -> None:
        path = ("conditions", name)
        self._url(condition.get, (*path, "get"))
        self._expression(condition.expect, (*path, "expect"))
        if condition.bring_about is not None:
            self._bring_about(condition.bring_about, (*path, "bring_about"))

    def _bring_about(self, how: BringAbout, path: KeyPath) -> None:
        for index, url in enumerate(how.post):
            self._url(url, (*path, "post", index))
        for name, value in how.values.items():
            self._url(value.get, (*path, "with", name, "get"))
            self._expression(value.pick, (*path, "with", name, "pick"))
        for text in _texts(how.body):
            self._fields(text, how.values, (*path, "json"))

    def _url(self, text: str, path: KeyPath) -> None:
        try:
            url = urlsplit(text)
            host, port = url.hostname, url.port
        except ValueError:
            host, port, url = None, None, urlsplit("")
        if url.scheme not in ("http", "https") or not host or not port:
            self.tell(path, f"{text!r} must be a URL of a replica and its port, such as http://pg-a:8008/cluster")
        else:
            self._endpoint(host, port, path)

    def _expression(self, text: str, path: KeyPath) -> None:
        try:
            jmespath.compile(text)
        except (JMESPathError, ValueError, RecursionError) as broken:
            self.tell(path, f"{path[-1]} is no JMESPath expression: {_why_not(broken)}")

    def journey(self, name: str, journey: Journey) -> None:
        path = ("journeys", name)
        if journey.service not in self.logical:
            self.tell((*path, "service"), f"unknown service {journey.service!r}{suggest(journey.service, self.logical)}")
        self._request_path(journey.request.path, (*path, "request", "path"))
        for text in _texts([journey.request.path, journey.request.headers, journey.request.body]):
            self._fields(text, REQUEST_FIELDS, (*path, "request"))
        if journey.good.expect is not None:
            self._expression(journey.good.expect, (*path, "good", "expect"))
        if journey.good.within > journey.timeout:
            self.tell((*path, "good"), "a good answer may take longer than the timeout; raise timeout, or lower good.within")
        if journey.good.status in journey.not_applied:
            self.tell((*path, "not_applied"), f"status {journey.good.status} cannot be good and prove that nothing was applied")
        if journey.ledger is not None:
            self._ledger(journey, journey.ledger, path)

    def _ledger(self, journey: Journey, ledger: LedgerSpec, path: KeyPath) -> None:
        if (*path, "request", "method") in self.broken:
            return
        if journey.op == "read":
            method = journey.request.method
            self.tell(
                (*path, "ledger"), f"a {method} writes nothing that a ledger could hold; use POST, or drop the ledger", key=True
            )
        elif not any("{id}" in text for text in _texts([journey.request.path, journey.request.headers, journey.request.body])):
            self.tell(
                (*path, "request"), "the request never says {id}, so no write could be found again; put {id} into its json"
            )
        for key, text in (("path", ledger.path), ("local", ledger.local)):
            if text is not None:
                self._request_path(text, (*path, "ledger", key))
                self._fields(text, LEDGER_FIELDS, (*path, "ledger", key))
        self._expression(ledger.items, (*path, "ledger", "items"))

    def _request_path(self, text: str, path: KeyPath) -> None:
        if not text.startswith("/"):
            self.tell(path, f"path {text!r} must begin with a slash")

    def _fields(self, text: str, known: Collection[str], path: KeyPath) -> None:
        for name in _FIELD.findall(text):
            if name not in known:
                self.tell(path, f"nothing is filled in for {{{name}}}{suggest(name, known)}")


def _why_not(broken: Exception) -> str:
    if isinstance(broken, EmptyExpressionError):
        return "it is empty"
    if isinstance(broken, IncompleteExpressionError):
        return "it ends too early"
    if isinstance(broken, LexerError):
        return f"it cannot be read from character {broken.lexer_position + 1} on"
    if isinstance(broken, ParseError):
        return f"{shorten(str(broken.token_value))} is out of place at character {broken.lex_position + 1}"
    return "it is too deep, or has a number out of range"


def _texts(value: Any) -> Iterator[str]:
    """Every string inside a JSON-like value, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
