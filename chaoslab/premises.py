"""What must be true of a run before its figures mean anything: baseline, load, instrument, faults that bit. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from chaoslab.baseline import troubles
from chaoslab.clock import NS_PER_S
from chaoslab.events import Phase
from chaoslab.measure import (
    GAP_PERIODS_MAX,
    blind_after,
    longest_gap_ns,
    seconds,
    skewed,
)
from chaoslab.record import Injection, Record
from chaoslab.result import ObjectiveResult
from chaoslab.said import PASS, Said, fail, inconclusive, objective, worst
from chaoslab.slots import Slots
from chaoslab.spec.model import JourneyThresholds, SteadyState
from chaoslab.units import format_s

LOAD_SILENT_S = 5.0  # Locust speaks four times a second
SKEWED_MAX = 0.01  # share of slots sent more than one period late
_WATCHED: tuple[Phase, ...] = ("steady", "faults", "failback")


def check_steady_state(record: Record, journeys: Mapping[str, Slots], steady: SteadyState) -> ObjectiveResult:
    """Whether the baseline held over the last `hold` seconds before the first injection."""
    found = list(troubles(journeys, record.conditions, record.machine, steady, record.steady_end_ns))
    said = inconclusive("; ".join(found)) if found else PASS
    wanted = f"{format_s(steady.hold)} of {_thresholds_text(steady.journeys)}"
    return objective("steady-state", said, "did not hold" if found else "held", wanted)


def _baseline(record: Record, steady: SteadyState) -> tuple[int, int]:
    return record.steady_end_ns - round(steady.hold * NS_PER_S), record.steady_end_ns


def _thresholds_text(wanted: JourneyThresholds) -> str:
    parts = [f"good {wanted.good}"] if wanted.good else []
    parts += [f"p95 {wanted.p95}"] if wanted.p95 else []
    return ", ".join(parts) or "slots and conditions"


def check_load(record: Record) -> ObjectiveResult:
    """Whether there was load before the fault, and whoever makes it was there to the end: it speaks up whatever is answered."""
    begin_ns = record.steady_begin_ns
    requests = sum(row.requests for row in record.load if begin_ns <= row.t_ns <= record.steady_end_ns)
    spoke_ns = max((row.t_ns for row in record.load if row.users), default=begin_ns)  # 0 once no process tells of its users
    quiet_s = seconds(record.observed_end_ns - spoke_ns)
    said = PASS
    if not requests:
        said = inconclusive("no load: not one request in the steady state")
    elif quiet_s > LOAD_SILENT_S:
        said = inconclusive(f"Locust stood still, or had no users, in the last {format_s(quiet_s)}")
    return objective("load", said, f"{requests} requests in the steady state", "> 0")


def check_fault(id_: str, record: Record) -> ObjectiveResult:
    """Whether a fault was injected, bit, and was undone."""
    said = worst([_bit(one) for one in record.injections if one.id == id_])
    if not any(one.id == id_ for one in record.injections):
        said = inconclusive(f"it was not injected{_because(record.refused.get(id_, {}))}")
    measured = "effective and healed" if said == PASS else "not as scripted"
    return objective(f"fault.{id_}", said, measured, "effect and heal verified")


def _bit(one: Injection) -> Said:
    if one.restarted:
        return inconclusive("a relay ended or restarted in between, which heals every fault without a word")
    if not one.verified:
        return inconclusive(f"its effect was not seen{_because(one.detail)}")
    if not one.heal_verified:
        return inconclusive(f"its heal was not verified{_because(one.detail)}")
    return PASS


def _because(detail: Mapping[str, object]) -> str:
    return f": {detail['why']}" if "why" in detail else ""


def check_failback_condition(id_: str, record: Record) -> ObjectiveResult:
    """A condition of the steady state, as last seen after the heal."""
    rows = [row for row in record.conditions if row.id == id_ and row.role == "failback"]
    if not rows:
        said, measured = inconclusive("it was not looked at after the heal"), "not known"
    elif rows[-1].holds:
        said, measured = PASS, "holds again"
    elif not all(one.heal_verified for one in record.injections):
        said, measured = inconclusive(f"the heal was not verified; {rows[-1].observed}"), "does not hold"
    else:
        said, measured = fail(f"it does not hold again: {rows[-1].observed}"), "does not hold"
    return objective(f"failback.{id_}", said, measured, "holds again")


def check_return(one: Injection) -> ObjectiveResult:
    """Replicas that were started and unfenced, and were not healthy by the heal's deadline."""
    said = fail(f"started, unfenced, and not healthy by the deadline of the heal: {one.detail.get('why', '')}")
    return objective(f"failback.{one.id}", said, "not healthy", "all replicas are healthy again")


