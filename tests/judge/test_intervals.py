"""RTO and failback as intervals: judge/README.md, Clocks, clause by clause."""

from __future__ import annotations

from dataclasses import replace

import pytest
from judge_runs import (
    LATENCY_S,
    PERIOD_S,
    FaultScript,
    Run,
    aborted,
    experiment,
    judged,
    note,
    objective,
    outage,
    stack_spec,
    verdicts,
)
from msgspec.structs import replace as changed

from chaoslab.history.result import Interval, Result
from chaoslab.judge.intervals import chance_slots, share_bad
from chaoslab.judge.verdict import judge

RTO = {"rto": "< 10s"}


def rto(result: Result) -> Interval:
    interval = result.services["talk"].rto_s
    assert interval is not None
    return interval


def test_rto_runs_from_the_verified_effect_to_the_last_bad_and_from_the_call_to_the_first_good_answer():
    """low = due(last bad) − f1, high = end(first good) − f0."""
    found = rto(judged(Run(bad=outage(0.0, 5.0))))
    assert found.low == pytest.approx(5.0 - PERIOD_S - 0.05)
    assert found.high == pytest.approx(5.0 + LATENCY_S)
    assert found.objective == 10.0


def test_low_is_never_below_zero():
    """An outage over before the effect was verified has a low of 0."""
    assert rto(judged(Run(bad=outage(0.0, 0.04)))).low == 0.0


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [("< 5.1s", "pass"), ("< 5.004s", "pass"), ("< 4.95s", "inconclusive"), ("< 4.9s", "fail"), ("< 1s", "fail")],
)
def test_met_above_the_interval_missed_below_it_and_inconclusive_inside(limit, verdict):
    """Met when high ≤ objective, missed when low > objective, else inconclusive."""
    result = judged(Run(bad=outage(0.0, 5.0)), experiment({"rto": limit}))
    assert objective(result, "talk.rto").verdict == verdict
    assert result.verdict == verdict


def test_an_inconclusive_interval_says_what_to_do():
    """Inside the interval the advice is a higher probe rate."""
    assert (
        "raise the probe rate" in objective(judged(Run(bad=outage(0.0, 5.0)), experiment({"rto": "< 4.95s"})), "talk.rto").why
    )


def test_an_interval_as_wide_as_the_fault_took_says_so():
    """A limit inside because the effect took 4 s to show is no matter of the probe rate."""
    slow = Run(bad=outage(0.0, 5.0), faults=[FaultScript(effective=4.0)])
    assert "the fault itself took 4.0 s" in objective(judged(slow, experiment({"rto": "< 3s"})), "talk.rto").why


@pytest.mark.parametrize(
    ("limit", "verdict", "why"),
    [
        ("< 10s", "fail", "it recovered only because of the heal"),
        ("< 1h", "inconclusive", "healed, before its objective had passed"),
    ],
)
def test_recovering_only_with_the_heal_is_no_failover(limit, verdict, why):
    """Back 0.1 s after the heal: a fail when the RTO was over by then, and else nobody can tell."""
    result = judged(Run(bad=outage(0.1, 20.1)), experiment({"rto": limit}))
    row = objective(result, "talk.rto")
    assert (row.verdict, result.services["talk"].status) == (verdict, "not_recovered")
    assert rto(result).high is None
    assert row.measured.startswith("≥ ")
    assert why in row.why


def test_a_later_dip_voids_the_recovery():
    """The last bad slot counts, not the first good one; the relapse is counted as a flap."""
    bad = {"talk.send": [(0.1, 2.0), (7.0, 7.1)], "talk.read": []}
    result = judged(Run(bad=bad))
    assert rto(result).low == pytest.approx(7.1 - PERIOD_S - 0.05)
    assert result.services["talk"].flaps == 1
    assert [one.slots for one in result.journeys["talk.send"].outages] == [95, 5]


