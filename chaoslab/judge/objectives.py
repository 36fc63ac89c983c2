"""The verdict on each objective of a service, and why: RTO, failback, availability, RPO, ledger. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from chaoslab.clock import NS_PER_S
from chaoslab.history.result import ObjectiveResult
from chaoslab.judge.clocks import Clock, Event, EventTimeline, Impact, Kind, declared_in_words, judge_clock
from chaoslab.judge.intervals import seconds
from chaoslab.judge.ledger import Ledger, loss_text
from chaoslab.judge.losses import BEFORE_FAULT_S
from chaoslab.judge.outcome import PASS, Outcome, fail, inconclusive, objective, worst
from chaoslab.spec.model import ExperimentObjectives
from chaoslab.spec.objectives import under_fault
from chaoslab.spec.stackfile.model import FaultObjectives
from chaoslab.units import Threshold, format_s

# --- RTO and failback -------------------------------------------------------------------------------------------


def limit_of(clock: Clock, objectives: ExperimentObjectives) -> Threshold | None:
    """The objective of a clock."""
    return tightest(clock.cause, clock.kind, objectives)


def tightest(cause: Event, kind: Kind | Literal["restored"], objectives: ExperimentObjectives) -> Threshold | None:
    """The service's objective, refined for the faults or the step that are the cause; the tightest, if there are several."""
    layers = [under_fault(objectives, id_) for id_ in cause.faults]
    limits: list[Threshold] = [limit for layer in layers if (limit := getattr(layer, kind)) is not None]
    return min(limits, key=lambda limit: limit.value, default=None)


def has_rto(objectives: ExperimentObjectives) -> bool:
    """Whether there is an objective on how a fault is noticed, under any fault."""
    return any(layer.rto is not None or layer.unaffected for layer in (objectives, *objectives.under.values()))


def has_failback(objectives: ExperimentObjectives) -> bool:
    """Whether there is a failback objective, under any fault."""
    return any(layer.failback is not None for layer in (objectives, *objectives.under.values()))


def has_restored(objectives: ExperimentObjectives) -> bool:
    """Whether there is an objective on the time from a heal until the service works, under any fault."""
    return any(layer.restored is not None for layer in (objectives, *objectives.under.values()))


def check_rto(
    service: str,
    clocks: Sequence[Clock],
    impacts: Mapping[str, Impact],
    objectives: ExperimentObjectives,
    timeline: EventTimeline,
    verified: Mapping[str, bool],
    unseen: Sequence[str] = (),
) -> ObjectiveResult:
    """Compare each clock that started while a fault was active with the RTO, and check that each fault was noticed as expected.

    `verified`: by fault, whether its effect was seen from outside. `unseen`: journeys without a slot after the first fault.
    """
    under = [clock for clock in clocks if clock.kind == "rto"]
    outcomes = [judge_clock(clock, limit_of(clock, objectives), timeline) for clock in under]
    for fault, impact in impacts.items():
        own = [clock for clock in clocks if clock.cause.kind == "inject" and fault in clock.cause.faults]
        outcome = _as_expected(fault, impact, under_fault(objectives, fault), verified[fault], own)
        if outcome is not None and outcome[0] == "fail" and timeline.cut:
            outcome = inconclusive(outcome[1])
        outcomes.append(outcome)
    outcomes += [inconclusive(f"{journey}: no slot was seen after the fault") for journey in unseen]
    none = "nothing to judge: no fault with an objective was injected, or the service was already down at each of them"
    of_faults = [fault for fault, layer in objectives.under.items() if {"rto", "unaffected"} & layer.model_fields_set]
    refined = [f"{fault}: {_wanted(under_fault(objectives, fault))}" for fault in of_faults]
    wanted = "; ".join(filter(None, [_wanted(objectives), *refined]))
    return objective(f"{service}.rto", _worst_of(outcomes, none), interval_text(under), wanted)


def _worst_of(outcomes: Sequence[Outcome | None], none: str) -> Outcome:
    """The worst of what was judged; if nothing was, inconclusive, for the reason `none`."""
    return worst([outcome for outcome in outcomes if outcome is not None] or [inconclusive(none)])


def _as_expected(
    fault: str, impact: Impact, objectives: FaultObjectives, verified: bool, clocks: Sequence[Clock]
) -> Outcome | None:
    """Judges one fault alone. `clocks`: those that it caused. None if there is no objective, or the fault was masked."""
    unaffected = objectives.unaffected
    if impact == "masked" or not (objectives.rto is not None or unaffected):
        return None
    if not verified:
        return inconclusive(f"the effect of {fault} was not verified, so whether it was noticed proves nothing")
    if impact in ("noticed", "degraded") and unaffected is True:
        seen = ", ".join(f"{clock.journey} ({len(clock.bad_ns)} bad slots)" for clock in clocks)
        return fail(f"declared unaffected, but {fault} was noticed: {seen or 'it did what its degraded mode allows'}")
    if impact == "noticed":
        return PASS if unaffected else None  # its clocks are judged
    if impact == "degraded" or unaffected == "allowed" or (unaffected and impact == "unnoticed"):
        return PASS
    why = f"no bad slot after {fault}: it did not affect this service, or should not (then write `unaffected: true`)"
    if impact == "unclear":
        why = f"{fault}: bad slots only while the machine was starved, so it is unknown whether it was noticed"
    return inconclusive(why)


