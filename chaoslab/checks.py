"""What each objective of a service comes to, and why: RTO, failback, availability, RPO, ledger. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from chaoslab.buckets import Ledger, loss_text
from chaoslab.clock import NS_PER_S
from chaoslab.clocks import Clock, Event, Kind, Look, Notice, judged
from chaoslab.losses import BEFORE_FAULT_S
from chaoslab.measure import seconds
from chaoslab.result import ObjectiveResult
from chaoslab.said import PASS, Said, fail, inconclusive, objective, worst
from chaoslab.spec.model import ExperimentObjectives, FaultObjectives
from chaoslab.spec.objectives import under_fault
from chaoslab.units import Threshold, format_s

# --- RTO and failback -------------------------------------------------------------------------------------------


def limit_of(clock: Clock, owed: ExperimentObjectives) -> Threshold | None:
    """What a clock is held against."""
    return tightest(clock.cause, clock.kind, owed)


def tightest(cause: Event, kind: Kind, owed: ExperimentObjectives) -> Threshold | None:
    """The service's objective, refined by the faults that are the cause; the tightest, where that is several."""
    layers: Sequence[FaultObjectives] = [owed]
    if cause.kind != "step":
        layers = [under_fault(owed, fault) for fault in cause.faults]
    limits = [limit for layer in layers if (limit := layer.rto if kind == "rto" else layer.failback) is not None]
    return min(limits, key=lambda limit: limit.value, default=None)


def promises_rto(owed: ExperimentObjectives) -> bool:
    """Whether anything is promised of how a fault is noticed."""
    return any(one.rto is not None or one.unaffected for one in (owed, *owed.under.values()))


def promises_failback(owed: ExperimentObjectives) -> bool:
    """Whether a failback is promised, under any fault."""
    return any(one.failback is not None for one in (owed, *owed.under.values()))


def check_rto(
    service: str,
    clocks: Sequence[Clock],
    notices: Mapping[str, Notice],
    owed: ExperimentObjectives,
    look: Look,
    verified: Mapping[str, bool],
    unseen: Sequence[str] = (),
) -> ObjectiveResult:
    """Each clock that started under a fault against the RTO; and each fault: whether it was noticed, and that was expected.

    `verified`: by fault, whether its effect was seen from outside. `unseen`: journeys of which no slot came after it.
    """
    under = [clock for clock in clocks if clock.kind == "rto"]
    said = [judged(clock, limit_of(clock, owed), look) for clock in under]
    said += [
        _as_expected(id_, notice, under_fault(owed, id_), verified[id_], clocks, cut=look.cut)
        for id_, notice in notices.items()
    ]
    said += [inconclusive(f"{journey}: no slot was seen after the fault") for journey in unseen]
    none = "nothing was shown: no fault that is judged was injected, or each struck what was down already"
    return objective(f"{service}.rto", _worst_of(said, none), interval_text(under), _wanted(owed))


def _worst_of(said: Sequence[Said | None], none: str) -> Said:
    """The worst of what was judged at all; where nothing was, nobody can tell, and `none` says why."""
    return worst([one for one in said if one is not None] or [inconclusive(none)])


def _as_expected(
    fault: str, notice: Notice, owed: FaultObjectives, verified: bool, clocks: Sequence[Clock], *, cut: bool
) -> Said | None:
    """One fault, judged by itself: one that was noticed excuses no other. None where nothing is promised, or it was masked."""
    if notice == "masked" or not (owed.rto is not None or owed.unaffected):
        return None
    if not verified:
        return inconclusive(f"whether {fault} was noticed says nothing: its effect was not verified")
    if notice == "noticed":
        return _claim(_noticed(fault, clocks), cut=cut) if owed.unaffected is True else PASS if owed.unaffected else None
    if owed.unaffected == "allowed" or (owed.unaffected and notice == "unnoticed"):
        return PASS
    if notice == "unclear":
        return inconclusive(f"{fault}: bad slots only while the machine did not serve: nobody can tell whether it was noticed")
    return inconclusive(
        f"no bad slot after {fault}: it missed this service, or is meant not to be noticed (then say `unaffected: true`)"
    )


def _claim(wrong: str, *, cut: bool) -> Said:
    return inconclusive(wrong) if cut else fail(wrong)


