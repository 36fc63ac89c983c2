"""Consistency checks of journeys and their ledgers: one protocol each, names, expressions, and what each can hold.

Pure; reports, never raises.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from chaoslab.spec.stackfile.expressions import check_expression, check_fields, check_pattern, texts_in
from chaoslab.spec.stackfile.journey import Before, Journey, LedgerSpec, Request
from chaoslab.spec.stackfile.topology import Replica
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.report import Report

REQUEST_FIELDS = ("id", "writer", "seq", "payload", "hash")
LEDGER_FIELDS = ("writer", "after", "next")
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SQLSTATE = re.compile(r"[0-9A-Z]{5}")
_NAME = re.compile(r"[A-Za-z_]\w*")


def check_journey(journey: Journey, replicas: Sequence[Replica], entries: Collection[str], report: Report) -> None:
    """All but its ledger. `entries`: the names that it may choose from."""
    logical = {replica.service for replica in replicas}
    if journey.service not in logical:
        message = f"unknown service {journey.service!r}{suggest(journey.service, logical)}"
        report(("service",), message, "journey.service-unknown")
    if journey.entry is not None and journey.entry not in entries:
        hint = suggest(journey.entry, entries) or "; declare it under entries"
        report(("entry",), f"unknown entry {journey.entry!r}{hint}", "journey.entry-unknown")
    kinds = journey.kinds
    if len(kinds) > 1:
        message = f"a journey sends one thing; it has {' and '.join(kinds)}"
        report((kinds[1],), message, "journey.several-kinds", key=True)
    _check_what_it_sends(journey, report)
    if journey.good.expect is not None:
        check_expression(journey.good.expect, report.below("good"), "expect")
        if journey.tcp is not None or journey.python is not None:
            message = "good.expect looks at JSON, replies and rows; use tcp.expect, or what the class returns"
            report(("good", "expect"), message, "journey.expect-of-what", key=True)
    if journey.good.within > journey.timeout:
        message = "a good answer may take longer than the timeout; raise timeout, or lower good.within"
        report(("good",), message, "journey.good-beyond-timeout")
    _check_not_applied(journey, report)


def _check_what_it_sends(journey: Journey, report: Report) -> None:
    known: tuple[str, ...] = REQUEST_FIELDS
    if journey.before is not None:
        known, before = (*REQUEST_FIELDS, *journey.before.keep), report.below("before")
        if journey.request is None:
            before((), "only a journey of HTTP (request) can have a before", "journey.before-of-what", key=True)
        _check_request(journey.before, (), before)
        for name, expression in journey.before.keep.items():
            check_expression(expression, before.below("keep"), name)
            if name in REQUEST_FIELDS or not _NAME.fullmatch(name):
                cure = f"use letters and digits, and none of {', '.join(REQUEST_FIELDS)}"
                before(("keep", name), f"{name!r} cannot be kept under that name; {cure}", "journey.keep-name", key=True)
    if journey.request is not None:
        _check_request(journey.request, known, report.below("request"))
    elif "status" in journey.good.model_fields_set:
        report(("good", "status"), "only HTTP answers have a status", "journey.status-of-what", key=True)
    if journey.tcp is not None:
        check_fields(journey.tcp.send, known, report.below("tcp", "send"))
        if journey.tcp.expect is not None:
            check_pattern(journey.tcp.expect, report.below("tcp", "expect"))
    if journey.redis is not None:
        check_fields(journey.redis.command, known, report.below("redis"))
    if journey.sql is not None:
        check_fields(journey.sql.statement, known, report.below("sql"))
    if journey.python is not None and not _CLASS.fullmatch(journey.python.class_):
        message = f"{journey.python.class_!r} must be a module and a class in it, such as journeys:PlaceOrder"
        report(("python",), message, "journey.class-malformed")


def _check_request(request: Request | Before, known: Collection[str], report: Report) -> None:
    if not request.path.startswith("/"):
        report(("path",), f"path {request.path!r} must begin with a slash", "journey.path-without-slash")
    if request.body is not None and request.form is not None:
        report(("form",), "a request has one body: json or form", "journey.two-bodies", key=True)
    for key, value in (("path", request.path), ("headers", request.headers), ("json", request.body), ("form", request.form)):
        check_fields(value, known, report.below(key))


def _check_not_applied(journey: Journey, report: Report) -> None:
    both = sorted({*journey.good.status} & {code for code in journey.not_applied if isinstance(code, int)})
    if both and journey.request is not None:
        message = f"status {both[0]} cannot both be good and prove that nothing was applied"
        report(("not_applied",), message, "journey.good-and-not-applied")
    for index, code in enumerate(journey.not_applied):
        if journey.request is not None and not (isinstance(code, int) and 100 <= code <= 599):
            report(
                ("not_applied", index),
                f"{code!r} is not an HTTP status, a number such as 409",
                "journey.not-applied-form",
            )
        elif journey.sql is not None and not (isinstance(code, str) and _SQLSTATE.fullmatch(code)):
            message = f'{code!r} is not an SQLSTATE; write one in quotes, such as "40001"'
            report(("not_applied", index), message, "journey.not-applied-form")
        elif journey.redis is not None and not isinstance(code, str):
            message = f"{code!r} is not the first word of a Redis error, such as READONLY"
            report(("not_applied", index), message, "journey.not-applied-form")
        elif journey.tcp is not None or journey.python is not None:
            message = "not_applied is for HTTP, SQL and Redis; a class returns 'rejected' itself"
            report(("not_applied", index), message, "journey.not-applied-form")


def check_ledger(
    journey: Journey, ledger: LedgerSpec, replicas: Sequence[Replica], sites: Collection[str], report: Report
) -> None:
    """A ledger of a journey whose kind is sound. `report` is the journey's."""
    below = report.below("ledger")
    if journey.op == "read":
        what = f"a {journey.request.method} request" if journey.request is not None else "a journey with writes: false"
        message = f"{what} writes nothing that a ledger could hold; use POST or writes: true, or remove the ledger"
        report(("ledger",), message, "journey.ledger-of-a-read", key=True)
    elif journey.python is None and journey.kinds and not _mentions_id(journey):
        kind = journey.kinds[0]
        where = "its json" if kind == "request" else "it"
        message = f"the request has no {{id}}, so no write could be identified; put {{id}} into {where}"
        report((kind,), message, "journey.ledger-without-id")
    ways = [
        key for key, value in (("path", ledger.path or ledger.local), ("redis", ledger.redis), ("sql", ledger.sql)) if value
    ]
    if len(ways) > 1:
        report(
            ("ledger", ways[1]), f"a ledger is read in one way; it has {' and '.join(ways)}", "ledger.several-ways", key=True
        )
    if not ways and journey.python is None:
        message = "a ledger needs a way to be read: path (HTTP), sql or redis"
        report(("ledger",), message, "ledger.no-way", key=True)
    if "path" in ways and ledger.items is None and ledger.pattern is None:
        message = "a ledger read by HTTP needs items (JMESPath, to its ids) or pattern (a regular expression, for texts)"
        report(("ledger",), message, "ledger.no-items", key=True)
    _check_texts(ledger, below)
    _check_place(journey, ledger, replicas, sites, below)