@pytest.mark.parametrize(("rate", "short_s", "enough_s"), [(50, 24 / 50, 25 / 50), (1000, 0.4, 0.6), (10, 2.4, 2.5)])
def test_a_good_run_that_is_stable_only_after_the_heal_proves_no_recovery(rate, short_s, enough_s):
    """Stable takes 25 slots, and half a second where slots are dense; what makes it stable must come before the heal."""
    spec = experiment({"rto": "< 1h"}, probe={"rate": rate})
    short = objective(judged(Run(bad=outage(0.1, 20.0 - short_s), rate=rate), spec), "talk.rto")
    enough = objective(judged(Run(bad=outage(0.1, 20.0 - enough_s), rate=rate), spec), "talk.rto")
    assert (short.verdict, enough.verdict) == ("inconclusive", "pass")
    assert "stable only after" in short.why


def test_slots_due_before_the_fault_do_not_count():
    """A bad slot just before f0 is neither downtime nor a reason for a verdict on the fault."""
    result = judged(Run(bad=outage(-0.04, 0.0)), experiment({"unaffected": True}))
    assert objective(result, "talk.rto").verdict == "pass"
    assert result.services["talk"].downtime_s == 0.0


def test_a_slot_belongs_to_when_it_was_due_and_recovery_to_when_it_was_answered():
    """Slots that hang through the outage and are answered in time after it put the truth inside the interval."""
    back_s = 5.0

    def hang(slot):
        due_s = slot.due_ns / 1e9 - 100
        waits = 0.1 < due_s < back_s
        end_s = back_s if back_s - due_s <= 0.5 else due_s + 2.003
        return replace_end(slot, end_s, good=end_s == back_s) if waits else slot

    found = rto(judged(Run(edit=hang)))
    assert found.low <= back_s <= found.high
    assert found.high == pytest.approx(back_s)


def test_what_was_open_at_the_heal_and_not_late_tells_nothing_of_the_time_before():
    """A slot in flight when the heal strikes is not a dip of the failover."""

    def open_at_heal(slot):
        due_s = slot.due_ns / 1e9 - 100
        return replace_end(slot, due_s + 2.0, good=False) if 19.8 < due_s < 20.0 else slot

    assert objective(judged(Run(bad=outage(0.1, 3.0), edit=open_at_heal)), "talk.rto").verdict == "pass"


def test_what_was_late_before_the_heal_is_bad_although_it_ends_after_it():
    """A slot that hung past its latency objective before the heal was an outage before the heal."""

    def late_at_heal(slot):
        due_s = slot.due_ns / 1e9 - 100
        return replace_end(slot, due_s + 2.0, good=False) if 19.0 < due_s < 20.0 else slot

    assert objective(judged(Run(bad=outage(0.1, 3.0), edit=late_at_heal)), "talk.rto").verdict == "fail"


def replace_end(slot, end_s, *, good):
    outcome = slot.outcome if good else ("indeterminate" if slot.op == "write" else "bad")
    end_ns = round((100 + end_s) * 1e9)
    return changed(slot, t_ns=end_ns, end_ns=end_ns, good=good, outcome=outcome)


def test_a_service_is_as_its_worst_journey():
    """Reads that go on do not hide writes that do not."""
    result = judged(Run(bad={"talk.send": [(0.1, 30.0)]}))
    assert result.services["talk"].status == "not_recovered"
    assert result.services["talk"].availability == result.journeys["talk.send"].availability
    assert result.journeys["talk.read"].rto_s is None
    assert (
        objective(
            judged(Run(bad={"talk.send": [(0.1, 5.0)]}), experiment({"availability": "> 90%"})), "talk.availability"
        ).verdict
        == "fail"
    )
    assert "talk.send" in objective(result, "talk.rto").why