def _noticed(fault: str, clocks: Sequence[Clock]) -> str:
    own = [clock for clock in clocks if clock.cause.kind == "inject" and fault in clock.cause.faults]
    seen = ", ".join(f"{clock.journey} ({len(clock.bad_ns)} bad slots)" for clock in own)
    return f"declared unaffected, but {fault} was noticed: {seen}"


def _wanted(owed: ExperimentObjectives) -> str:
    refined = [f"{fault}: {_words(under_fault(owed, fault))}" for fault in owed.under]
    return "; ".join(filter(None, [_words(owed), *refined]))


def _words(owed: FaultObjectives) -> str:
    limit = [format_s(owed.rto.value)] if owed.rto and owed.unaffected is not True else []
    return " or ".join([*limit, *(["unaffected"] if owed.unaffected else [])])


def check_failback(
    service: str,
    clocks: Sequence[Clock],
    owed: ExperimentObjectives,
    look: Look,
    seen: Callable[[Event], bool],
    ledger: Ledger | None,
) -> ObjectiveResult:
    """Each clock that started while no fault burnt; without one it was back at once. `seen`: slots came after that heal.

    Sites whose ledgers are not alike when the time after the last heal is over miss the objective, too.
    """
    own = [clock for clock in clocks if clock.kind == "failback"]
    heals = [event for event in look.events if event.kind == "heal" and not look.burns_at(event.at_ns)]
    said = [judged(clock, limit_of(clock, owed), look) for clock in own]
    said += [_at_once(heal, clocks, seen(heal)) for heal in heals if tightest(heal, "failback", owed) is not None]
    limit = tightest(heals[-1], "failback", owed) if heals else None
    if limit is not None and ledger is not None and (ledger.alike_ns or ledger.differed_ns):
        said.append(alike_in_time(ledger, heals[-1].at_ns + round(limit.value * NS_PER_S)))
    none = "no failback was seen: the run ended before, or no fault was healed"
    measured = interval_text(own, none="0.00 s" if heals else "not measured")
    limits = [one.failback for one in (owed, *owed.under.values()) if one.failback is not None]
    wanted = " or ".join(format_s(limit.value) for limit in limits)
    return objective(f"{service}.failback", _worst_of(said, none), measured, wanted)


def _at_once(heal: Event, clocks: Sequence[Clock], seen: bool) -> Said:
    """A heal that leaves no fault burning: whether it was seen whole, and no clock of another cause hid what came after it."""
    if heal.verified_ns is None:
        return inconclusive(f"the heal of {heal.cause} was not verified")
    if not seen:
        return inconclusive(f"no failback was seen: no slot came after the heal of {heal.cause}")
    over = next((one for one in clocks if one.cause.at_ns < heal.at_ns < one.end_ns), None)
    if over is None:
        return PASS
    return inconclusive(f"{over.journey}: down since the {over.cause.kind} of {over.cause.cause}; no failback to be seen")


def worst_interval(found: Sequence[Clock]) -> tuple[float, float | None]:
    """Seconds, lowest and highest, of the worst of several clocks."""
    highs = [one.high_s for one in found]
    known = [high for high in highs if high is not None]
    return max(one.low_s for one in found), max(known) if len(known) == len(highs) else None


def interval_text(found: Sequence[Clock], *, none: str = "unaffected") -> str:
    """The worst of several clocks for people; `none`: what it means that there are none."""
    if not found:
        return none
    low_s, high_s = worst_interval(found)
    return f"≥ {low_s:.2f} s" if high_s is None else f"{low_s:.2f}..{high_s:.2f} s"


# --- availability -----------------------------------------------------------------------------------------------


def check_availability(service: str, shares: Mapping[str, tuple[float, float]], threshold: Threshold) -> ObjectiveResult:
    """`shares`: of good slots since the first fault, by journey, with those of starved seconds as bad, and as good."""
    if not shares:
        return objective(
            f"{service}.availability", inconclusive("no slot was seen after the first fault"), "not measured", str(threshold)
        )
    (low, high), journey = min((share, journey) for journey, share in shares.items())
    said = PASS
    if not all(threshold.holds(most) for _, most in shares.values()):
        said = fail(f"{journey}: only {high:.2%} of the slots were good")
    elif not all(threshold.holds(least) for least, _ in shares.values()):
        said = inconclusive(f"{journey}: {low:.2%} of the slots were good, but {high:.2%} had the machine served")
    return objective(f"{service}.availability", said, f"{low:.2%}" if low == high else f"{low:.2%}..{high:.2%}", str(threshold))


