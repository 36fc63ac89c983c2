"""The figures of a result: faults, journeys, services, load, times. They judge nothing. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from chaoslab.case import Case, JourneyCase, ServiceCase
from chaoslab.checks import worst_interval
from chaoslab.events import Load, Phase
from chaoslab.measure import Recovery, latencies_ms, outages, percentile, seconds
from chaoslab.record import Injection, Record, Window
from chaoslab.result import FaultResult, Interval, JourneyResult, LoadResult, Outage, ServiceResult
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


def journey_result(case: Case, journey: JourneyCase) -> JourneyResult:
    owed = case.services[journey.service].objectives
    seen = journey.since_fault
    latencies = latencies_ms(seen)
    return JourneyResult(
        service=journey.service,
        op=journey.spec.op if journey.spec else next(slot.op for slot in case.record.probes[journey.name]),
        slots=len(seen),
        bad=journey.bad,
        skewed=journey.skewed,
        availability=journey.availability,
        rto_s=_interval(journey.under_faults, owed.rto),
        failback_s=_interval(journey.under_failback, owed.failback, notices=False),
        outages=journey.outages,
        p50_ms=percentile(latencies, 0.50),
        p95_ms=percentile(latencies, 0.95),
        p99_ms=percentile(latencies, 0.99),
    )


def service_result(service: ServiceCase) -> ServiceResult:
    """A service is as its worst journey."""
    under = [one for journey in service.journeys for one in journey.under_faults]
    back = [one for journey in service.journeys for one in journey.under_failback]
    found = [(journey.slots.period_ns, one) for journey in service.journeys for one in journey.outages]
    bad_s = [seconds(journey.bad * journey.slots.period_ns) for journey in service.journeys]
    states = {one.status for one in under}
    return ServiceResult(
        status="not_recovered" if "not_recovered" in states else "recovered" if "recovered" in states else "unaffected",
        rto_s=_interval(under, service.objectives.rto),
        failback_s=_interval(back, service.objectives.failback, notices=False),
        availability=min((journey.availability for journey in service.journeys), default=0.0),
        downtime_s=max(bad_s, default=0.0),
        longest_s=max((_length_s(one, period_ns) for period_ns, one in found), default=0.0),
        flaps=max((_flaps(journey) for journey in service.journeys), default=0),
        slots=sum(len(journey.since_fault) for journey in service.journeys),
        skewed=sum(journey.skewed for journey in service.journeys),
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


def overhead_s(case: Case) -> float:
    """What the harness added to a run that went through its script: neither scripted, nor waiting for the stack."""
    experiment, record = case.experiment, case.record
    scripted_s = experiment.steady_state.hold + end_of(experiment.timeline, list(case.objectives.values()))
    waited_s = max(experiment.failback.hold, phase_s(record, "failback"))  # power back, conditions, and the hold itself
    duration_s = seconds(record.last_ns - record.first_ns)
    return max(0.0, duration_s - phase_s(record, "boot") - scripted_s - waited_s)


def _interval(found: Sequence[Recovery], limit: Threshold | None, *, notices: bool = True) -> Interval | None:
    """The worst of several recoveries; None where nothing was seen, or (`notices`) nothing was noticed."""
    seen = [one for one in found if one.status != "unseen"]
    if not seen or (notices and all(one.status == "unaffected" for one in seen)):
        return None
    return Interval(*worst_interval(seen), limit.value if limit else None)


def _length_s(one: Outage, period_ns: int) -> float:
    """One figure for an outage: the middle of its interval, at least one period."""
    return max(seconds(period_ns), (one.low_s + one.high_s) / 2)


def _flaps(journey: JourneyCase) -> int:
    """How often it went bad again, after a stable run of good slots, within the window of a fault."""
    return sum(max(0, _stretches(journey, one.window) - 1) for one in journey.under_faults)


def _stretches(journey: JourneyCase, window: Window) -> int:
    """How many outages a window holds; what was under way when its fault struck belongs to the first."""
    slots = journey.slots
    seen = slots.decided_in(window.begin_ns, window.end_ns)
    return len(outages(seen, period_ns=slots.period_ns, since_ns=window.begin_ns, origin_ns=window.begin_ns))