def _wanted(objectives: FaultObjectives) -> str:
    limit = [format_s(objectives.rto.value)] if objectives.rto and objectives.unaffected is not True else []
    return " or ".join([*limit, *(["unaffected"] if objectives.unaffected else [])])


def check_failback(
    service: str,
    clocks: Sequence[Clock],
    objectives: ExperimentObjectives,
    timeline: EventTimeline,
    seen: Callable[[Event], bool],
    ledger: Ledger | None,
) -> ObjectiveResult:
    """Judge each clock that started while no fault was active; without one, failback took 0 s. `seen`: slots came after that
    heal.

    In a planned change, steps count as heals. Sites whose ledgers still differ when the failback objective is over miss it,
    too.
    """
    own = [clock for clock in clocks if clock.kind == "failback"]
    heals = [event for event in timeline.events if event.kind == "heal" and not timeline.active_at(event.at_ns)]
    if timeline.planned_change:
        heals = [event for event in timeline.events if event.kind == "step"]
    outcomes = [judge_clock(clock, limit_of(clock, objectives), timeline) for clock in own]
    for heal in heals:
        if tightest(heal, "failback", objectives) is None:
            continue
        over = next((clock for clock in clocks if clock.cause.at_ns < heal.at_ns < clock.end_ns), None)
        if heal.verified_ns is None:
            outcomes.append(inconclusive(f"the heal of {heal.cause} was not verified"))
        elif not seen(heal):
            outcomes.append(inconclusive(f"no failback was measured: no slot came after the {heal.kind} of {heal.cause}"))
        elif over is not None:
            since = f"down since the {over.cause.kind} of {over.cause.cause}"
            outcomes.append(inconclusive(f"{over.journey}: {since}, so no failback was measured"))
        else:
            outcomes.append(PASS)
    limit = tightest(heals[-1], "failback", objectives) if heals else None
    if limit is not None and ledger is not None and (ledger.alike_ns or ledger.differed_ns):
        outcomes.append(alike_in_time(ledger, heals[-1].at_ns + round(limit.value * NS_PER_S)))
    none = "no failback was measured: the run ended before it, or no fault was healed"
    measured = interval_text(own, none="0.00 s" if heals else "not measured")
    limits = [layer.failback for layer in (objectives, *objectives.under.values()) if layer.failback is not None]
    wanted = " or ".join(format_s(limit.value) for limit in limits)
    return objective(f"{service}.failback", _worst_of(outcomes, none), measured, wanted)


def check_restored(
    service: str,
    restorations: Sequence[tuple[Event, Sequence[Clock]]],
    objectives: ExperimentObjectives,
    timeline: EventTimeline,
    seen: Callable[[Event], bool],
) -> ObjectiveResult:
    """Judge each heal that has such an objective, whatever else is active. `restorations`: the clocks of each heal, by journey.

    `seen`: slots came after that heal.
    """
    outcomes: list[Outcome | None] = []
    judged: list[Clock] = []
    for heal, clocks in restorations:
        limit = tightest(heal, "restored", objectives)
        if limit is None:
            continue
        judged += clocks
        outcomes += [judge_clock(clock, limit, timeline) for clock in clocks]
        if clocks:
            continue
        if heal.verified_ns is None:
            outcomes.append(inconclusive(f"the heal of {heal.cause} was not verified"))
        elif not seen(heal):
            outcomes.append(inconclusive(f"no slot came after the heal of {heal.cause}"))
        else:
            outcomes.append(PASS)
    none = "the run ended before the heal of a fault with such an objective"
    layers = [("", objectives), *((f"{fault}: ", layer) for fault, layer in objectives.under.items())]
    wanted = "; ".join(f"{of}{format_s(layer.restored.value)}" for of, layer in layers if layer.restored is not None)
    measured = interval_text(judged, none="0.00 s" if outcomes else "not measured")
    return objective(f"{service}.restored", _worst_of(outcomes, none), measured, wanted)


def worst_interval(clocks: Sequence[Clock]) -> tuple[float, float | None]:
    """Seconds, lowest and highest, of the worst of several clocks."""
    highs = [clock.high_s for clock in clocks]
    known = [high for high in highs if high is not None]
    return max(clock.low_s for clock in clocks), max(known) if len(known) == len(highs) else None


def interval_text(clocks: Sequence[Clock], *, none: str = "unaffected") -> str:
    """The worst of several clocks as text; `none`: the text if there is none. Declared time is shown separately."""
    if not clocks:
        return none
    low_s, high_s = worst_interval(clocks)
    declared_s = max(clocks, key=lambda clock: clock.low_s).declared_s
    more = declared_in_words(declared_s)
    return (
        f"≥ {low_s - declared_s:.2f} s{more}"
        if high_s is None
        else f"{low_s - declared_s:.2f}..{high_s - declared_s:.2f} s{more}"
    )