# --- the ledger -------------------------------------------------------------------------------------------------


def check_rpo(service: str, ledger: Ledger, limit: Threshold) -> ObjectiveResult:
    """What was lost, and how long before the fault it had been acknowledged."""
    said = worst([_read_back(ledger), _worth_losing(ledger), _if_known(ledger, _loss(ledger, limit))])
    return objective(f"{service}.rpo", said, loss_text(ledger), "nothing lost" if limit.value == 0 else f"lost {limit}")


def check_ledger(service: str, ledger: Ledger, *, linearizable: bool, rpo_judged: bool) -> ObjectiveResult:
    """What must hold whatever the RPO is: no write undone, made up, doubled or changed, and all sites alike.

    Where no RPO judges the losses (`rpo_judged`), any loss fails here.
    """
    said: list[Said] = [
        _none(ledger.resurrected, "rejected, and there all the same (resurrected)"),
        _none(ledger.unexpected, "never attempted, and there all the same (unexpected)"),
        _none(ledger.duplicated, "stored more often than attempted (duplicated)"),
        _none(ledger.corrupt, "with another content than was sent (corrupt)"),
        _if_known(ledger, _none(ledger.divergent, "not alike in all sites after settling (divergent)")),
        _read_back(ledger),
    ]
    if linearizable:
        said.append(_none(ledger.stale, "missing from a read begun after the acknowledgement (stale)"))
    if not rpo_judged:
        said += [_if_known(ledger, _none(ledger.lost, "lost, and no RPO allows that")), _worth_losing(ledger)]
    return objective(
        f"{service}.ledger",
        worst(said),
        f"{ledger.acked + ledger.rejected + ledger.indeterminate} writes",
        "intact",
    )


def alike_in_time(ledger: Ledger, over_ns: int) -> Said:
    """Whether the sites were alike when the time of the failback objective was over, at `over_ns`."""
    if ledger.differed_ns is not None and ledger.differed_ns > over_ns:
        late_s = seconds(ledger.differed_ns - over_ns)
        return fail(f"the sites' ledgers were not alike when the time was over, nor {late_s:.1f} s later")
    if ledger.alike_ns is None:
        return inconclusive("the sites' ledgers were not seen to be alike before the reads ended")
    if ledger.differed_ns is not None and ledger.alike_ns > over_ns:
        return inconclusive("the sites' ledgers differed before the time was over, and were seen to be alike only after it")
    return PASS


def _none(ids: set[str], what: str) -> Said:
    return fail(f"{len(ids)} {what}, such as {min(ids)}") if ids else PASS


def _if_known(ledger: Ledger, said: Said) -> Said:
    """What was judged by what is missing; no fail where it may still come, or be where nobody could read."""
    if ledger.known or said == PASS:
        return said
    return inconclusive(f"{said[1]}; but that is not final")


def _loss(ledger: Ledger, limit: Threshold) -> Said:
    if ledger.lost_after_fault:
        return fail(f"{loss_text(ledger)}; no RPO excuses that")
    met = not ledger.lost if limit.value == 0 else limit.holds(ledger.rpo_s)
    return PASS if met else fail(loss_text(ledger))


def _read_back(ledger: Ledger) -> Said:
    """Whether the final reads are final and cover every write."""
    if ledger.unread:
        return inconclusive(f"no final read from {', '.join(sorted(ledger.unread))}")
    if not ledger.settled:
        return inconclusive("what the sites hold was still changing when the time for the final reads was over")
    if ledger.unverified:
        return inconclusive(f"{len(ledger.unverified)} acknowledged writes were never read back (unverified)")
    return PASS


def _worth_losing(ledger: Ledger) -> Said:
    """An empty ledger proves nothing."""
    if ledger.acked_before_fault and not ledger.silent_faults:
        return PASS
    of = ", ".join(sorted(ledger.silent_faults)) or "any fault that can destroy data"
    return inconclusive(f"no write was acknowledged in the last {BEFORE_FAULT_S:.0f} s before {of}: that proves nothing")