# --- brown-outs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "slots"), [(1.0, 0), (0.99, 1), (0.5, 7), (0.1, 44), (0.01, 459)])
def test_a_share_of_bad_slots_widens_the_upper_bound(share, slots):
    """⌈ln 0.01 / ln(1 − p)⌉ periods, as defined in Clocks."""
    assert chance_slots(share) == slots


def test_a_brown_out_is_wider_than_a_black_out():
    """With every other slot bad, the high bound is seven periods later."""
    half = Run(bad={"talk.send": [(n * 2 * PERIOD_S - 0.001, n * 2 * PERIOD_S + 0.001) for n in range(5, 101)]})
    found = rto(judged(half))
    share = 96 / 191
    assert found.high == pytest.approx(4.02 + LATENCY_S + chance_slots(share) * PERIOD_S)


def test_a_flap_is_no_brown_out():
    """Away, back for longer than chance could make it look so, and away again: as narrow as the last outage alone."""
    found = rto(judged(Run(bad={"talk.send": [(0.1, 1.0), (2.0, 2.6), (3.4, 4.0)]})))
    assert (found.low, found.high) == (pytest.approx(4.0 - PERIOD_S - 0.05), pytest.approx(4.0 + LATENCY_S))


def test_a_thin_brown_out_is_no_row_of_flaps():
    """Two of forty slots bad: its good runs are stable, and no longer than chance makes them."""
    thin = [(n * 40 * PERIOD_S - 0.001, (n * 40 + 1) * PERIOD_S + 0.001) for n in range(1, 11)]
    found = rto(judged(Run(bad={"talk.send": thin})))
    assert found.high == pytest.approx(8.04 + LATENCY_S + chance_slots(19 / 361) * PERIOD_S)


def test_one_bad_slot_alone_is_a_flap_and_starts_no_clock():
    """With a stable run before and after it: counted, in availability, and nothing else; next to another it is an outage."""
    alone = judged(Run(bad={"talk.send": [(5.0, 5.01)]}), experiment({"unaffected": True, "availability": "> 99.99%"}))
    assert (verdicts(alone)["talk.rto"], verdicts(alone)["talk.availability"]) == ("pass", "fail")
    assert (alone.services["talk"].flaps, alone.clocks) == (1, [])
    two = judged(Run(bad={"talk.send": [(5.0, 5.03)]}), experiment({"unaffected": True}))
    assert verdicts(two)["talk.rto"] == "fail"


BLACK = range(500)


@pytest.mark.parametrize(
    ("bad", "thinnest"),
    [
        ([*BLACK], 1.0),
        ([*BLACK, *range(500, 650, 7)], 11 / 74),  # thins out: as thin as its end, not as the whole of it
        ([*BLACK, *range(600, 700)], 1.0),  # back for 100 slots, then away again: a flap
        ([*BLACK, 540], 10 / 50),  # one bad slot after 40 good ones: a flap, or a brown-out as thin as that
        ([*range(0, 4000, 40)], 100 / 3961),  # stable runs, and no longer than chance makes them: no flaps
        ([3], 1.0),
    ],
)
def test_how_thin_an_outage_ends(bad, thinnest):
    """Known bad: the mean of a black-out and the brown-out after it says that it cannot be chance where it is."""
    assert share_bad(bad, 25) == pytest.approx(thinnest, rel=0.01)


def test_a_good_run_that_may_be_chance_is_inconclusive():
    """Four bad slots in ten seconds, and then ten good seconds: the next might be on its way."""
    rare = Run(bad={"talk.send": [(0.1, 0.13), (10.0, 10.03)]})
    assert rto(judged(rare, experiment({"rto": "< 1h"}))).high is None
    row = objective(judged(rare, experiment({"rto": "< 1h"})), "talk.rto")
    assert (row.verdict, "chance" in row.why) == ("inconclusive", True)
    assert objective(judged(rare, experiment({"rto": "< 9s"})), "talk.rto").verdict == "fail"


