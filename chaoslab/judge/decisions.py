"""Who decides, and when: the four parts of an outage, as the stack reported them (judge/README.md, Who decides, and when).
Pure.

Instants are monotonic nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal

from msgspec.structs import replace

from chaoslab.history.result import DecisionResult
from chaoslab.history.rows import Answer
from chaoslab.judge.clocks import REMEDIES, Clock
from chaoslab.judge.intervals import seconds
from chaoslab.judge.run_data import RunData
from chaoslab.judge.run_record import StepTaken

NAMES = ("detected", "decided", "acted")


@dataclass(frozen=True)
class Moment:
    """It came after `unseen_ns`, when the last query that did not show it was sent, and by `seen_ns`, when one had shown it."""

    unseen_ns: int
    seen_ns: int

    @classmethod
    def at(cls, at_ns: int) -> Moment:
        """One that is known exactly."""
        return cls(at_ns, at_ns)


@dataclass(frozen=True)
class Split:
    """The four parts of an outage, in order. `precision_ns`: how precisely the moments between them are known."""

    detect_ns: int
    decide_ns: int
    act_ns: int
    verify_ns: int
    precision_ns: int


def split(from_ns: int, moments: Sequence[Moment | None], back_ns: int) -> Split | str:
    """An outage from its cause to its recovery, divided by the three moments; or why it cannot be, in words.

    A decision implies a detection, and so on: a moment came no later than the next one, and the last no later than the
    recovery.
    """
    instants_ns: list[int] = []
    latest_ns, later, precision_ns = back_ns, "the recovery", 0
    for name, moment in reversed([*zip(NAMES, moments, strict=True)]):
        if moment is None or moment.seen_ns < from_ns:
            return f"{name} was not seen"
        if moment.unseen_ns > latest_ns:
            return f"{name} was seen only after {later}"
        latest_ns, later = min(latest_ns, moment.seen_ns), name
        precision_ns = max(precision_ns, latest_ns - max(from_ns, moment.unseen_ns))
        instants_ns.insert(0, latest_ns)
    detected_ns, decided_ns, acted_ns = instants_ns
    return Split(detected_ns - from_ns, decided_ns - detected_ns, acted_ns - decided_ns, back_ns - acted_ns, precision_ns)


def change(answers: Sequence[Answer], from_ns: int) -> Moment | None:
    """When a value first differed from that before `from_ns`; None if it never did, or was not known before.

    `answers`: all to one query, in order. Null and missing answers do not count.
    """
    known = [answer for answer in answers if answer.error is None]
    before = [answer.value for answer in known if answer.value is not None and answer.answered_ns <= from_ns]
    unseen_ns = from_ns
    for answer in known:
        if answer.answered_ns > from_ns and before and answer.value not in (None, before[-1]):
            return Moment(unseen_ns, answer.answered_ns)
        unseen_ns = max(unseen_ns, answer.last_asked_ns)
    return None


def other_writer(answers: Sequence[Answer], from_ns: int) -> Moment | None:
    """When a replica took writes that did not before `from_ns`, when another did. `answers`: of all writers, in order."""
    moments: list[Moment] = []
    wrote = False
    for _, own in groupby(sorted(answers, key=attrgetter("replica", "asked_ns")), attrgetter("replica")):
        known = [answer for answer in own if answer.error is None]
        before = next((answer.value for answer in reversed(known) if answer.answered_ns <= from_ns), None)
        wrote = wrote or before is True
        first = next((place for place, one in enumerate(known) if one.answered_ns > from_ns and one.value is True), None)
        if before is not True and first is not None:
            unseen_ns = max(from_ns, known[first - 1].last_asked_ns) if first else from_ns
            moments.append(Moment(unseen_ns, known[first].answered_ns))
    return min(moments, key=attrgetter("seen_ns"), default=None) if wrote else None


def decision_results(run: RunData) -> list[DecisionResult]:
    """For each cause and service, the split of the longest clock; empty if neither the stack nor a step shows any moment."""
    found = []
    for service in run.services.values():
        caused = [clock for clock in service.clocks if clock.cause.kind != "heal"]
        for _, clocks in groupby(caused, key=lambda clock: clock.cause.at_ns):
            longest = max(clocks, key=lambda clock: (clock.back_ns is None, clock.back_ns or clock.end_ns))
            if run.stack.decisions is not None or _remedies(run, longest):
                found.append(_result(run, service.name, longest))
    return sorted(found, key=attrgetter("from_s", "service"))


def _result(run: RunData, service: str, clock: Clock) -> DecisionResult:
    from_ns, back_ns = clock.cause.at_ns, clock.back_ns
    result = DecisionResult(
        service=service,
        journey=clock.journey,
        cause=clock.cause.cause,
        event=clock.cause.kind,
        from_s=seconds(from_ns - run.record.first_ns),
        total_s=None if back_ns is None else seconds(back_ns - from_ns) + clock.declared_s,
        declared_s=clock.declared_s,
    )
    if back_ns is None:
        return replace(result, why="it did not recover")
    by, moments = _moments(run, clock, back_ns)
    parts = split(from_ns, moments, back_ns)
    if isinstance(parts, str):
        return replace(result, by=by, why=parts)
    return replace(
        result,
        by=by,
        detect_s=seconds(parts.detect_ns),
        decide_s=seconds(parts.decide_ns),
        act_s=seconds(parts.act_ns),
        verify_s=seconds(parts.verify_ns),
        precision_s=seconds(parts.precision_ns),
    )


def _moments(run: RunData, clock: Clock, back_ns: int) -> tuple[Literal["stack", "hand"], list[Moment | None]]:
    """The three moments of an outage; those of the steps that began before the stack had decided, if there are any."""
    from_ns, answers = clock.cause.at_ns, run.record.answers
    detected, decided, acted = (change([one for one in answers if one.about == name], from_ns) for name in NAMES)
    if run.stack.decisions is None or run.stack.decisions.acted is None:
        acted = other_writer([one for one in answers if one.about == "writes"], from_ns)
    if clock.cause.kind == "step":
        return "hand", [Moment.at(from_ns), decided, acted]  # a switchover has nothing to detect
    decided_ns = back_ns if decided is None else decided.seen_ns
    steps = [step for step in _remedies(run, clock) if step.begin_ns < decided_ns]
    if not steps:
        return "stack", [detected, decided, acted]
    if detected is None or detected.seen_ns > steps[0].begin_ns:
        detected = Moment.at(steps[0].begin_ns)  # a person who starts a step has detected the outage
    ends_ns = [step.end_ns for step in steps if step.end_ns is not None and step.end_ns <= back_ns]
    done_ns = [step.begin_ns for step in steps if step.name != "manual"] or ends_ns
    if acted is None and ends_ns:
        acted = Moment.at(max(ends_ns))
    return "hand", [detected, Moment.at(min(done_ns)) if done_ns else None, acted]


def _remedies(run: RunData, clock: Clock) -> list[StepTaken]:
    """The steps of the timeline that began in an outage to end it; a GET is not one."""
    until_ns = clock.end_ns if clock.back_ns is None else clock.back_ns
    return [
        step
        for step in run.record.steps
        if step.name in REMEDIES
        and clock.cause.at_ns <= step.begin_ns < until_ns
        and not str(step.detail.get("target", "")).startswith("GET ")
    ]