def _check_texts(ledger: LedgerSpec, below: Report) -> None:
    for key, text in (("path", ledger.path), ("local", ledger.local)):
        if text is not None:
            if not text.startswith("/"):
                below((key,), f"path {text!r} must begin with a slash", "journey.path-without-slash")
            check_fields(text, LEDGER_FIELDS, below.below(key))
    check_fields([ledger.headers, ledger.body], LEDGER_FIELDS, below)
    if ledger.redis is not None:
        check_fields(ledger.redis.command, LEDGER_FIELDS, below.below("redis"))
    if ledger.sql is not None:
        check_fields(ledger.sql.statement, LEDGER_FIELDS, below.below("sql"))
    for key, expression in (("items", ledger.items), ("next", ledger.next)):
        if expression is not None:
            check_expression(expression, below, key)
    if ledger.pattern is not None:
        check_pattern(ledger.pattern, below.below("pattern"))


def _mentions_id(journey: Journey) -> bool:
    request = journey.request
    sent: list[Any] = [journey.tcp and journey.tcp.send, journey.redis and journey.redis.command]
    sent.append(journey.sql and journey.sql.statement)
    if request is not None:
        sent += [request.path, request.headers, request.body, request.form]
    return any("{id}" in text for text in texts_in(sent))


def _check_place(
    journey: Journey, ledger: LedgerSpec, replicas: Sequence[Replica], sites: Collection[str], report: Report
) -> None:
    """Where it is read from at the end: a service that is known, that listens in each site, and speaks what it is asked in."""
    foreign = [key for key, kind in (("sql", journey.sql), ("redis", journey.redis)) if getattr(ledger, key) and not kind]
    if ledger.from_ is None:
        if foreign:
            message = f"a ledger in {foreign[0]} needs from: the service that holds it, such as from: db:5432"
            report((), message, "ledger.from-missing", key=True)
        return
    service, colon, port = ledger.from_.partition(":")
    of_service = [replica for replica in replicas if replica.service == service]
    if not of_service:
        logical = {replica.service for replica in replicas}
        report(("from",), f"unknown service {service!r}{suggest(service, logical)}", "ledger.from-unknown")
        return
    here = [replica for replica in of_service if replica.site in sites] or of_service
    listening = {replica.site for replica in here if port.isdecimal() and int(port) in replica.ports}
    if colon and listening != {replica.site for replica in here}:
        ports = ", ".join(str(known) for known in dict.fromkeys(known for one in here for known in one.ports)) or "none"
        report(("from",), f"{service} is not known to listen on port {port} (known: {ports})", "ledger.from-port")
