"""When the services are back from a fault, or have missed their RTO: judge/README.md, Heal at recovery."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from judge_runs import LATENCY_S, FaultScript, Run, experiment, judged, outage

from chaoslab.clock import NS_PER_S
from chaoslab.judge.intervals import chance_slots
from chaoslab.judge.recovered import UnhealedFault, why_not_recovered
from chaoslab.judge.slots import Slots
from chaoslab.spec.stackfile.model import FaultObjectives

PERIOD_S, WITHIN_S, HOLD_S = 0.1, 0.5, 8.0
RTO = FaultObjectives.model_validate({"rto": "< 45s"})

Bad = Callable[[float], bool]


def slots(bad: Bad, now_s: float, silent: Bad = lambda _: False) -> Slots:
    """What is known `now_s` seconds after the fault: each slot takes 10 ms; those that are `silent` have not been answered."""
    found = Slots(period_ns=round(PERIOD_S * NS_PER_S), within_ns=round(WITHIN_S * NS_PER_S))
    for number in range(round((now_s + 10) / PERIOD_S)):
        at_s = number * PERIOD_S - 10
        due_ns = round((at_s + 20) * NS_PER_S)
        if not silent(at_s):
            found.add(due_ns, due_ns, due_ns + NS_PER_S // 100, not bad(at_s))
    return found


def why(bad: Bad, now_s: float, promised: FaultObjectives = RTO, silent: Bad = lambda _: False) -> str | None:
    """The fault is effective 20 s after the clock's zero."""
    fault, now_ns = UnhealedFault("fire", 20 * NS_PER_S, 20 * NS_PER_S), round((now_s + 20) * NS_PER_S)
    return why_not_recovered({"talk.read": slots(bad, now_s, silent)}, promised, fault, HOLD_S, now_ns)


def test_good_for_the_hold_is_back() -> None:
    """Not a moment earlier."""
    assert why(lambda at_s: 0 <= at_s < 24, 31.5) == "talk.read has not been good for 8.0 s"
    assert why(lambda at_s: 0 <= at_s < 24, 32.1) is None


def test_slots_before_the_fault_hold_nothing() -> None:
    """A service that need not notice the fault is watched for as long after it."""
    allowed = FaultObjectives.model_validate({"rto": "< 45s", "unaffected": "allowed"})
    assert why(lambda _: False, 7.9, allowed) is not None
    assert why(lambda _: False, 8.1, allowed) is None


def test_a_service_that_must_notice_has_not_recovered_before_it_did() -> None:
    """Until its RTO is over, and a fifth of it."""
    assert why(lambda _: False, 53.9) == "it has not noticed fire yet"
    assert why(lambda _: False, 54.1) is None


def test_a_short_rto_is_missed_five_seconds_later() -> None:
    """A slot that is late at the heal does not count as bad before it."""
    short = FaultObjectives.model_validate({"rto": "< 2s"})
    assert why(lambda at_s: at_s >= 0, 6.9, short) is not None
    assert why(lambda at_s: at_s >= 0, 7.1, short) is None


def test_slots_that_hang_are_bad_once_they_are_late() -> None:
    """A hanging service writes no rows until its requests time out."""
    assert why(lambda at_s: 0 <= at_s < 24, 32.1, silent=lambda at_s: at_s > 31.7) is None
    assert why(lambda at_s: 0 <= at_s < 24, 33.1, silent=lambda at_s: at_s > 31.7) is not None


def test_a_partial_outage_is_over_when_the_good_run_is_no_chance() -> None:
    """One slot in thirty is bad for a minute: good for the hold, it may still be bad. Known bad: the judge could not tell."""
    long = FaultObjectives.model_validate({"rto": "< 90s"})

    def one_in_thirty(at_s: float) -> bool:
        return 0 <= at_s <= 60 and round(at_s / PERIOD_S) % 30 == 0

    chance_s = chance_slots(21 / 601) * PERIOD_S
    assert chance_s > HOLD_S
    assert why(one_in_thirty, 60 + HOLD_S + 0.5, long) is not None
    assert why(one_in_thirty, 60 + chance_s + 1.0, long) is None


def test_a_service_without_an_rto_is_not_waited_for() -> None:
    """Its verdict does not depend on when the fault is healed."""
    assert why(lambda at_s: at_s >= 0, 1.0, FaultObjectives()) is None


def test_a_heal_at_recovery_is_an_event_of_its_own() -> None:
    """Known bad: the other fault is healed when this one would be at the latest, 15 s, and both counted as healed at 8 s."""
    timeline = [
        {"id": "fire", "fault": "site.power-loss", "site": "pangyo", "heal_after": "recovered"},
        {"id": "cut", "at": "5s", "fault": "site.isolate", "site": "anyang", "heal_after": "10s"},
    ]
    faults = [FaultScript("fire", 0.0, 0.05, 8.0, 8.1), FaultScript("cut", 5.0, 5.05, 15.0, 15.1, name="site.isolate")]
    run = Run(faults=faults, bad=outage(0.1, 1.0) | {"talk.send": [(0.1, 1.0), (15.2, 16.1)]})
    found = judged(run, experiment(timeline=timeline)).services["talk"].failback_s
    assert found is not None
    assert found.high == pytest.approx(16.1 + LATENCY_S - 15.0)


def test_a_journey_that_may_fail_is_not_waited_for() -> None:
    """It shows that the fault was noticed; a required one that fails as long is waited for."""
    fault, now_ns = UnhealedFault("fire", 20 * NS_PER_S, 20 * NS_PER_S), round(32.1 * NS_PER_S)
    journeys = {"talk.send": slots(lambda at_s: at_s >= 0, 12.1), "talk.read": slots(lambda at_s: 0 <= at_s < 4, 12.1)}
    assert why_not_recovered(journeys, RTO, fault, HOLD_S, now_ns, may_fail=["talk.send"]) is None
    assert why_not_recovered(journeys, RTO, fault, HOLD_S, now_ns) == "talk.send has not been good for 8.0 s"


def test_a_queued_write_shows_that_the_fault_was_noticed() -> None:
    """One from before the fault does not."""
    fault, now_ns = UnhealedFault("fire", 20 * NS_PER_S, 20 * NS_PER_S), round(28.2 * NS_PER_S)
    good = {"talk.send": slots(lambda _: False, 8.2)}
    assert why_not_recovered(good, RTO, fault, HOLD_S, now_ns, queued_ns=21 * NS_PER_S) is None
    assert why_not_recovered(good, RTO, fault, HOLD_S, now_ns, queued_ns=19 * NS_PER_S) == "it has not noticed fire yet"
