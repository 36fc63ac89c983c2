"""What makes a run worth nothing: no steady state, a prober that was late or silent, no load, a fault without an effect."""

from __future__ import annotations

import pytest
from judge_runs import RATE, FaultScript, Run, experiment, judged, ns, objective, outage, stack_spec
from msgspec.structs import replace

from chaoslab.history.rows import Condition, Fault, LedgerRead, Load, Machine, PhaseRow
from chaoslab.judge.verdict import judge

RUN = Run(bad=outage(0.1, 3.0))
LOAD = {"locustfile": "/nowhere/everyday.py"}


def verdict_of(id_: str, run: Run, **changes: object) -> str:
    return objective(judged(run, experiment(**changes)), id_).verdict


def test_the_run_that_the_others_vary_passes():
    """The known-good case."""
    result = judged(RUN)
    assert (result.verdict, result.reasons) == ("pass", [])


# --- steady state -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "verdict"), [((-2.0, -1.9), "inconclusive"), ((-2.0, -1.99), "pass"), ((-3.9, -3.1), "pass")],
    ids=["too many bad", "one bad", "before the hold"],
)  # fmt: skip
def test_the_baseline_must_hold_for_the_last_seconds_before_the_fault(span, verdict):
    """More than 99 % good over the last 3 s."""
    run = RUN.but(bad={"talk.read": [span, (0.1, 3.0)], "talk.send": [(0.1, 3.0)]})
    assert verdict_of("steady-state", run) == verdict
    assert judged(run).verdict == verdict


def test_a_slow_baseline_is_none():
    """p95 above its threshold, although every slot is good."""
    row = objective(judged(RUN.but(latency_s=0.3)), "steady-state")
    assert (row.verdict, "p95" in row.why) == ("inconclusive", True)


def test_bad_slots_are_slow_ones_however_fast_they_failed():
    """Ten per cent refused at once, and no threshold but p95: it does not hold."""
    steady = {"hold": "3s", "journeys": {"p95": "< 250ms"}, "conditions": []}
    run = RUN.but(bad={"talk.read": [(-2.0, -1.6), (0.1, 3.0)], "talk.send": [(0.1, 3.0)]})
    assert verdict_of("steady-state", run, steady_state=steady) == "inconclusive"


def test_slots_in_flight_when_the_fault_strikes_are_not_the_baselines():
    """Due before the fault, still open and not late then: its victims."""
    victims = RUN.but(edit=lambda slot: replace(slot, end_ns=ns(2.0), good=False) if ns(-0.4) < slot.due_ns < ns(0) else slot)
    assert verdict_of("steady-state", victims) == "pass"


@pytest.mark.parametrize("role", ["steady", "fault"])
def test_a_condition_counts_as_last_seen_before_the_fault(role):
    """Held at first, not right before the fault, or the other way round: what was seen last counts."""
    assert verdict_of("steady-state", RUN.but(holds={role: False})) == ("inconclusive" if role == "fault" else "pass")


def test_a_condition_that_was_never_looked_at_does_not_hold():
    """Nor do looks after the fault, or for another reason, make up for it."""
    late = [Condition(t_ns=ns(1.0), id="leader-in-pangyo", holds=True, observed="", role="steady")]
    why = [Condition(t_ns=ns(-1.0), id="leader-in-pangyo", holds=True, observed="", role="bring-about")]
    row = objective(judged(RUN.but(conditions=False, more=late + why)), "steady-state")
    assert (row.verdict, "never checked" in row.why) == ("inconclusive", True)


def test_nothing_injected_is_inconclusive_with_the_reason():
    """The engine saw no steady state and injected nothing."""
    result = judged(RUN.but(faults=[], bad=outage(-4, 99)))
    assert result.verdict == "inconclusive"
    assert "no fault was injected" in result.reasons
    assert objective(result, "fault.fire").verdict == "inconclusive"
    assert objective(result, "steady-state").verdict == "inconclusive"
    assert objective(result, "talk.rto").verdict == "inconclusive"


