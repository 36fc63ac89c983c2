"""What must be true of a run for its measurements to mean anything: judge/README.md, Valid run. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from chaoslab.clock import NS_PER_S
from chaoslab.history.result import ObjectiveResult
from chaoslab.history.rows import Phase
from chaoslab.judge.clocks import EventTimeline
from chaoslab.judge.intervals import GAP_PERIODS_MAX, SKEWED_SHARE_MAX, is_quiet, longest_gap_ns, seconds, skewed
from chaoslab.judge.outcome import PASS, Outcome, fail, inconclusive, objective, worst
from chaoslab.judge.run_record import Injection, Record
from chaoslab.judge.slots import Slots
from chaoslab.judge.steady_state import why_not_steady
from chaoslab.spec.model import LoadSpec, SteadyState
from chaoslab.units import format_s

LOAD_SILENT_S = 5.0  # Locust reports four times a second
_PROBED: tuple[Phase, ...] = ("steady", "faults", "failback")


def check_steady_state(record: Record, journeys: Mapping[str, Slots], steady: SteadyState) -> ObjectiveResult:
    """Whether the steady state held over the last `hold` seconds before the first injection."""
    found = list(why_not_steady(journeys, record.conditions, record.machine, steady, record.steady_end_ns))
    outcome = inconclusive("; ".join(found)) if found else PASS
    thresholds = [f"good {steady.journeys.good}"] if steady.journeys.good else []
    thresholds += [f"p95 {steady.journeys.p95}"] if steady.journeys.p95 else []
    wanted = f"{format_s(steady.hold)} of {', '.join(thresholds) or 'slots and conditions'}"
    return objective("steady-state", outcome, "did not hold" if found else "held", wanted)


def check_load(record: Record, wanted: LoadSpec) -> ObjectiveResult:
    """Whether there was load before the fault, the wanted number of users under each fault, and users until the end.

    Locust reports users regardless of the answers.
    """
    begin_ns = record.steady_begin_ns
    requests = sum(row.requests for row in record.load if begin_ns <= row.t_ns <= record.steady_end_ns)
    reported_ns = max((row.t_ns for row in record.load if row.users), default=begin_ns)  # `users` is 0 once no process reports
    quiet_s = seconds(record.observed_end_ns - reported_ns)
    outcome = PASS
    if not requests:
        outcome = inconclusive("no load: there was no request in the steady state")
    elif quiet_s > LOAD_SILENT_S:
        outcome = inconclusive(f"Locust stalled, or had no users, in the last {format_s(quiet_s)}")
    for injection in record.injections if outcome == PASS else ():
        users = wanted.under[injection.id].users if injection.id in wanted.under else 0
        end_ns = record.observed_end_ns if injection.heal_ns is None else injection.heal_ns
        seen = max((row.users for row in record.load if injection.inject_ns < row.t_ns <= end_ns), default=0)
        if seen < users:
            outcome = inconclusive(f"under {injection.id} there were at most {seen} of {users} users")
    return objective("load", outcome, f"{requests} requests in the steady state", "> 0")


def check_fault(id_: str, record: Record) -> ObjectiveResult:
    """Whether a fault was injected, had its effect, and was undone."""
    outcomes: list[Outcome] = []
    for injection in (injection for injection in record.injections if injection.id == id_):
        if injection.restarted:
            outcomes.append(inconclusive("a relay ended or restarted in between, which silently undoes every fault"))
        elif not injection.verified:
            outcomes.append(inconclusive(f"its effect was not seen{_because(injection.detail)}"))
        elif not injection.heal_verified:
            outcomes.append(inconclusive(f"its heal was not verified{_because(injection.detail)}"))
        else:
            outcomes.append(PASS)
    outcome = worst(outcomes or [inconclusive(f"it was not injected{_because(record.refused.get(id_, {}))}")])
    measured = "effective and healed" if outcome == PASS else "not verified"
    return objective(f"fault.{id_}", outcome, measured, "effect and heal verified")


def _because(detail: Mapping[str, object]) -> str:
    return f": {detail['why']}" if "why" in detail else ""


def check_failback_condition(id_: str, record: Record, timeline: EventTimeline) -> ObjectiveResult:
    """A condition that must hold at the end, as last seen after the heal, or in failback if nothing was healed."""
    rows = [row for row in record.conditions if row.id == id_ and row.role == "failback"]
    if not rows:
        outcome, measured = inconclusive("it was not checked after the heal"), "unknown"
    elif rows[-1].holds:
        outcome, measured = PASS, "holds again"
    elif not all(injection.heal_verified for injection in record.injections):
        outcome, measured = inconclusive(f"the heal was not verified; {rows[-1].observed}"), "does not hold"
    else:
        begin_ns = record.phases.get(("failback", "begin"), 0)
        healed_ns = max((injection.heal_ns or 0 for injection in record.injections), default=begin_ns)
        outcome = fail(f"it does not hold again: {rows[-1].observed}")
        outcome, measured = _unless_starved(outcome, timeline, healed_ns, rows[-1].t_ns), "does not hold"
    return objective(f"failback.{id_}", outcome, measured, "holds again")


def check_return(fault: Injection, timeline: EventTimeline) -> ObjectiveResult:
    """Replicas that were started and no longer isolated, but not healthy by the deadline of the heal."""
    outcome = fail(f"started and reconnected, but not healthy by the deadline of the heal: {fault.detail.get('why', '')}")
    outcome = _unless_starved(outcome, timeline, fault.heal_ns or 0, fault.unhealed_ns or timeline.end_ns)
    return objective(f"failback.{fault.id}", outcome, "not healthy", "all replicas are healthy again")


def _unless_starved(failed: Outcome, timeline: EventTimeline, begin_ns: int, end_ns: int) -> Outcome:
    """The fail, unless the machine was starved in between, so that the stack did not get its full time."""
    starved_ns = timeline.starved_ns(begin_ns, end_ns)
    if not starved_ns:
        return failed
    took_s, starved_s = seconds(end_ns - begin_ns), seconds(starved_ns)
    return inconclusive(f"{failed[1]}; the machine was starved for {starved_s:.1f} s of the {took_s:.1f} s after the heal")


def check_prober(
    record: Record, journeys: Mapping[str, Slots], steady: SteadyState, shares: Mapping[str, float]
) -> ObjectiveResult:
    """Whether the prober kept time (`shares`: see `shares_skewed`) and kept sending, from the steady state to the end."""
    stalled = {name: share for name, share in shares.items() if share > SKEWED_SHARE_MAX}
    found = [f"{name}: {share:.1%} of its slots were sent late, because the harness stalled" for name, share in stalled.items()]
    begin_ns, end_ns = _observed(record, steady)
    for name, slots in journeys.items():
        gap_max_ns = GAP_PERIODS_MAX * slots.period_ns
        missing = []
        for phase in _PROBED:
            from_ns, to_ns = record.phases.get((phase, "begin")), record.phases.get((phase, "end"))
            if from_ns is None or to_ns is None or to_ns - from_ns <= gap_max_ns:
                continue
            if not slots.numbers(from_ns, to_ns):
                missing.append(f"no slot in phase {phase}")
        seen = slots.due_in(begin_ns, end_ns)
        gap_ns = longest_gap_ns(seen)
        if gap_ns > gap_max_ns:
            missing.append(f"no slot for {format_s(seconds(gap_ns))}")
        quiet_ns = end_ns - seen.due[-1] if len(seen) else 0
        if is_quiet(quiet_ns, slots.period_ns):
            missing.append(f"no slot in the last {format_s(seconds(quiet_ns))}")
        found += [f"{name}: {what}, so the prober did not observe it" for what in missing]
    outcome = inconclusive("; ".join(found)) if found else PASS
    measured = f"{max(shares.values(), default=0.0):.1%} sent late"
    return objective("instrument", outcome, measured, f"≤ {SKEWED_SHARE_MAX:.0%} sent late, no gaps")


def unless_stalled(shares: Mapping[str, float], judged: ObjectiveResult) -> ObjectiveResult:
    """A verdict about times; no fail if the harness stalled, because it may have caused the bad slots."""
    share = max(shares.values(), default=0.0)
    if judged.verdict != "fail" or share <= SKEWED_SHARE_MAX:
        return judged
    why = f"{judged.why}; but the harness stalled ({share:.1%} of the slots sent late), which may be the cause"
    return objective(judged.id, inconclusive(why), judged.measured, judged.objective)


def shares_skewed(record: Record, journeys: Mapping[str, Slots], steady: SteadyState) -> dict[str, float]:
    """By journey, the share of slots that were sent more than a period late, from the steady state to the end."""
    begin_ns, end_ns = _observed(record, steady)
    seen = {name: slots.due_in(begin_ns, end_ns) for name, slots in journeys.items()}
    return {name: skewed(slots) / len(slots) if len(slots) else 0.0 for name, slots in seen.items()}


def _observed(record: Record, steady: SteadyState) -> tuple[int, int]:
    """From the begin of the steady state that is judged to the end of the observation."""
    return record.steady_end_ns - round(steady.hold * NS_PER_S), record.observed_end_ns
