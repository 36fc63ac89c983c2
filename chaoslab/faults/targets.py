"""Checks of what a fault names: whether the stack has it, and whether a fault may take it away. Pure."""

from __future__ import annotations

from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Topology
from chaoslab.spec.yaml.problems import KeyPath, suggest
from chaoslab.spec.yaml.report import Report

UNKNOWN, UNUSABLE, EMPTY = "timeline.target-unknown", "timeline.target-unusable", "timeline.target-empty"


def check_site(site: str, topology: Topology, report: Report, *, at: KeyPath = ("site",)) -> bool:
    """Check that a fault may take this entire site; if not, report it `at` its key."""
    entry = topology.replica(topology.entry[0])
    sites = [place for place in topology.places if place not in (OUTSIDE, entry.site)]
    if site in sites:
        return True
    if site == OUTSIDE:
        message = f"{OUTSIDE} is the place of the users, and not a site that can fail; known: {', '.join(sites)}"
        report(at, message, UNUSABLE)
    elif site == entry.site:
        message = f"{site} holds the entry {entry.name!r}, through which everything is measured; put the entry outside"
        report(at, message, UNUSABLE)
    else:
        report(at, f"unknown site {site!r}{suggest(site, sites)}", UNKNOWN)
    return False


def check_service(service: str, topology: Topology, report: Report, *, has_site: bool) -> bool:
    """Check that the stack has this service; if not, report it at the key `service`. `has_site`: the fault has a key `site`."""
    services = tuple(dict.fromkeys(replica.service for replica in topology.replicas))
    if service in services:
        return True
    replica = next((one for one in topology.replicas if one.name == service), None)
    hint = suggest(service, services)
    if replica is not None:
        hint = f": it is a replica; write service: {replica.service}{f', site: {replica.site}' if has_site else ''}"
    report(("service",), f"unknown service {service!r}{hint}", UNKNOWN)
    return False