@pytest.mark.parametrize("id_", ["fire", "pause", "ledger"])
def test_a_run_without_an_objective_shows_nothing_whatever_its_faults_are_called(id_):
    """Known bad: the fault `pause` passed for the objective of a service, and so did the run."""
    stack = stack_spec()
    journeys = {name: journey.model_copy(update={"ledger": None}) for name, journey in stack.journeys.items()}
    timeline = [{"id": id_, "at": "0s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "20s"}]
    spec = experiment({}, timeline=timeline)
    result = judged(Run(faults=[FaultScript(id_)]), spec, stack.model_copy(update={"journeys": journeys}))
    assert objective(result, f"fault.{id_}").verdict == "pass"
    assert (result.verdict, result.reasons) == (
        "inconclusive",
        ["objectives: no service has an objective, so nothing was judged"],
    )


# --- the prober -------------------------------------------------------------------------------------------------


def late(share_of_slots: int) -> Run:
    def send_late(slot):
        number = round((slot.due_ns - ns(0)) / 20_000_000)
        return replace(slot, sent_ns=slot.due_ns + 21_000_000) if number % share_of_slots == 0 else slot

    return RUN.but(edit=send_late)


@pytest.mark.parametrize(("one_in", "verdict"), [(50, "inconclusive"), (150, "pass")])
def test_more_than_one_per_cent_sent_late_is_the_harness_own_stall(one_in, verdict):
    """Two per cent are too many, two thirds of one are not."""
    result = judged(late(one_in))
    assert objective(result, "instrument").verdict == verdict
    assert result.services["talk"].skewed > 0


@pytest.mark.parametrize(("one_in", "verdict"), [(50, "inconclusive"), (150, "fail")])
def test_a_stalled_harness_fails_nobody(one_in, verdict):
    """Bad slots may be its own doing: times cannot be held against a service, whatever they are."""
    objectives = {"rto": "< 1s", "failback": "< 1s", "availability": "> 99.9%"}
    bad = {"talk.send": [(0.1, 3.0), (20.2, 23.0)], "talk.read": []}
    result = judged(late(one_in).but(bad=bad), experiment(objectives))
    assert {objective(result, f"talk.{name}").verdict for name in objectives} == {verdict}
    assert result.verdict == verdict


def test_a_stalled_harness_excuses_no_loss():
    """What is gone from the ledger is gone, whoever was late."""
    rows = [replace(row, items=row.items[:100]) if isinstance(row, LedgerRead) else row for row in late(50).rows()]
    assert judge(experiment(), stack_spec(), rows).verdict == "fail"


def test_a_period_late_is_not_yet_skewed():
    """Skewed begins beyond one period."""
    exactly = RUN.but(edit=lambda slot: replace(slot, sent_ns=slot.due_ns + 20_000_000))
    assert judged(exactly).services["talk"].skewed == 0


def gap(begin: float, end: float) -> Run:
    return RUN.but(edit=lambda slot: None if slot.journey == "talk.read" and ns(begin) < slot.due_ns < ns(end) else slot)


@pytest.mark.parametrize(("until", "verdict"), [(10.1, "pass"), (10.3, "inconclusive"), (18.0, "inconclusive")])
def test_a_gap_of_more_than_ten_periods_is_inconclusive(until, verdict):
    """0.3 s without a slot."""
    assert verdict_of("instrument", gap(10.0, until)) == verdict


@pytest.mark.parametrize("span", [(-5.0, -0.01), (0.0, 20.0), (20.0, 27.0), (24.0, 27.0), (-5.0, 28.0)])
def test_a_phase_without_slots_is_inconclusive(span):
    """Steady state, faults, failback, the end of failback, or all of it."""
    row = objective(judged(gap(*span)), "instrument")
    assert (row.verdict, "did not observe" in row.why) == ("inconclusive", True)


def test_a_journey_that_was_never_probed_is_missed():
    """In the stack, and not in the history."""
    unseen = RUN.but(edit=lambda slot: None if slot.journey == "talk.read" else slot)
    result = judged(unseen)
    assert objective(result, "instrument").verdict == "inconclusive"
    assert objective(result, "talk.rto").verdict == "inconclusive"


def test_a_journey_that_was_not_to_be_probed_is_not_missed():
    """The experiment asks for one journey alone."""
    only = RUN.but(edit=lambda slot: None if slot.journey == "talk.read" else slot)
    assert judged(only, experiment(probe={"rate": RATE, "journeys": ["talk.send"]})).verdict == "pass"


# --- load -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("requests", "verdict"), [(0, "inconclusive"), (5, "pass")])
def test_a_load_that_sent_nothing_is_none(requests, verdict):
    """An experiment with a load needs requests in its steady state."""
    result = judged(RUN.but(requests=requests), experiment(load=LOAD))
    assert objective(result, "load").verdict == verdict
    assert result.verdict == verdict


@pytest.mark.parametrize(("users", "verdict"), [(119, "inconclusive"), (120, "pass")])
def test_a_surge_that_did_not_come_is_none(users, verdict):
    """Known bad: 120 users are wanted while pangyo burns, and there never are so many before the heal."""
    wanted = experiment(load={**LOAD, "under": {"fire": {"users": 120}}})
    rows = [
        replace(row, users=users if 0 < row.t_ns - ns(0) < 15e9 else 120 if row.t_ns > ns(20) else 40)
        if isinstance(row, Load)
        else row
        for row in RUN.rows()
    ]
    judged_load = objective(judge(wanted, stack_spec(), rows), "load")
    assert judged_load.verdict == verdict
    assert users == 120 or judged_load.why == "under fire there were at most 119 of 120 users"


def test_load_only_after_the_fault_is_none():
    """What came too late proved nothing beforehand."""
    rows = [row for row in RUN.rows() if not (type(row).__name__ == "Load" and row.t_ns < ns(0))]
    assert objective(judge(experiment(load=LOAD), stack_spec(), rows), "load").verdict == "inconclusive"


def test_without_a_load_there_is_nothing_to_miss():
    """No load asked for, no row about it."""
    assert "load" not in [one.id for one in judged(RUN).objectives]


# --- faults and conditions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (FaultScript(effective=None, detail={"why": "the port still answered"}), "the port still answered"),
        (FaultScript(healed=None), "heal was not verified"),
        (FaultScript(heal=None, healed=None), "heal was not verified"),
        (FaultScript(detail={"restarted": True}), "a relay ended or restarted"),
    ],
    ids=["ineffective", "unhealed", "never healed", "relay restarted"],
)
def test_a_fault_that_did_not_go_as_scripted_is_inconclusive(fault, why):
    """No effect seen, no heal seen, or healed behind our back."""
    result = judged(RUN.but(faults=[fault]))
    assert objective(result, "fault.fire").verdict == "inconclusive"
    assert why in objective(result, "fault.fire").why
    assert result.verdict != "pass"


