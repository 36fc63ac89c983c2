"""How each function of the business fared, and whether its promise was kept: judge/README.md, Degraded modes. Pure.

A function is a journey, as its users know it. It has no verdict of its own: its clocks and its ledger are compared with the
objectives of its service, without the service's other journeys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaoslab.history.result import FunctionResult, Kept
from chaoslab.judge.clocks import judge_clock
from chaoslab.judge.intervals import seconds
from chaoslab.judge.objectives import check_ledger, check_rpo, limit_of
from chaoslab.judge.outcome import PASS, Outcome, fail, inconclusive, worst
from chaoslab.judge.run_data import JourneyData, RunData, ServiceData
from chaoslab.spec.objectives import under_fault

_KEPT: Mapping[str, Kept] = {"pass": "kept", "fail": "broken"}


def function_result(run: RunData, journey: JourneyData) -> FunctionResult:
    """One function, from the first fault to the end of the observation."""
    service, timeline = run.services[journey.service], run.timeline
    first_ns, period_ns = timeline.end_ns - run.watched_ns, journey.slots.period_ns
    bad_ns = [journey.since_fault.due[number] for number in journey.since_fault.bad_numbers()]
    queued_ns = journey.later_ns if journey.mode == "queued" else ()
    later_ns = [due_ns for due_ns in queued_ns if first_ns <= due_ns < timeline.end_ns]

    def in_faults(instants_ns: Iterable[int]) -> int:
        return sum(timeline.active_at(instant_ns) for instant_ns in instants_ns)

    away, later = in_faults(bad_ns), in_faults(later_ns)
    ledger = service.ledgers.get(journey.name)
    outcomes = [*_outcomes(run, service, journey)]
    limits = service.objectives
    return FunctionResult(
        service=journey.service,
        title=journey.spec.title if journey.spec and journey.spec.title else journey.name,
        mode=journey.mode,
        disrupted_s=seconds(_active_ns(run)),
        away_s=seconds(away * period_ns),
        away_after_s=seconds((len(bad_ns) - away) * period_ns),
        later_s=seconds(later * period_ns),
        later_after_s=seconds((len(later_ns) - later) * period_ns),
        later=ledger.later if ledger else 0,
        later_lost=ledger.later_lost if ledger else 0,
        lost=len(ledger.lost) if ledger else None,
        used=None if journey.mode == "required" else (away if journey.mode == "allowed" else later) > 0,
        rto_s=limits.rto.value if limits.rto and journey.mode != "allowed" else None,
        failback_s=limits.failback.value if limits.failback else None,
        kept=_KEPT.get(worst(outcomes)[0], "unknown") if outcomes else "none",
    )


def unused_modes(functions: Mapping[str, FunctionResult]) -> Iterable[str]:
    """A sentence for each declared degraded mode that was never seen in use although a fault was active."""
    for journey, found in functions.items():
        if found.used is False and found.disrupted_s:
            may, seen = ("may fail", "it never did") if found.mode == "allowed" else ("may be queued", "no 202 came")
            yield f"{journey} {may} while a fault is active, but {seen}: this run shows nothing about that degraded mode"


def _active_ns(run: RunData) -> int:
    """For how long any fault was active, within the observation."""
    total_ns, until_ns = 0, 0
    for begin_ns, end_ns in sorted(run.timeline.active.values(), key=lambda span: span[0]):
        last_ns = run.timeline.end_ns if end_ns is None else min(end_ns, run.timeline.end_ns)
        total_ns += max(0, last_ns - max(begin_ns, until_ns))
        until_ns = max(until_ns, last_ns)
    return total_ns


def _outcomes(run: RunData, service: ServiceData, journey: JourneyData) -> Iterable[Outcome]:
    """The outcome of each promise that the service makes for this journey; empty if it makes none."""
    objectives, timeline = service.objectives, run.timeline
    layers = [objectives, *objectives.under.values()]
    promised = [layer.failback for layer in layers]
    promised += [layer.rto for layer in layers] if journey.mode != "allowed" else []
    if any(limit is not None for limit in promised):
        yield inconclusive("the run ended early") if timeline.cut else PASS
        if not journey.since_fault:
            yield inconclusive(f"{journey.name}: no slot was seen after the fault")
    for clock in journey.clocks:
        if (outcome := judge_clock(clock, limit_of(clock, objectives), timeline)) is not None:
            yield outcome
    for clock in journey.clocks_seen:
        claimed = [fault for fault in clock.cause.faults if under_fault(objectives, fault).unaffected is True]
        if clock.cause.kind == "inject" and claimed:
            yield fail(f"{journey.name}: declared unaffected, but {', '.join(claimed)} was noticed")
    if (ledger := service.ledgers.get(journey.name)) is not None:
        rpo = objectives.rpo
        judged = [check_ledger(journey.name, ledger, linearizable=journey.linearizable, rpo_judged=rpo is not None)]
        judged += [check_rpo(journey.name, ledger, rpo)] if rpo is not None else []
        for one in judged:
            yield one.verdict, one.why