# --- unaffected -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objectives", "verdict"),
    [
        ({"rto": "< 10s", "unaffected": True}, "pass"),
        ({"unaffected": True}, "pass"),
        ({"rto": "< 10s", "unaffected": "allowed"}, "pass"),
        ({"rto": "< 10s"}, "inconclusive"),
    ],
)
def test_not_to_have_noticed_is_met_only_where_it_was_declared(objectives, verdict):
    """No bad slot at all: a pass when declared, a question otherwise."""
    result = judged(Run(), experiment(objectives))
    assert objective(result, "talk.rto").verdict == verdict
    assert result.services["talk"].status == "unaffected"
    assert result.services["talk"].rto_s is None


def test_not_to_have_noticed_a_fault_that_never_bit_proves_nothing():
    """Declared unaffected, but the effect was not verified: inconclusive."""
    run = Run(faults=[FaultScript(effective=None)])
    assert objective(judged(run, experiment({"unaffected": True})), "talk.rto").verdict == "inconclusive"


@pytest.mark.parametrize(
    ("objectives", "verdict"), [({"unaffected": True}, "fail"), ({"unaffected": True, "rto": "< 10s"}, "fail"),
                                ({"unaffected": "allowed", "rto": "< 10s"}, "pass"), ({"unaffected": "allowed"}, "pass"),
                                ({"unaffected": "allowed", "rto": "< 1s"}, "fail")],
)  # fmt: skip
def test_unaffected_is_a_claim_that_fails_when_the_fault_is_noticed_and_allowed_is_none(objectives, verdict):
    """Three bad seconds: `true` is wrong whatever the RTO; `allowed` leaves the RTO to judge, where there is one."""
    assert objective(judged(Run(bad=outage(0.1, 3.0)), experiment(objectives)), "talk.rto").verdict == verdict


# --- several faults ---------------------------------------------------------------------------------------------