@pytest.mark.parametrize(
    ("events", "verdict"),
    [
        (["effective", "ineffective"], "inconclusive"), (["ineffective", "effective"], "pass"),
        (["healed", "unhealed"], "inconclusive"), (["unhealed", "healed"], "pass"),
    ],
)  # fmt: skip
def test_what_was_seen_last_of_a_fault_counts(events, verdict):
    """An effect that was lost again is none; a heal that came through at the second try is one."""
    first, last = events
    at = {"effective": 1.0, "ineffective": 1.0, "healed": 21.0, "unhealed": 21.0}
    fault = {"id": "fire", "name": "site.power-loss", "target": "pangyo"}
    rows = [row for row in RUN.rows() if not (isinstance(row, Fault) and row.event in events)]
    rows += [Fault(t_ns=ns(at[event] + n), event=event, **fault) for n, event in enumerate((first, last))]
    assert objective(judge(experiment(), stack_spec(), rows), "fault.fire").verdict == verdict


def test_a_fault_that_could_not_be_prepared_says_why():
    """Never injected: the reason that was noted is the reason that is shown."""
    why = {"why": "no witness"}
    refused = Fault(t_ns=ns(-0.5), id="fire", name="site.power-loss", target="pangyo", event="ineffective", detail=why)
    result = judged(RUN.but(faults=[], more=[refused]))
    assert "no witness" in objective(result, "fault.fire").why


def test_an_effect_is_seen_at_its_own_instant():
    """The instant of an effect comes from evidence, and may lie before the row that called the fault."""
    result = judged(RUN.but(faults=[FaultScript(effective=-0.01)]))
    assert result.faults[0].verified
    assert result.services["talk"].rto_s is not None
    assert result.services["talk"].rto_s.low == pytest.approx(2.98)


@pytest.mark.parametrize(("holds", "verdict"), [(True, "pass"), (False, "fail")])
def test_a_condition_must_hold_again_after_the_heal(holds, verdict):
    """As last seen in failback."""
    result = judged(RUN.but(holds={"failback": holds}))
    assert objective(result, "failback.leader-in-pangyo").verdict == verdict
    assert result.verdict == verdict


