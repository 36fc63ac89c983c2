"""Whether a restore lost only what its backup could not hold: judge/README.md, Restore. Pure.

A write was committed at some instant between its sending and its acknowledgement. A backup that ends at one instant holds what
was committed before it, and nothing later. So the lost writes are the last in the order of acknowledgement, except for writes
in flight at that instant: no kept write can have been sent after the acknowledgement of a lost one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chaoslab.clock import NS_PER_MS, NS_PER_S
from chaoslab.history.result import ObjectiveResult
from chaoslab.history.rows import Anchor
from chaoslab.judge.intervals import seconds
from chaoslab.judge.ledger import Attempted, Ledger
from chaoslab.judge.outcome import PASS, Outcome, fail, inconclusive, objective
from chaoslab.judge.run_record import Record, StepTaken
from chaoslab.judge.writes import Writes
from chaoslab.spec.step import StepBase

CLOCKS_NS = 250 * NS_PER_MS  # by how much the wall clock may be corrected in a run
WANTED = "what is lost is only what the backup could not hold"


@dataclass(frozen=True)
class Acknowledged:
    """A write that was acknowledged before the restore: when it was sent at the earliest, and when it was acknowledged."""

    id: str
    sent_ns: int
    acked_ns: int
    lost: bool


@dataclass(frozen=True)
class Held:
    """The end of a backup, as reported by the step that restored it, in its clock and in ours."""

    wall: datetime
    at_ns: int


def acknowledged(writes: Writes, ledger: Ledger, before_ns: int) -> list[Acknowledged]:
    """The writes of a journey that were acknowledged before an instant, and whose fate is known."""
    attempted, ids = Attempted(writes), writes.ids
    found = []
    for key in attempted.acked:
        place, text = attempted.places[key], ids.text(key)
        if writes.end[place] <= before_ns and text not in ledger.unverified:
            found.append(Acknowledged(text, writes.due[place], writes.end[place], text in ledger.lost))
    return found


def held_until(detail: Mapping[str, Any], anchor: Anchor | None) -> Held | None:
    """The end of the backup, from the last line of a step's output: a JSON object with `until`, the moment that was requested,
    or else `holds_until`, the commit of the last transaction in the backup. None if there is neither.
    """
    lines = str(detail.get("output", "")).strip().splitlines()
    try:
        told = json.loads(lines[-1])
        wall = datetime.fromisoformat(told.get("until") or told["holds_until"])
        if anchor is None:
            return None
        since = wall - datetime.fromisoformat(anchor.wall)
    except (IndexError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return Held(wall, anchor.t_ns + round(since.total_seconds() * NS_PER_S))


def why_not_the_end(writes: Sequence[Acknowledged], held_ns: int) -> str | None:
    """Why the lost writes cannot be those committed after that instant, in words; None when they can."""
    lost = sorted((write for write in writes if write.lost), key=lambda write: write.acked_ns)
    kept = sorted((write for write in writes if not write.lost), key=lambda write: write.sent_ns)
    if lost and kept and kept[-1].sent_ns > lost[0].acked_ns:
        after = [write for write in kept if write.sent_ns > lost[0].acked_ns]
        before = [write for write in lost if write.acked_ns < kept[-1].sent_ns]
        return (
            f"{len(before)} lost from the middle: {lost[0].id} is lost, and {after[0].id} is kept, which was sent"
            f" {seconds(after[0].sent_ns - lost[0].acked_ns):.2f} s after that was acknowledged"
        )
    early = [write for write in lost if write.acked_ns < held_ns - CLOCKS_NS]
    if early:
        return (
            f"{len(early)} lost that the backup holds: {early[0].id} was acknowledged"
            f" {seconds(held_ns - early[0].acked_ns):.2f} s before it ends"
        )
    late = [write for write in kept if write.sent_ns > held_ns + CLOCKS_NS]
    if late:
        return (
            f"{len(late)} kept that the backup cannot hold: {late[-1].id} was sent"
            f" {seconds(late[-1].sent_ns - held_ns):.2f} s after it ends"
        )
    return None


def check_restore(
    spec: StepBase, record: Record, writes: Mapping[str, Sequence[Writes]], ledgers: Mapping[str, Ledger | None]
) -> ObjectiveResult:
    """Whether a step restored its services to the end of the backup. `writes`: of the journeys with a ledger, by service.

    All of these services are in one backup, so their writes are in one order.
    """
    taken = next((step for step in record.steps if (step.id, step.name) == (spec.id, spec.kind)), None)
    if taken is None or taken.end_ns is None:
        return objective(f"restore.{spec.id}", inconclusive("the step was not finished"), "not restored", WANTED)
    held = held_until(taken.detail, record.anchor)
    if held is None:
        why = inconclusive("the last line of the step's output is not JSON with `holds_until`, the end of the backup")
        return objective(f"restore.{spec.id}", why, "not known", WANTED)
    before: list[Acknowledged] = []
    for service in spec.restores:
        ledger = ledgers.get(service)
        if ledger is None:
            return objective(f"restore.{spec.id}", inconclusive(f"{service} keeps no ledger"), "not measured", WANTED)
        for own in writes[service]:
            before += acknowledged(own, ledger, taken.begin_ns)
    lost, at = sum(write.lost for write in before), f"{held.wall:%H:%M:%S}.{held.wall.microsecond // 1000:03}"
    measured = f"{lost} of {len(before)} lost; the backup ends at {at}"
    return objective(f"restore.{spec.id}", _judged(before, held, taken, ledgers, spec), measured, WANTED)


def _judged(
    before: Sequence[Acknowledged], held: Held, taken: StepTaken, ledgers: Mapping[str, Ledger | None], spec: StepBase
) -> Outcome:
    unknown = [service for service in spec.restores if (ledger := ledgers.get(service)) is None or not ledger.known]
    if unknown:
        return inconclusive(f"it is not known what the sites hold of {', '.join(unknown)}")
    if not before:
        return inconclusive("nothing had been acknowledged before it, so no loss could have been seen")
    if held.at_ns > taken.begin_ns + CLOCKS_NS:
        return fail(f"the backup ends {seconds(held.at_ns - taken.begin_ns):.1f} s after the restore began: its clock is wrong")
    why = why_not_the_end(before, held.at_ns)
    return fail(why) if why else PASS