# --- availability -----------------------------------------------------------------------------------------------


def check_availability(service: str, shares: Mapping[str, tuple[float, float]], threshold: Threshold) -> ObjectiveResult:
    """`shares`: of good slots since the first fault, by journey, with those of starved seconds as bad, and as good."""
    id_ = f"{service}.availability"
    if not shares:
        return objective(id_, inconclusive("no slot was seen after the first fault"), "not measured", str(threshold))
    (low, high), journey = min((share, journey) for journey, share in shares.items())
    outcome = PASS
    if not all(threshold.holds(most) for _, most in shares.values()):
        outcome = fail(f"{journey}: only {high:.2%} of the slots were good")
    elif not all(threshold.holds(least) for least, _ in shares.values()):
        outcome = inconclusive(f"{journey}: {low:.2%} of the slots were good; without starved seconds it may be {high:.2%}")
    return objective(id_, outcome, f"{low:.2%}" if low == high else f"{low:.2%}..{high:.2%}", str(threshold))


# --- the ledger -------------------------------------------------------------------------------------------------


def check_rpo(service: str, ledger: Ledger, limit: Threshold) -> ObjectiveResult:
    """Judge what was lost by how long before the fault it was acknowledged."""
    met = not ledger.lost if limit.value == 0 else limit.holds(ledger.rpo_s)
    loss = PASS if met else fail(loss_text(ledger))
    if ledger.lost_after_fault:
        loss = fail(f"{loss_text(ledger)}; no RPO allows that")
    outcome = worst([_read_back(ledger), _could_show_loss(ledger), _if_known(ledger, loss)])
    return objective(f"{service}.rpo", outcome, loss_text(ledger), "nothing lost" if limit.value == 0 else f"lost {limit}")


def check_ledger(service: str, ledger: Ledger, *, linearizable: bool, rpo_judged: bool) -> ObjectiveResult:
    """Check what must hold whatever the RPO: no write resurrected, unexpected, duplicated or changed, and all sites alike.

    Where no RPO judges the losses (`rpo_judged`), any loss fails here.
    """
    outcomes: list[Outcome] = [
        _none(ledger.resurrected, "rejected, but stored (resurrected)"),
        _none(ledger.unexpected, "never attempted, but stored (unexpected)"),
        _none(ledger.duplicated, "stored more often than attempted (duplicated)"),
        _none(ledger.corrupt, "stored with different content than was sent (corrupt)"),
        _if_known(ledger, _none(ledger.divergent, "not the same in all sites after settling (divergent)")),
        _read_back(ledger),
    ]
    if linearizable:
        outcomes.append(_none(ledger.stale, "missing from a read that began after the acknowledgement (stale)"))
    if not rpo_judged:
        outcomes += [_if_known(ledger, _none(ledger.lost, "lost, and no RPO allows that")), _could_show_loss(ledger)]
    writes = ledger.acked + ledger.rejected + ledger.indeterminate
    return objective(f"{service}.ledger", worst(outcomes), f"{writes} writes", "intact")


def alike_in_time(ledger: Ledger, over_ns: int) -> Outcome:
    """Whether the sites were alike when the failback objective was over, at `over_ns`."""
    if ledger.differed_ns is not None and ledger.differed_ns > over_ns:
        late_s = seconds(ledger.differed_ns - over_ns)
        return fail(f"the sites' ledgers still differed {late_s:.1f} s after the failback objective")
    if ledger.alike_ns is None:
        return inconclusive("the sites' ledgers were never seen to agree before the reads ended")
    if ledger.differed_ns is not None and ledger.alike_ns > over_ns:
        return inconclusive("the sites' ledgers differed within the failback objective, and were first seen to agree after it")
    return PASS


def _none(ids: set[str], what: str) -> Outcome:
    return fail(f"{len(ids)} {what}, such as {min(ids)}") if ids else PASS


def _if_known(ledger: Ledger, outcome: Outcome) -> Outcome:
    """A verdict about missing writes; no fail if they may still arrive, or be at a site that could not be read."""
    if ledger.known or outcome == PASS:
        return outcome
    return inconclusive(f"{outcome[1]}; but the final reads are incomplete")


def _read_back(ledger: Ledger) -> Outcome:
    """Whether the final reads are final and cover every write."""
    if ledger.unread:
        return inconclusive(f"no final read from {', '.join(sorted(ledger.unread))}")
    if not ledger.settled:
        return inconclusive("the sites' ledgers were still changing at the deadline of the final reads")
    if ledger.unverified:
        return inconclusive(f"{len(ledger.unverified)} acknowledged writes were never read back (unverified)")
    return PASS


def _could_show_loss(ledger: Ledger) -> Outcome:
    """An empty ledger proves nothing."""
    if ledger.acked_before_fault and not ledger.silent_faults:
        return PASS
    faults = ", ".join(sorted(ledger.silent_faults)) or "any fault that can destroy data"
    return inconclusive(
        f"no loss could have been seen: no write was acknowledged in the last {BEFORE_FAULT_S:.0f} s before {faults}"
    )