def test_a_condition_that_was_not_looked_at_after_the_heal_is_inconclusive():
    """Unknown, for instance because the run ended before."""
    rows = [row for row in RUN.rows() if not (isinstance(row, Condition) and row.role == "failback")]
    assert objective(judge(experiment(), stack_spec(), rows), "failback.leader-in-pangyo").verdict == "inconclusive"


def test_a_condition_under_an_unverified_heal_is_inconclusive():
    """Our own fence may still be up."""
    run = RUN.but(holds={"failback": False}, faults=[FaultScript(healed=None)])
    assert verdict_of("failback.leader-in-pangyo", run) == "inconclusive"


def starved_seconds(begin: int, end: int) -> list[Machine]:
    """Rows of the machine for the whole run; between these seconds others had it, and the control waited."""
    calm = {"busy": {"pangyo": 0.2, "anyang": 0.2, "others": 0.1}}
    late = {"busy": {"others": 2.0}, "starved": True, "late": ["read"], "control_ms": {"read": 900.0}}
    return [Machine(t_ns=ns(at + 1), begin_ns=ns(at), **(late if begin <= at < end else calm)) for at in range(-4, 27)]


@pytest.mark.parametrize(("starved", "verdict"), [((22, 25), "inconclusive"), ((5, 8), "fail")])
def test_a_condition_that_a_starved_machine_kept_from_holding_is_inconclusive(starved, verdict):
    """Known bad: a busy machine took most of the time that the stack has for its failback. Before the heal it is no excuse."""
    run = RUN.but(holds={"failback": False}, more=starved_seconds(*starved))
    row = objective(judged(run), "failback.leader-in-pangyo")
    assert (row.verdict, "the machine was starved for" in row.why) == (verdict, verdict == "inconclusive")


@pytest.mark.parametrize(("starved", "verdict"), [((21, 24), "inconclusive"), ((5, 8), "fail"), ((23, 25), "fail")])
def test_a_replica_that_a_starved_machine_kept_from_getting_healthy_is_inconclusive(starved, verdict):
    """Known bad: it booted on a machine that others had. Before the heal, and after its deadline, that is no excuse."""
    script = FaultScript(healed=None, detail={"unhealthy": True, "why": "not healthy after 60.0 s: pg-pangyo"})
    row = objective(judged(Run(faults=[script], more=starved_seconds(*starved))), "failback.fire")
    assert row.verdict == verdict


def test_phases_are_read_from_first_begin_to_last_end():
    """A phase that was entered twice is as long as both."""
    again = [PhaseRow(t_ns=ns(-12), phase="boot", event="begin"), PhaseRow(t_ns=ns(-11), phase="boot", event="end")]
    assert judged(RUN.but(more=again)).boot_s == pytest.approx(8.0)


def test_a_prober_that_fell_silent_before_the_service_was_back_proves_no_failure():
    """Known bad: ^Z of the prober in an outage. It was not back when last seen, and what came then nobody saw."""
    result = judged(Run(bad=outage(0.1, 25.0), edit=lambda slot: slot if slot.due_ns < ns(4.0) else None))
    assert result.verdict == "inconclusive"
    assert "had stopped sending" in objective(result, "talk.rto").why
    assert judged(Run(bad=outage(0.1, 25.0))).verdict == "fail", "seen to the end, it is one"


@pytest.mark.parametrize(("silent_from_s", "verdict"), [(8.0, "inconclusive"), (24.0, "pass")])
def test_load_that_ended_with_the_fault_is_none(silent_from_s, verdict):
    """Known bad: ^Z of Locust in the outage. The recovery was measured without what makes it hard."""
    rows = [
        replace(row, requests=0, users=0) if isinstance(row, Load) and row.t_ns > ns(silent_from_s) else row
        for row in RUN.rows()
    ]
    assert objective(judge(experiment(load=LOAD), stack_spec(), rows), "load").verdict == verdict


def test_a_replica_that_does_not_get_healthy_after_the_heal_is_a_failback_fail():
    """It was started and unfenced: that is the stack's failing, no error of the harness."""
    sick = Run(faults=[FaultScript(healed=None, detail={"unhealthy": True, "why": "not healthy after 60.0 s: pg-pangyo"})])
    result = judged(sick)
    row = objective(result, "failback.fire")
    assert (row.verdict, "pg-pangyo" in row.why, result.verdict) == ("fail", True, "fail")
