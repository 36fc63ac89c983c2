"""What each objective of a service comes to, and why: RTO, failback, availability, RPO, ledger. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaoslab.buckets import Ledger, loss_text
from chaoslab.losses import BEFORE_FAULT_S
from chaoslab.measure import Recovery, seconds
from chaoslab.result import ObjectiveResult
from chaoslab.said import PASS, Said, fail, inconclusive, objective, worst
from chaoslab.spec.model import Objectives
from chaoslab.units import Threshold, format_s

ByJourney = Mapping[str, Sequence[Recovery]]


# --- RTO and failback -------------------------------------------------------------------------------------------


def check_rto(service: str, found: ByJourney, objectives: Objectives) -> ObjectiveResult:
    """RTO; or, where that is what was declared, that the service did not notice."""
    every = _all(found)
    limit = objectives.rto
    if not every:
        said = inconclusive("no fault was injected, or no journey of this service was probed")
    elif all(one.status == "unaffected" for one in every):
        said = _unaffected(every, declared=objectives.unaffected)
    elif limit is None:
        said = worst([_undisturbed(name, one) for name, own in found.items() for one in own])
    else:
        said = worst([_in_time(name, one, limit, "fault") for name, own in found.items() for one in own])
    wanted = " or ".join([*([format_s(limit.value)] if limit else []), *(["unaffected"] if objectives.unaffected else [])])
    return objective(f"{service}.rto", said, interval_text(every), wanted)


def check_failback(service: str, found: ByJourney, limit: Threshold) -> ObjectiveResult:
    """Failback, counted from the heal. Not to have noticed the heal is to have been back at once."""
    every = _all(found)
    said = worst([_in_time(name, one, limit, "heal") for name, own in found.items() for one in own])
    if not every:
        said = inconclusive("no failback was seen: the run ended before, or no fault was healed")
    return objective(f"{service}.failback", said, interval_text(every, notices=False), format_s(limit.value))


def worst_interval(found: Sequence[Recovery]) -> tuple[float, float | None]:
    """Seconds, lowest and highest, of the worst of several recoveries."""
    highs = [one.high_s for one in found]
    known = [high for high in highs if high is not None]
    return max(one.low_s for one in found), max(known) if len(known) == len(highs) else None


def interval_text(found: Sequence[Recovery], *, notices: bool = True) -> str:
    """The worst of several recoveries for people. `notices`: no bad slot at all reads as unaffected."""
    if not found or all(one.status == "unseen" for one in found):
        return "not measured"
    if notices and all(one.status == "unaffected" for one in found):
        return "unaffected"
    low_s, high_s = worst_interval(found)
    return f"≥ {low_s:.2f} s" if high_s is None else f"{low_s:.2f}..{high_s:.2f} s"


def _all(found: ByJourney) -> list[Recovery]:
    return [one for own in found.values() for one in own]


def _unaffected(every: Sequence[Recovery], *, declared: bool) -> Said:
    if not all(one.window.verified for one in every):
        return inconclusive("nothing was noticed, but the fault was not verified effective either")
    if declared:
        return PASS
    return inconclusive(
        "no bad slot: the fault missed this service, or it is meant not to notice (then say `unaffected: true`)"
    )


def _undisturbed(journey: str, one: Recovery) -> Said:
    if one.status == "unseen" or not one.window.verified:
        return inconclusive(f"{journey}: the fault {one.window.of} was not verified, or no slot was seen after it")
    return PASS if one.status == "unaffected" else fail(f"{journey}: declared unaffected, but {one.bad} slots were bad")


def _in_time(journey: str, one: Recovery, limit: Threshold, what: str) -> Said:
    """One journey in one window: met when all of the interval is within the limit, missed when none of it is."""
    if one.status == "unseen" or not one.window.verified:
        return inconclusive(f"{journey}: the {what} of {one.window.of} was not verified, or no slot was seen after it")
    if one.low_s > limit.value:
        return fail(f"{journey}: still bad {one.low_s:.1f} s after the {what}")
    if one.status == "not_recovered":
        return _not_recovered(journey, one, what)
    if one.high_s is None:
        return inconclusive(f"{journey}: only a share of the slots was bad; the good run after them may be luck, look longer")
    if one.high_s > limit.value:
        return inconclusive(f"{journey}: the limit lies inside {interval_text([one])}; {_narrower(one, what)}")
    return PASS


def _narrower(one: Recovery, what: str) -> str:
    """What makes the interval wide: mostly the slots, or the fault's (or heal's) own time from call to verified effect."""
    own_s = seconds(one.window.verified_ns - one.window.begin_ns)
    slots_s = (one.high_s or 0.0) - one.low_s - own_s
    return f"the {what} itself took {own_s:.1f} s of it" if own_s > max(1.0, slots_s) else "raise the probe rate"


def _not_recovered(journey: str, one: Recovery, what: str) -> Said:
    ended_by, looked_s = one.window.ended_by, seconds(one.window.end_ns - one.window.begin_ns)
    if ended_by == "cut":
        return inconclusive(f"{journey}: the run was ended {looked_s:.1f} s after the {what}, before it was back")
    if ended_by == "inject":
        return inconclusive(f"{journey}: the next fault came {looked_s:.1f} s after the {what}, before it was back")
    if one.blind:
        return inconclusive(f"{journey}: not back {one.low_s:.1f} s after the {what}, when the prober fell silent")
    until = "before the heal" if what == "fault" else "to stay by the end of failback"
    return fail(f"{journey}: not back {until}, {looked_s:.1f} s after the {what}")


# --- availability -----------------------------------------------------------------------------------------------


def check_availability(service: str, shares: Mapping[str, float], threshold: Threshold) -> ObjectiveResult:
    """`shares`: of good slots, by journey, from the first fault to the end."""
    if not shares:
        said, measured = inconclusive("no slot was seen after the first fault"), "not measured"
    else:
        share, journey = min((share, journey) for journey, share in shares.items())
        said = PASS if threshold.holds(share) else fail(f"{journey}: only {share:.2%} of the slots were good")
        measured = f"{share:.2%}"
    return objective(f"{service}.availability", said, measured, str(threshold))


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
        f"{len(ledger.acked) + len(ledger.rejected) + len(ledger.indeterminate)} writes",
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