TWO = [
    {"id": "half", "at": "0s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "20s"},
    {"id": "rest", "at": "5s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "15s"},
]
STAGED = (FaultScript("half", 0.0, 0.05, 20.0, 20.5), FaultScript("rest", 5.0, 5.05, 20.1, 20.5))


def test_each_fault_has_its_own_clock_when_the_service_had_settled():
    """Down 1 s after the first, and 3 s after the second: an RTO of 3 s, not of 8 s."""
    result = judged(
        Run(faults=STAGED, bad=outage(0.1, 1.0) | {"talk.send": [(0.1, 1.0), (5.1, 8.0)]}), experiment(RTO, timeline=TWO)
    )
    assert rto(result).high == pytest.approx(3.0 + LATENCY_S)
    assert result.services["talk"].flaps == 0


def test_a_second_fault_does_not_restart_the_clock_of_a_service_that_was_still_down():
    """Down from the first fault on until 3 s after the second, 5 s later: an RTO of 8 s."""
    result = judged(Run(faults=STAGED, bad=outage(0.1, 8.0)), experiment({"rto": "< 7s"}, timeline=TWO))
    assert rto(result).high == pytest.approx(8.0 + LATENCY_S)
    assert objective(result, "talk.rto").verdict == "fail"


def test_slots_in_flight_at_the_second_fault_are_not_blamed_on_the_first():
    """They were due before it and failed because of it."""

    def in_flight(slot):
        due_s = slot.due_ns / 1e9 - 100
        return replace_end(slot, due_s + 2.0, good=False) if 4.9 < due_s < 5.0 else slot

    result = judged(Run(faults=STAGED, bad=outage(0.1, 1.0), edit=in_flight), experiment(RTO, timeline=TWO))
    assert rto(result).high == pytest.approx(1.0 + LATENCY_S)


def test_an_unverified_fault_supports_no_verdict_on_rto():
    """Whatever affected the service, it was not known to be this fault."""
    run = Run(faults=[FaultScript(effective=None)], bad=outage(0.1, 30.0))
    result = judged(run, experiment(RTO))
    assert verdicts(result)["talk.rto"] == "inconclusive"
    assert verdicts(result)["fault.fire"] == "inconclusive"
    assert result.verdict == "inconclusive"


def test_a_fault_that_was_healed_behind_our_back_supports_no_verdict_on_rto():
    """The relay restarted: what looks like a recovery may be the end of the fault."""
    run = Run(faults=[FaultScript(detail={"restarted": True})], bad=outage(0.1, 5.0))
    assert verdicts(judged(run, experiment(RTO)))["talk.rto"] == "inconclusive"


@pytest.mark.parametrize("end", [aborted(3.0), *(note(level, 3.0) for level in ("interrupted", "error", "blind"))])
def test_a_run_cut_short_does_not_fail_what_had_time_left(end):
    """Ended after 3 s, still down, with an RTO of 10 s: it is inconclusive. With one of 2 s it is a fail."""
    run = Run(bad=outage(0.1, 30.0), more=[end])
    assert objective(judged(run, experiment(RTO)), "talk.rto").verdict == "inconclusive"
    assert objective(judged(run, experiment({"rto": "< 2s"})), "talk.rto").verdict == "fail"


# --- failback ---------------------------------------------------------------------------------------------------


def failback(result: Result) -> Interval:
    interval = result.services["talk"].failback_s
    assert interval is not None
    return interval


def test_failback_is_counted_from_the_heal():
    """low from healed, high from the call of the heal."""
    found = failback(judged(Run(bad=outage(20.2, 22.0))))
    assert found.low == pytest.approx(22.0 - PERIOD_S - 20.5)
    assert found.high == pytest.approx(2.0 + LATENCY_S)


def test_no_bad_slot_after_a_heal_is_a_failback_of_0_s():
    """Nobody noticed the heal."""
    found = failback(judged(Run(bad=outage(0.1, 5.0))))
    assert (found.low, found.high) == (0.0, 0.0)
    assert objective(judged(Run(bad=outage(0.1, 5.0))), "talk.failback").verdict == "pass"


@pytest.mark.parametrize(
    ("bad", "verdict"), [((20.2, 22.0), "pass"), ((20.2, 26.0), "fail"), ((20.2, 30.0), "fail"), ((26.8, 26.9), "fail")]
)
def test_failback_is_judged_by_its_own_objective_and_must_hold_to_the_end(bad, verdict):
    """Under 4 s; a dip at the very end voids it."""
    result = judged(Run(bad={"talk.send": [(0.1, 5.0), bad]}))
    assert objective(result, "talk.failback").verdict == verdict
    assert objective(result, "talk.rto").verdict == "pass"


def test_an_unverified_heal_supports_no_verdict_on_failback():
    """It could be our own fence that is still up."""
    run = Run(faults=[FaultScript(healed=None)], bad=outage(0.1, 30.0))
    assert objective(judged(run), "talk.failback").verdict == "inconclusive"


def test_failback_begins_with_the_heal_that_leaves_no_fault_open():
    """Two heals in a row: it counts from the second, or, where both are scripted for one instant, from the first call."""
    run = Run(faults=STAGED, bad=outage(0.1, 1.0) | {"talk.send": [(0.1, 1.0), (20.2, 21.1)]})
    assert failback(judged(run, experiment(timeline=TWO))).high == pytest.approx(21.1 + LATENCY_S - 20.0)
    apart = [TWO[0], TWO[1] | {"heal_after": "15.1s"}]
    assert failback(judged(run, experiment(timeline=apart))).high == pytest.approx(21.1 + LATENCY_S - 20.1)


def test_the_next_fault_ends_a_failback_undecided():
    """Healed, injected again 1 s later while still down: it is unknown how long the failback would have taken."""
    flapping = [FaultScript("fire", 0.0, 0.05, 5.0, 5.1), FaultScript("again", 6.0, 6.05, 20.0, 20.1)]
    timeline = [TWO[0] | {"id": "fire", "heal_after": "5s"}, TWO[1] | {"id": "again", "at": "6s", "heal_after": "14s"}]
    result = judged(Run(faults=flapping, bad={"talk.send": [(0.1, 1.0), (5.1, 7.0)]}), experiment(timeline=timeline))
    assert objective(result, "talk.failback").verdict == "inconclusive"
    assert "next event" in objective(result, "talk.failback").why


def test_no_failback_seen_is_inconclusive():
    """A run that ended before its failback phase says nothing about failback."""
    rows = [row for row in Run(bad=outage(0.1, 5.0)).rows() if getattr(row, "phase", "") != "failback"]
    assert objective(judge(experiment(), stack_spec(), rows), "talk.failback").verdict == "inconclusive"


# --- availability, downtime, outages ----------------------------------------------------------------------------


@pytest.mark.parametrize(("threshold", "verdict"), [("> 80%", "pass"), ("> 85%", "fail")])
def test_availability_is_the_share_of_good_slots_since_the_fault(threshold, verdict):
    """4.9 of 27 seconds bad: 81.9 %."""
    result = judged(Run(bad=outage(0.1, 5.0)), experiment({"availability": threshold}))
    assert result.services["talk"].availability == pytest.approx(1 - 4.9 / 27, abs=0.001)
    assert objective(result, "talk.availability").verdict == verdict


def test_downtime_longest_and_flaps():
    """Two outages of 2 s and 1 s with a stable run between."""
    service = judged(Run(bad={"talk.send": [(1.0, 3.0), (5.0, 6.0)]})).services["talk"]
    assert service.downtime_s == pytest.approx(3.0)
    assert service.longest_s == pytest.approx(2.0, abs=PERIOD_S)
    assert service.flaps == 1


def test_a_relapse_counts_whoever_was_in_flight_at_the_fault():
    """The first bad slot was due just before the fault; the relapse is still one."""
    relapsed = Run(bad={"talk.send": [(-0.01, 2.0), (4.0, 5.0)]}, edit=due_earlier)
    assert judged(relapsed).services["talk"].flaps == 1
    calm_before = Run(faults=STAGED, bad={"talk.send": [(0.1, 1.0), (4.99, 6.0)]}, edit=due_earlier)
    assert judged(calm_before, experiment(RTO, timeline=TWO)).services["talk"].flaps == 0


def due_earlier(slot):
    """The whole grid 5 ms earlier, and each answer 10 ms later: some slot is in flight at every instant."""
    return changed(slot, due_ns=slot.due_ns - 5_000_000, sent_ns=slot.sent_ns - 5_000_000, end_ns=slot.end_ns + 10_000_000)


def test_an_outage_that_never_ended_says_so():
    """Bad to the last slot: not ended, and its length only a lower bound."""
    (one,) = judged(Run(bad={"talk.send": [(0.1, 99.0)]})).journeys["talk.send"].outages
    assert not one.ended
    assert one.high_s >= 26.8


def test_an_outage_that_was_over_before_the_fault_is_not_listed():
    """What went wrong in the steady state is the steady state's affair."""
    assert judged(Run(bad={"talk.send": [(-2.0, -1.0)]})).journeys["talk.send"].outages == []


def test_skew_and_times_of_a_fault_are_shown():
    """FaultResult counts from the first row and keeps the kill's skew."""
    (fault,) = judged(Run(faults=[FaultScript(detail={"skew_ms": 6.1})])).faults
    assert (fault.inject_s, fault.effective_s, fault.heal_s, fault.healed_s) == (10.0, 10.05, 30.0, 30.5)
    assert (fault.skew_ms, fault.verified) == (6.1, True)


def test_scripts_are_what_they_seem():
    """The builder itself: replacing a field of a run changes the rows."""
    assert len(replace(Run(), end_s=10.0).slots()) == 2 * 14 * 50
