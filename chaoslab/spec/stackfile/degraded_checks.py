"""Consistency checks of degraded modes: journeys that exist and belong there, and what a queue needs.

Pure; reports, never raises.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from chaoslab.spec.stackfile.journey import QUEUED, Journey
from chaoslab.spec.stackfile.model import Mode
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.report import Report


def check_degraded(
    degraded: Mapping[str, Mode],
    journeys: Mapping[str, Journey],
    services: Collection[str],
    whose: str,
    report: Report,
    unsound: Collection[str] = (),
) -> None:
    """The modes of one tier or service. `services`: those that it is about, which `whose` names; `report`: at `degraded`.

    `unsound`: journeys that have a problem already.
    """
    for name, mode in degraded.items():
        journey = journeys.get(name)
        if name in unsound:
            continue
        if journey is None:
            report((name,), f"unknown journey {name!r}{suggest(name, journeys)}", "degraded.journey-unknown", key=True)
        elif journey.service not in services:
            message = f"{name} is a journey of {journey.service}, not of {whose}, so its mode would have no effect"
            report((name,), message, "degraded.journey-elsewhere", key=True)
        elif mode == "queued" and (why := _why_not_queued(journey)) is not None:
            report((name,), f"{name} cannot be queued: {why}", "degraded.cannot-queue")


def _why_not_queued(journey: Journey) -> str | None:
    """What a journey lacks for the mode `queued`; None where it lacks nothing."""
    if journey.request is None:
        return f"only HTTP has the status {QUEUED}, which acknowledges what is applied later"
    if journey.op == "read":
        return "it is a read, and only writes can be applied later"
    if QUEUED not in journey.good.status:
        return f"{QUEUED} is not one of its good statuses; add it to good.status, beside that of a write that was applied"
    if all(status == QUEUED for status in journey.good.status):
        return f"{QUEUED} is its only good status, so nothing tells a write that was applied; add that one's to good.status"
    if journey.ledger is None:
        return "it has no ledger, so nothing shows whether what was queued is applied"
    return None
