"""The figures of a result: faults, journeys, services, load, times. They judge nothing. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

from chaoslab.case import Case, JourneyCase, ServiceCase
from chaoslab.checks import limit_of, worst_interval
from chaoslab.clocks import Clock, Kind, base_id, judged
from chaoslab.events import Load, Phase
from chaoslab.measure import latencies_ms, percentile, seconds
from chaoslab.record import Injection, Record
from chaoslab.result import ClockResult, FaultResult, Interval, JourneyResult, LoadResult, Outage, ServiceResult
from chaoslab.schedule import end_of
from chaoslab.units import Threshold


def fault_result(one: Injection, origin_ns: int) -> FaultResult:
    def since(instant_ns: int | None) -> float | None:
        return None if instant_ns is None else seconds(instant_ns - origin_ns)

    return FaultResult(
        id=one.id,
        name=one.name,
        target=one.target,
        inject_s=seconds(one.inject_ns - origin_ns),
        effective_s=since(one.effective_ns),
        heal_s=since(one.heal_ns),
        healed_s=since(one.healed_ns),
        skew_ms=one.detail.get("skew_ms"),
        verified=one.verified,
        detail=dict(one.detail),
    )


def clock_results(case: Case) -> list[ClockResult]:
    """Every clock of the run, as it was judged, in order of its cause."""
    found = [_clock_result(case, service, clock) for service in case.services.values() for clock in service.clocks]
    return sorted(found, key=lambda clock: (clock.from_s, clock.journey))


def _clock_result(case: Case, service: ServiceCase, clock: Clock) -> ClockResult:
    limit, origin_ns = limit_of(clock, service.objectives), case.record.first_ns
    verdict, why = judged(clock, limit, case.look) or ("unjudged", "")
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
        masked=[fault for fault in dict.fromkeys(map(base_id, clock.struck)) if service.notices[fault] == "masked"],
        objective=limit.value if limit else None,
        starved_s=seconds(case.look.starved_ns(clock.cause.at_ns, clock.end_ns)),
        verdict=verdict,  # type: ignore[arg-type]
        why=why,
    )


def journey_result(case: Case, journey: JourneyCase) -> JourneyResult:
    owed = case.services[journey.service].objectives
    latencies = sorted(latencies_ms(journey.since_fault))
    return JourneyResult(
        service=journey.service,
        op=journey.spec.op if journey.spec else case.record.probes[journey.name].op,
        slots=len(journey.since_fault),
        bad=journey.bad,
        skewed=journey.skewed,
        availability=journey.availability,
        rto_s=_interval(journey.clocks, "rto", owed.rto),
        failback_s=_failback(case, journey.clocks, owed.failback),
        outages=journey.outages,
        p50_ms=percentile(latencies, 0.50),
        p95_ms=percentile(latencies, 0.95),
        p99_ms=percentile(latencies, 0.99),
    )


def service_result(case: Case, service: ServiceCase) -> ServiceResult:
    """A service is as its worst journey."""
    under = [clock for clock in service.clocks if clock.kind == "rto"]
    found = [(journey.slots.period_ns, one) for journey in service.journeys for one in journey.outages]
    bad_s = [seconds(journey.bad * journey.slots.period_ns) for journey in service.journeys]
    return ServiceResult(
        status="unaffected"
        if not under
        else "recovered"
        if all(one.ended_by == "recovered" for one in under)
        else "not_recovered",
        rto_s=_interval(under, "rto", service.objectives.rto),
        failback_s=_failback(case, service.clocks, service.objectives.failback),
        availability=min((journey.availability for journey in service.journeys), default=0.0),
        downtime_s=max(bad_s, default=0.0),
        longest_s=max((_length_s(one, period_ns) for period_ns, one in found), default=0.0),
        flaps=max((journey.flaps for journey in service.journeys), default=0),
        slots=sum(len(journey.since_fault) for journey in service.journeys),
        skewed=sum(journey.skewed for journey in service.journeys),
        faults={**service.notices},
    )


def _status(under: Sequence[Clock]) -> Literal["recovered", "unaffected", "not_recovered"]:
    if not under:
        return "unaffected"
    return "recovered" if all(one.ended_by == "recovered" for one in under) else "not_recovered"


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


def overhead_s(case: Case) -> float:
    """What the harness added to a run that went through its script: neither scripted, nor waiting for the stack."""
    experiment, record = case.experiment, case.record
    scripted_s = experiment.steady_state.hold + end_of(experiment.timeline, list(case.objectives.values()))
    waited_s = max(experiment.failback.hold, phase_s(record, "failback"))  # power back, conditions, and the hold itself
    duration_s = seconds(record.last_ns - record.first_ns)
    return max(0.0, duration_s - phase_s(record, "boot") - scripted_s - waited_s)


def _interval(clocks: Sequence[Clock], kind: Kind, limit: Threshold | None) -> Interval | None:
    """The worst of several clocks of a kind; None without any."""
    own = [clock for clock in clocks if clock.kind == kind]
    return Interval(*worst_interval(own), limit.value if limit else None) if own else None


def _failback(case: Case, clocks: Sequence[Clock], limit: Threshold | None) -> Interval | None:
    """The worst failback; nothing bad after a heal that left no fault burning is one of 0 s."""
    found = _interval(clocks, "failback", limit)
    healed = any(event.kind == "heal" and not case.look.burns_at(event.at_ns) for event in case.look.events)
    return Interval(0.0, 0.0, limit.value if limit else None) if found is None and healed else found


def _length_s(one: Outage, period_ns: int) -> float:
    """One figure for an outage: the middle of its interval, at least one period."""
    return max(seconds(period_ns), (one.low_s + one.high_s) / 2)
