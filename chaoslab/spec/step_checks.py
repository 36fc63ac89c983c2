"""Consistency checks of the steps of a timeline: their times, what they come after, and names of the stack. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from chaoslab.spec.fault import FaultBase
from chaoslab.spec.stackfile.addresses import check_address, check_url
from chaoslab.spec.stackfile.condition_checks import check_condition
from chaoslab.spec.stackfile.expressions import check_expression
from chaoslab.spec.stackfile.topology import Topology
from chaoslab.spec.step import BringAboutStep, HttpStep, InlineCondition, ManualStep, SqlStep, StepBase
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.report import Report

Steps = Sequence[tuple[int, StepBase]]  # with their places in the timeline as written, from 0


def check_steps(
    steps: Steps, faults: Sequence[tuple[int, FaultBase]], topology: Topology | None, report: Report, *, complete: bool
) -> None:
    """All checks. Without a topology, names of the stack are not checked; unless `complete`, ids of entries are not."""
    healable = [fault.id for _, fault in faults]
    before = list(healable)
    for number, step in steps:
        at_step = report.below("timeline", number)
        if isinstance(step, ManualStep) and step.delay >= step.budget:
            message = (
                f"delay {step.delay:g}s does not fit into a budget of {step.budget:g}s: an unattended run waits for"
                f" {step.waits_s:g}s, and adds {step.declared_s:g}s to the times that it measures"
            )
            at_step(("delay",), message, "step.delay-beyond-budget", level="note")
        if step.within is not None and step.within.value > step.limit_s:
            message = f"within {step.within} cannot be missed: the step fails after {step.limit_s:g}s; lower within"
            at_step(("within",), message, "step.within-beyond-budget")
        if complete and step.after is not None and step.after not in before:
            message = (
                f"{step.after!r} is neither a fault of this timeline nor a step above this one{suggest(step.after, before)}"
            )
            at_step(("after",), message, "step.after-unknown")
        if complete and step.after_heal is not None and step.after_heal not in healable:
            message = f"{step.after_heal!r} is not a fault of this timeline{suggest(step.after_heal, healable)}"
            at_step(("after_heal",), message, "step.after-unknown")
        before.append(step.id)
        if topology is not None:
            _check_names(step, topology, at_step)


def _check_names(step: StepBase, topology: Topology, report: Report) -> None:
    """Conditions by name or in place, services, and replicas in URLs."""
    known, replicas = topology.spec.conditions, {replica.name: replica for replica in topology.replicas}
    for key in ("precondition", "verify"):
        for index, fact in enumerate(getattr(step, key)):
            if isinstance(fact, InlineCondition):
                check_condition(fact.spec, replicas, report.below(key, index))
            elif fact not in known:
                hint = suggest(fact, known) or "; the stack declares no conditions"
                report((key, index), f"unknown condition {fact!r}{hint}", "condition.unknown")
    _check_addresses(step, topology, report)
    services = list(dict.fromkeys(journey.service for journey in topology.spec.journeys.values() if journey.ledger))
    for index, service in enumerate(step.restores):
        if service not in services:
            message = f"no journey of {service!r} keeps a ledger, so its losses could not be seen{suggest(service, services)}"
            report(("restores", index), message, "step.restores-unmeasured")
    if isinstance(step, BringAboutStep):
        condition = known.get(step.bring_about)
        able = [name for name, spec in known.items() if spec.bring_about is not None]
        if condition is None:
            message = f"unknown condition {step.bring_about!r}{suggest(step.bring_about, able) or '; the stack declares none'}"
            report(("bring_about",), message, "condition.unknown")
        elif condition.bring_about is None:
            message = f"condition {step.bring_about!r} has no bring_about in the stack, so it cannot be brought about"
            report(("bring_about",), message, "step.cannot-bring-about")


def _check_addresses(step: StepBase, topology: Topology, report: Report) -> None:
    """Places and replicas that a step names."""
    replicas = {replica.name: replica for replica in topology.replicas}
    if step.from_ not in topology.places:
        report(("from",), f"unknown place {step.from_!r}{suggest(step.from_, topology.places)}", "step.place-unknown")
    for index, address in enumerate(step.needs.addresses):
        check_address(address, replicas, report.below("needs", "addresses", index))
    if isinstance(step, HttpStep):
        for key, call in (("http", step.http), ("check", step.check)):
            if call is not None and call.url is not None:
                check_url(call.url, replicas, report.below(key, "url"))
    if isinstance(step, SqlStep):
        check_address(step.sql.at, replicas, report.below("sql", "at"))
        if step.sql.expect is not None:
            check_expression(step.sql.expect, report.below("sql"), "expect")
