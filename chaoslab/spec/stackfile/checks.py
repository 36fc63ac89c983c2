"""Consistency checks of a stack: names, addresses, requests and expressions. Pure; reports, never raises."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chaoslab.spec.stackfile.addresses import Replicas, check_address
from chaoslab.spec.stackfile.condition_checks import check_condition, check_decisions
from chaoslab.spec.stackfile.degraded_checks import check_degraded
from chaoslab.spec.stackfile.journey import KINDS
from chaoslab.spec.stackfile.journey_checks import check_journey, check_ledger
from chaoslab.spec.stackfile.model import OUTSIDE, StackSpec
from chaoslab.spec.stackfile.topology import Replica
from chaoslab.spec.yaml.problems import KeyPath, suggest
from chaoslab.spec.yaml.report import Report
from chaoslab.spec.yaml.source import EXTENSION


def check_stack(spec: StackSpec, replicas: Sequence[Replica], files: Report, broken: Collection[KeyPath]) -> None:
    """Everything about one stack, reported at paths of its `files`.

    `broken`: the paths of the section that have a problem already.
    """
    by_name = {replica.name: replica for replica in replicas}
    section = files.below(EXTENSION)
    if ("sites",) not in broken:
        _check_sites(spec, replicas, section)
    if ("entry",) not in broken and spec.entry not in spec.entries:
        check_address(spec.entry, by_name, section.below("entry"))
    for name, entry in spec.entries.items():
        check_address(entry.address, by_name, section.below("entries", name))
        if entry.tls is not None and entry.tls.ca is not None and not entry.tls.ca.is_file():
            message = f"file {entry.tls.ca.name} does not exist; paths are relative to the Compose file"
            section(("entries", name, "tls", "ca"), message, "file.missing")
    for index, address in enumerate(spec.advertised):
        check_address(address, by_name, section.below("advertised", index))
    _check_services(spec, by_name, section)
    _check_modes(spec, section, {str(path[1]) for path in broken if path[:1] == ("journeys",) and len(path) > 1})
    for replica in replicas:
        for other in replica.depends_on:
            if other not in by_name:
                message = f"{replica.name} depends on unknown service {other!r}{suggest(other, by_name)}"
                files(("services", replica.name, "depends_on", other), message, "stack.dependency-unknown", key=True)
    for name, condition in spec.conditions.items():
        check_condition(condition, by_name, section.below("conditions", name))
    check_decisions(spec, by_name, section)
    for name, journey in spec.journeys.items():
        report, own = section.below("journeys", name), ("journeys", name)
        check_journey(journey, replicas, spec.entries, report)
        if not journey.kinds and not any(path[:2] == own for path in broken):
            message = "a journey must define what it sends: request (HTTP), tcp, redis, sql or python"
            report((), message, "journey.no-kind", key=True)
        is_sound = not any((*own, kind, *rest) in broken for kind in KINDS for rest in ((), ("method",)))
        if journey.ledger is not None and is_sound:
            check_ledger(journey, journey.ledger, replicas, spec.sites, report)


def _check_sites(spec: StackSpec, replicas: Sequence[Replica], report: Report) -> None:
    for index, site in enumerate(spec.sites):
        if site == OUTSIDE:
            report(("sites", index), f"no site can be named {OUTSIDE}: that is the place of the users", "stack.site-outside")
        elif site in spec.sites[:index]:
            report(("sites", index), f"site {site!r} is listed twice", "stack.site-twice")
        elif all(replica.site != site for replica in replicas):
            labels = {replica.site for replica in replicas} - {OUTSIDE, *spec.sites}
            hint = suggest(site, labels) if labels else "; label its services with chaoslab.site"
            report(("sites", index), f"no service is in site {site!r}{hint}", "stack.site-empty")


def _check_services(spec: StackSpec, replicas: Replicas, report: Report) -> None:
    logical = {replica.service for replica in replicas.values()}
    for name, service in spec.services.items():
        if name not in logical:
            message = f"unknown service {name!r}{suggest(name, logical)}"
            report(("services", name), message, "stack.service-unknown", key=True)
        if service.tier is not None and service.tier not in spec.tiers:
            hint = suggest(service.tier, spec.tiers) or "; declare it under tiers"
            report(("services", name, "tier"), f"unknown tier {service.tier!r}{hint}", "stack.tier-unknown")
    for name in spec.processes:
        if name not in replicas:
            message = f"unknown replica {name!r}{suggest(name, replicas)}"
            report(("processes", name), message, "stack.replica-unknown", key=True)


def _check_modes(spec: StackSpec, report: Report, unsound: Collection[str]) -> None:
    """The degraded modes of tiers and of services."""
    for tier, objectives in spec.tiers.items():
        own = [name for name, service in spec.services.items() if service.tier == tier]
        below = report.below("tiers", tier, "degraded")
        check_degraded(objectives.degraded, spec.journeys, own, f"a service of the tier {tier}", below, unsound)
    for name, service in spec.services.items():
        below = report.below("services", name, "objectives", "degraded")
        check_degraded(service.objectives.degraded, spec.journeys, [name], name, below, unsound)
