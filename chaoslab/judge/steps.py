"""The steps of a run: the outcome of each, and whether it met its objective: judge/README.md, Steps. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chaoslab.history.result import ObjectiveResult, StepResult, StepStatus
from chaoslab.judge.clocks import EventTimeline, base_id, declared_in_words
from chaoslab.judge.intervals import seconds
from chaoslab.judge.outcome import PASS, Outcome, fail, inconclusive, objective
from chaoslab.judge.run_record import Record, StepTaken
from chaoslab.spec.step import StepBase
from chaoslab.units import Threshold, format_s

SWITCHBACK = "switchback"  # the kind of the harness's own steps


def check_step(spec: StepBase, record: Record, timeline: EventTimeline) -> ObjectiveResult:
    """Whether a step of the timeline did what it should, in time."""
    wanted = f"finished within {format_s(spec.limit_s)}" if spec.within is None else f"finished in {spec.within}"
    taken = next((step for step in record.steps if (step.id, step.name) == (spec.id, spec.kind)), None)
    if taken is None:
        row = record.unbegun.get(spec.id)
        outcome = inconclusive("it did not begin") if row is None else _of_failure(row.detail)
        return objective(f"step.{spec.id}", outcome, "not begun", wanted)
    if taken.end_ns is None:
        if taken.failed_ns is None:
            return objective(f"step.{spec.id}", inconclusive("it was under way when the run ended"), "not finished", wanted)
        outcome = _of_failure(taken.detail)
        if taken.detail.get("late"):
            outcome = _unless_starved(outcome, timeline, taken, taken.failed_ns, taken.detail.get("limit_s", spec.budget))
        return objective(f"step.{spec.id}", outcome, "failed", wanted)
    declared_s = taken.declared.seconds if taken.declared is not None else 0.0
    took_s = seconds(taken.end_ns - taken.begin_ns)
    least_ns = taken.end_ns if taken.unseen_ns is None else taken.unseen_ns
    least_s = max(0.0, seconds(least_ns - taken.begin_ns))
    limit = Threshold("<=", spec.limit_s, "s", "") if spec.within is None else spec.within
    more = declared_in_words(declared_s)
    outcome = PASS
    if not limit.holds(least_s + declared_s):
        outcome = fail(f"it took {format_s(took_s)}{more}")
        outcome = _unless_starved(outcome, timeline, taken, least_ns, limit.value - declared_s)
    elif not limit.holds(took_s + declared_s):
        between = f"{least_s + declared_s:.2f}..{took_s + declared_s:.2f} s"
        outcome = inconclusive(f"the objective lies within {between}, between two checks of its effect")
    return objective(f"step.{spec.id}", outcome, f"finished after {format_s(took_s)}{more}", wanted)


def check_switchback(id_: str, record: Record, timeline: EventTimeline, within_s: float) -> ObjectiveResult:
    """Whether the harness could bring about, in failback, a condition that did not hold again by itself."""
    taken = [step for step in record.steps if step.name == SWITCHBACK and base_id(step.id) == id_]
    asked = "" if len(taken) == 1 else f", after {len(taken)} attempts"
    wanted = f"holds within {format_s(within_s)}"
    last = taken[-1]
    if last.end_ns is not None:
        took_s = seconds(last.end_ns - taken[0].begin_ns)
        return objective(f"{SWITCHBACK}.{id_}", PASS, f"held after {format_s(took_s)}{asked}", wanted)
    outcome = fail("its effect was not seen")
    if timeline.cut:
        outcome = inconclusive("it was under way when the run ended")
    elif timeline.starved_ns(taken[0].begin_ns, timeline.end_ns):
        outcome = inconclusive("its effect was not seen, and the machine was starved meanwhile")
    return objective(f"{SWITCHBACK}.{id_}", outcome, f"not seen{asked}", wanted)


def _of_failure(detail: Mapping[str, object]) -> Outcome:
    """A step that was skipped shows nothing about itself."""
    why = str(detail.get("why", "it failed"))
    return inconclusive(why) if detail.get("skipped") else fail(why)


def _unless_starved(failed: Outcome, timeline: EventTimeline, taken: StepTaken, until_ns: int, limit_s: float) -> Outcome:
    """The fail, unless the step would have been in time without the starved seconds."""
    starved_s = seconds(timeline.starved_ns(taken.begin_ns, until_ns))
    if not starved_s or seconds(until_ns - taken.begin_ns) - starved_s > limit_s:
        return failed
    return inconclusive(f"{failed[1]}; the machine was starved for {format_s(starved_s)} of that")


def step_results(record: Record) -> Iterator[StepResult]:
    """Every step that began, and those that could not begin."""
    for step in record.steps:
        ended_ns = step.failed_ns if step.end_ns is None else step.end_ns
        status: StepStatus = "done" if step.end_ns is not None else "cut" if step.failed_ns is None else "failed"
        yield StepResult(
            id=step.id,
            kind=step.name,
            what=str(step.detail.get("target", "")),
            begun_s=seconds(step.begin_ns - record.first_ns),
            ended_s=None if ended_ns is None else seconds(ended_ns - record.first_ns),
            duration_s=None if ended_ns is None else seconds(ended_ns - step.begin_ns),
            status=status,
            why="" if status == "done" else str(step.detail.get("why", "")),
            output=str(step.detail.get("output", "")),
            declared_s=step.declared.seconds if step.declared is not None else 0.0,
            by=str(step.detail.get("by", "")),
        )
    for row in record.unbegun.values():
        unbegun: StepStatus = "skipped" if row.detail.get("skipped") else "failed"
        yield StepResult(id=row.id, kind=row.name, status=unbegun, why=str(row.detail.get("why", "")))
