"""The metrics of a result: faults, clocks, journeys, services, load, times. Nothing is judged here. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from chaoslab.history.result import (
    ClockResult,
    FaultResult,
    Interval,
    JourneyResult,
    LoadResult,
    RestoredResult,
    ServiceResult,
)
from chaoslab.history.rows import Load, Phase
from chaoslab.judge.clocks import Clock, Kind, base_id, judge_clock
from chaoslab.judge.intervals import latencies_ms, percentile, seconds
from chaoslab.judge.objectives import has_restored, limit_of, tightest, worst_interval
from chaoslab.judge.outcome import worst
from chaoslab.judge.pauses import pause_of
from chaoslab.judge.run_data import JourneyData, RunData, ServiceData
from chaoslab.judge.run_record import Injection, Record
from chaoslab.spec.timeline import end_of
from chaoslab.units import Threshold


def fault_result(fault: Injection, origin_ns: int) -> FaultResult:
    def since(instant_ns: int | None) -> float | None:
        return None if instant_ns is None else seconds(instant_ns - origin_ns)

    return FaultResult(
        id=fault.id,
        name=fault.name,
        target=fault.target,
        inject_s=seconds(fault.inject_ns - origin_ns),
        effective_s=since(fault.effective_ns),
        heal_s=since(fault.heal_ns),
        healed_s=since(fault.healed_ns),
        skew_ms=fault.detail.get("skew_ms"),
        verified=fault.verified,
        detail=dict(fault.detail),
    )


def clock_results(run: RunData) -> list[ClockResult]:
    """Every clock of the run, as it was judged, in order of its cause."""
    found = [clock_result(run, service, clock) for service in run.services.values() for clock in service.clocks]
    return sorted(found, key=lambda clock: (clock.from_s, clock.journey))


def clock_result(run: RunData, service: ServiceData, clock: Clock) -> ClockResult:
    limit, origin_ns = limit_of(clock, service.objectives), run.record.first_ns
    verdict, why = judge_clock(clock, limit, run.timeline) or ("unjudged", "")
    overlapping = dict.fromkeys(map(base_id, clock.overlapping))
    return ClockResult(
        journey=clock.journey,
        service=service.name,
        cause=clock.cause.cause,
        event=clock.cause.kind,
        kind=clock.kind,
        from_s=seconds(clock.cause.at_ns - origin_ns),
        first_bad_s=seconds(clock.bad_ns[0] - origin_ns),
        last_bad_s=seconds(clock.bad_ns[-1] - origin_ns),
        back_s=None if clock.back_ns is None else seconds(clock.back_ns - origin_ns),
        low=clock.low_s,
        high=clock.high_s,
        end=clock.ended_by,
        masked=[fault for fault in overlapping if service.impacts[fault] == "masked"],
        objective=limit.value if limit else None,
        starved_s=seconds(run.timeline.starved_ns(clock.cause.at_ns, clock.end_ns)),
        declared_s=clock.declared_s,
        verdict=verdict,  # type: ignore[arg-type]
        why=why,
    )


def restored_results(run: RunData) -> list[RestoredResult]:
    """After each heal with an objective on it, the services in the order in which they worked again; others are last."""
    found = []
    for service in run.services.values() if any(map(has_restored, run.objectives.values())) else ():
        for heal, clocks in service.restorations:
            if clocks and any(tightest(heal, "restored", wanted) for wanted in run.objectives.values()):
                limit = tightest(heal, "restored", service.objectives)
                outcomes = [judge_clock(clock, limit, run.timeline) for clock in clocks]
                judged = [outcome for outcome in outcomes if outcome is not None]
                backs = [clock.back_ns for clock in clocks if clock.back_ns is not None]
                low, high = worst_interval(clocks)
                found.append(
                    RestoredResult(
                        fault=heal.cause,
                        service=service.name,
                        from_s=seconds(heal.at_ns - run.record.first_ns),
                        back_s=seconds(max(backs) - run.record.first_ns) if len(backs) == len(clocks) else None,
                        low=low,
                        high=high,
                        objective=limit.value if limit else None,
                        verdict=worst(judged)[0] if judged else "unjudged",  # type: ignore[arg-type]
                    )
                )
    return sorted(found, key=lambda one: (one.from_s, one.back_s is None, one.back_s or 0.0, one.service))


def journey_result(run: RunData, journey: JourneyData) -> JourneyResult:
    objectives = run.services[journey.service].objectives
    latencies = sorted(latencies_ms(journey.since_fault))
    return JourneyResult(
        service=journey.service,
        op=journey.op,
        slots=len(journey.since_fault),
        bad=journey.bad,
        skewed=journey.skewed,
        availability=journey.availability,
        rto_s=_interval(journey.clocks, "rto", objectives.rto),
        failback_s=_failback(run, journey.clocks, objectives.failback),
        outages=journey.outages,
        p50_ms=percentile(latencies, 0.50),
        p95_ms=percentile(latencies, 0.95),
        p99_ms=percentile(latencies, 0.99),
    )


def service_result(run: RunData, service: ServiceData) -> ServiceResult:
    """A service is as good as its worst journey."""
    under = [clock for clock in service.clocks if clock.kind == "rto" or run.experiment.is_planned_change]
    affected = bool(under) or "degraded" in service.impacts.values()
    recovered = all(clock.ended_by == "recovered" for clock in under)
    bad_s = [seconds(journey.bad * journey.slots.period_ns) for journey in service.journeys]
    lengths_s = [  # one number for an outage: the middle of its interval, at least one period
        max(seconds(journey.slots.period_ns), (outage.low_s + outage.high_s) / 2)
        for journey in service.journeys
        for outage in journey.outages
    ]
    pause = pause_of([outage for journey in service.journeys if journey.op == "write" for outage in journey.outages])
    limit = service.objectives.pause
    return ServiceResult(
        status="unaffected" if not affected else "recovered" if recovered else "not_recovered",
        rto_s=_interval(under, "rto", service.objectives.rto),
        failback_s=_failback(run, service.clocks, service.objectives.failback),
        availability=min((journey.availability for journey in service.journeys), default=0.0),
        downtime_s=max(bad_s, default=0.0),
        longest_s=max(lengths_s, default=0.0),
        flaps=max((journey.flaps for journey in service.journeys), default=0),
        slots=sum(len(journey.since_fault) for journey in service.journeys),
        skewed=sum(journey.skewed for journey in service.journeys),
        faults={**service.impacts},
        failed=sum(len(journey.failed) for journey in service.journeys),
        pause_s=None if pause is None else Interval(pause.low, pause.high, limit.value if limit else None),
    )


def load_result(rows: Sequence[Load]) -> LoadResult:
    requests = sum(row.requests for row in rows)
    p95s = [row.p95_ms for row in rows if row.p95_ms is not None]
    return LoadResult(
        requests=requests,
        failures=sum(row.failures for row in rows),
        users=max((row.users for row in rows), default=0),
        rps=requests / len(rows) if rows else 0.0,
        p95_ms=median(p95s) if p95s else None,
    )


def phase_s(record: Record, phase: Phase) -> float:
    """How long a phase took; 0 for one that did not begin or end."""
    begin_ns, end_ns = record.phases.get((phase, "begin")), record.phases.get((phase, "end"))
    return 0.0 if begin_ns is None or end_ns is None else seconds(end_ns - begin_ns)


def overhead_s(run: RunData) -> float:
    """What the harness added to a run that went through its script: neither scripted, nor waiting for the stack."""
    experiment, record = run.experiment, run.record
    scripted_s = end_of(experiment.faults, list(run.objectives.values()))
    if any(fault.heals_at_recovery for fault in experiment.faults):
        scripted_s = min(scripted_s, phase_s(record, "faults"))  # it waited for the stack
    begin_ns = record.phases.get(("faults", "begin"))
    own = {step.id for step in experiment.steps}
    ends_ns = [step.end_ns or step.failed_ns for step in record.steps if step.id in own]
    if begin_ns is not None:  # a step takes as long as it takes
        scripted_s = max([scripted_s, *(seconds(end_ns - begin_ns) for end_ns in ends_ns if end_ns is not None)])
    scripted_s += experiment.steady_state.hold
    waited_s = max(experiment.failback.hold, phase_s(record, "failback"))  # power back, conditions, and the hold itself
    duration_s = seconds(record.last_ns - record.first_ns)
    return max(0.0, duration_s - phase_s(record, "boot") - scripted_s - waited_s)


def _interval(clocks: Sequence[Clock], kind: Kind, limit: Threshold | None) -> Interval | None:
    """The worst of several clocks of a kind; None without any."""
    own = [clock for clock in clocks if clock.kind == kind]
    return Interval(*worst_interval(own), limit.value if limit else None) if own else None


def _failback(run: RunData, clocks: Sequence[Clock], limit: Threshold | None) -> Interval | None:
    """The worst failback; nothing bad after a heal that left no fault active is a failback of 0 s."""
    found = _interval(clocks, "failback", limit)
    healed = any(event.kind == "heal" and not run.timeline.active_at(event.at_ns) for event in run.timeline.events)
    return Interval(0.0, 0.0, limit.value if limit else None) if found is None and healed else found
