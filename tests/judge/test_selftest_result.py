"""A selftest must itself go red: when a known-bad stack passes, and when it fails for another reason than stated."""

from __future__ import annotations

import msgspec
import pytest

from chaoslab.errors import ExitCode
from chaoslab.history.result import FaultResult, JourneyResult, LoadResult, ObjectiveResult, OutageResult, Result
from chaoslab.run.selftest import TRIES, ask_again, compare, misread, not_run, selftest_exit_code
from chaoslab.spec.model import Expect, Experiment, ProbeSpec

EXPERIMENT = Experiment.model_construct(name="bad", tags=["known-bad"], expect=Expect(verdict="fail", objectives=["pay.rpo"]))


def came_to(verdict: str, failed: str = "") -> Result:
    objectives = [ObjectiveResult(id=failed, verdict="fail", measured="", objective="")] if failed else []
    return Result(
        experiment="bad",
        verdict=verdict,
        runtime="embedded",
        started_at="2026-11-22T02:00:00Z",
        duration_s=1.0,
        boot_s=1.0,
        overhead_s=0.0,
        faults=[],
        services={},
        journeys={},
        ledger={},
        load=LoadResult(),
        objectives=objectives,
    )


@pytest.mark.parametrize(
    ("result", "outcome", "code"),
    [
        (came_to("fail", "pay.rpo"), "as expected", ExitCode.PASS),
        (came_to("pass"), "not as expected", ExitCode.FAIL),
        (came_to("fail", "pay.rto"), "not as expected", ExitCode.FAIL),
        (came_to("error"), "not as expected", ExitCode.FAIL),
        (came_to("inconclusive"), "untold", ExitCode.INCONCLUSIVE),
    ],
)
def test_only_the_stated_failure_is_as_expected(result, outcome, code):
    """A known-bad stack that passes, or fails for the wrong objective, is a failure of the tool."""
    compared = compare(EXPERIMENT, [result])
    assert (compared.outcome, selftest_exit_code([compared])) == (outcome, code)


def test_one_surprise_outweighs_what_is_fine_or_untold():
    """The worst of the table decides, wherever it stands."""
    fine, untold, wrong = (
        compare(EXPERIMENT, [came_to(*said)]) for said in (("fail", "pay.rpo"), ("inconclusive",), ("pass",))
    )
    assert selftest_exit_code([fine, untold]) is ExitCode.INCONCLUSIVE
    assert selftest_exit_code([wrong, untold, fine]) is ExitCode.FAIL


def test_what_did_not_run_is_untold():
    """So a selftest that could not run everything is never a pass."""
    compared = not_run(EXPERIMENT, "it needs root")
    assert (compared.expected, compared.got, compared.outcome) == ("fail: pay.rpo", "not run", "untold")
    fine = compare(EXPERIMENT, [came_to("fail", "pay.rpo")])
    assert selftest_exit_code([fine, compared]) is ExitCode.INCONCLUSIVE


def test_only_the_inconclusive_is_asked_again_and_not_for_ever():
    """A verdict that one does not like is never asked again."""
    untold = came_to("inconclusive")
    assert ask_again([]) and ask_again([untold])
    assert not ask_again([untold] * TRIES)
    assert not ask_again([came_to("pass")])


def test_what_was_left_behind_and_what_was_never_run_are_not_a_pass():
    """Nothing run proves nothing, and a clean-up that failed is said."""
    left = msgspec.structs.replace(came_to("fail", "pay.rpo"), cleanup="incomplete")
    assert selftest_exit_code([compare(EXPERIMENT, [left])]) is ExitCode.UNCLEAN
    assert selftest_exit_code([]) is ExitCode.INCONCLUSIVE


def read_as(*outages: tuple[float, float]) -> Result:
    """A fault of 5 s, seen and undone within 10 ms each, and what one journey made of it."""
    times = {"inject_s": 1.0, "effective_s": 1.01, "heal_s": 6.0, "healed_s": 6.01}
    fault = FaultResult(id="still", name="service.pause", target="entry", verified=True, **times)
    seen = [OutageResult(at_s=1.0, low_s=low, high_s=high, slots=1) for low, high in outages]
    figures = {"slots": 500, "bad": 200, "skewed": 0, "availability": 0.6, "rto_s": None, "failback_s": None}
    quantiles = {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    journey = JourneyResult(service="talk", op="read", outages=seen, **figures, **quantiles)
    return msgspec.structs.replace(came_to("pass"), faults=[fault], journeys={"talk.read": journey})


@pytest.mark.parametrize(
    ("outages", "wrong"),
    [
        ([(4.48, 5.01)], 0),
        ([(4.48, 5.04)], 0),
        ([(4.48, 5.06)], 1),
        ([(4.48, 4.94)], 1),
        ([(5.02, 5.03)], 1),
        ([], 1),
        ([(2.0, 2.1), (2.5, 2.6)], 1),
    ],
)
def test_an_outage_of_known_length_is_read_to_within_two_slots(outages, wrong):
    """Known bad: a prober that is three slots off, sees nothing, or sees two where there was one."""
    assert len(misread(read_as(*outages), 0.02)) == wrong


def test_nothing_read_is_nothing_right():
    """Known bad: no fault, no journey, or an outage that is still open beside the right one."""
    right = read_as((4.48, 5.01))
    assert misread(msgspec.structs.replace(right, faults=[]), 0.02) != []
    assert misread(msgspec.structs.replace(right, journeys={}), 0.02) != []
    journey = right.journeys["talk.read"]
    still = msgspec.structs.replace(journey.outages[0], ended=False)
    two = msgspec.structs.replace(journey, outages=[*journey.outages, still])
    assert misread(msgspec.structs.replace(right, journeys={"talk.read": two}), 0.02) != []


def test_an_instrument_that_misreads_is_not_as_expected():
    """However green the run was."""
    still = Experiment.model_construct(name="still", tags=["instrument"], expect=None, probe=ProbeSpec(rate=50))
    assert compare(still, [read_as((4.48, 5.01))]).outcome == "as expected"
    assert compare(still, [read_as((4.48, 9.0))]).outcome == "not as expected"