def check_instrument(
    record: Record, journeys: Mapping[str, Slots], steady: SteadyState, late: Mapping[str, float]
) -> ObjectiveResult:
    """Whether the prober itself kept time (`late`: see `shares_late`) and kept looking, from the steady state to the end."""
    begin_ns, end_ns = _baseline(record, steady)[0], record.observed_end_ns
    stalled = {name: share for name, share in late.items() if share > SKEWED_MAX}
    troubles = [f"{name}: {share:.1%} of its slots were sent late: the harness stalled" for name, share in stalled.items()]
    for name, slots in journeys.items():
        troubles += [f"{name}: {what}: the instrument was blind" for what in _blind(record, slots, begin_ns, end_ns)]
    said = inconclusive("; ".join(troubles)) if troubles else PASS
    measured = f"{max(late.values(), default=0.0):.1%} sent late"
    return objective("instrument", said, measured, f"≤ {SKEWED_MAX:.0%} sent late, no gaps")


def unless_stalled(late: Mapping[str, float], judged: ObjectiveResult) -> ObjectiveResult:
    """What was judged by time; but no fail where the harness itself stalled, for then the bad slots may be its own."""
    share = max(late.values(), default=0.0)
    if judged.verdict != "fail" or share <= SKEWED_MAX:
        return judged
    why = f"{judged.why}; but the harness stalled ({share:.1%} of the slots sent late), so that may be its own doing"
    return objective(judged.id, inconclusive(why), judged.measured, judged.objective)


def shares_late(record: Record, journeys: Mapping[str, Slots], steady: SteadyState) -> dict[str, float]:
    """By journey, the share of slots that were sent more than a period late, from the steady state to the end."""
    begin_ns, end_ns = _baseline(record, steady)[0], record.observed_end_ns
    return {name: _share_late(slots, begin_ns, end_ns) for name, slots in journeys.items()}


def _share_late(slots: Slots, begin_ns: int, end_ns: int) -> float:
    seen = slots.due_in(begin_ns, end_ns)
    return skewed(seen) / len(seen) if len(seen) else 0.0


def _blind(record: Record, slots: Slots, begin_ns: int, end_ns: int) -> list[str]:
    gap_max_ns = GAP_PERIODS_MAX * slots.period_ns
    troubles = [f"no slot in phase {phase}" for phase in _WATCHED if _unseen(record, slots, phase, gap_max_ns)]
    seen = slots.due_in(begin_ns, end_ns)
    gap_ns = longest_gap_ns(seen)
    if gap_ns > gap_max_ns:
        troubles.append(f"no slot for {format_s(seconds(gap_ns))}")
    quiet_ns = end_ns - seen.due[-1] if len(seen) else 0
    if blind_after(quiet_ns, slots.period_ns):
        troubles.append(f"no slot in the last {format_s(seconds(quiet_ns))}")
    return troubles


def _unseen(record: Record, slots: Slots, phase: Phase, gap_max_ns: int) -> bool:
    """Whether a phase that was long enough to be seen went by without a slot."""
    begin_ns, end_ns = record.phases.get((phase, "begin")), record.phases.get((phase, "end"))
    if begin_ns is None or end_ns is None or end_ns - begin_ns <= gap_max_ns:
        return False
    return not slots.numbers(begin_ns, end_ns)
