"""Consistency checks of conditions: one way each, replicas, and expressions. Pure; reports, never raises."""

from __future__ import annotations

from collections.abc import Collection

from chaoslab.spec.stackfile.addresses import Replicas, check_address, check_url
from chaoslab.spec.stackfile.condition import BringAbout, ConditionSpec, Look
from chaoslab.spec.stackfile.expressions import check_expression, check_fields
from chaoslab.spec.stackfile.model import StackSpec
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.report import Report

_LOOKS, _CHANGES = "get, request, run, redis or sql", "post, request, run, redis or sql"


def check_condition(condition: ConditionSpec, replicas: Replicas, report: Report) -> None:
    _check_way(condition, replicas, (), report)
    if condition.expect is not None:
        check_expression(condition.expect, report, "expect")
    elif condition.run is None and condition.ways:
        report((), "a condition needs expect (JMESPath); only a command can do without", "condition.no-expect", key=True)
    if condition.bring_about is not None:
        how, steps = condition.bring_about, report.below("bring_about")
        for name, value in how.values.items():
            _check_way(value, replicas, (), steps.below("with", name))
            check_expression(value.pick, steps.below("with", name), "pick")
        _check_way(how, replicas, how.values, steps)


def check_decisions(spec: StackSpec, replicas: Replicas, report: Report) -> None:
    """The decisions and the writers of a stack, whose section `report` is about."""
    if spec.decisions is not None:
        for name, moment in spec.decisions.moments.items():
            _check_often(moment, moment.changes, "changes", replicas, report.below("decisions", name))
        if spec.decisions.acted is None and not spec.writers:
            report(("decisions",), "without writers, decisions need acted", "decisions.no-acted", key=True)
    for name, writer in spec.writers.items():
        if name not in replicas:
            message = f"unknown replica {name!r}{suggest(name, replicas)}"
            report(("writers", name), message, "stack.replica-unknown", key=True)
        _check_often(writer, writer.expect, "expect", replicas, report.below("writers", name))


def _check_often(look: Look, expression: str, key: str, replicas: Replicas, report: Report) -> None:
    """What is looked up several times a second."""
    _check_way(look, replicas, (), report)
    check_expression(expression, report, key)
    if look.run is not None:
        message = "a command takes too long to be asked several times a second; write get, request, redis or sql"
        report(("run",), message, "decisions.command", key=True)


def _check_way(way: Look | BringAbout, replicas: Replicas, known: Collection[str], report: Report) -> None:
    """`known`: the placeholders that are filled in."""
    ways, changes = way.ways, isinstance(way, BringAbout)
    if not ways:
        message = f"nothing says how; write {_CHANGES if changes else _LOOKS}"
        report((), message, "condition.no-way", key=True)
    elif len(ways) > 1:
        report((ways[1],), f"one way is needed; here are {' and '.join(ways)}", "condition.several-ways", key=True)
    if isinstance(way, BringAbout):
        for index, url in enumerate(way.post or ()):
            check_url(url, replicas, report.below("post", index))
        check_fields(way.body, known, report.below("json"))
        check_fields(way.headers, known, report.below("headers"))
        for key in ("json", "headers"):
            if way.post is None and ("body" if key == "json" else key) in way.model_fields_set:
                report((key,), f"{key} belongs to post; write it inside request", "condition.belongs-to-post", key=True)
    elif way.get is not None:
        check_url(way.get, replicas, report.below("get"))
    if way.request is not None:
        for index, url in enumerate(way.request.url):
            check_url(url, replicas, report.below("request", "url", index))
        check_fields([way.request.headers, way.request.body], known, report.below("request"))
    for key, texts in (
        ("run", way.run),
        ("redis", way.redis and way.redis.command),
        ("sql", way.sql and way.sql.statement),
    ):
        check_fields(texts, known, report.below(key))
    _check_place(way, replicas, report)


def _check_place(way: Look | BringAbout, replicas: Replicas, report: Report) -> None:
    if way.run is not None and way.in_ is None:
        report((), "run needs in: the replica in which the command runs", "condition.no-place", key=True)
    elif way.in_ is not None and way.in_ not in replicas:
        report(("in",), f"unknown replica {way.in_!r}{suggest(way.in_, replicas)}", "stack.replica-unknown")
    if way.at is not None:
        check_address(way.at, replicas, report.below("at"))
    elif way.redis is not None or way.sql is not None:
        report((), "redis and sql need at: a replica and its port, such as db-a:5432", "condition.no-place", key=True)
