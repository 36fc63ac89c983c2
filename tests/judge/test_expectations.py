"""A selftest must itself go red: when a known-bad stack passes, and when it fails for another reason than stated."""

from __future__ import annotations

import msgspec
import pytest

from chaoslab.errors import ExitCode
from chaoslab.expectations import TRIES, ask_again, compare, exit_code_of
from chaoslab.result import LoadResult, ObjectiveResult, Result
from chaoslab.spec.model import Expect, Experiment

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
    assert (compared.outcome, exit_code_of([compared])) == (outcome, code)


def test_one_surprise_outweighs_what_is_fine_or_untold():
    """The worst of the table decides, wherever it stands."""
    fine, untold, wrong = (
        compare(EXPERIMENT, [came_to(*said)]) for said in (("fail", "pay.rpo"), ("inconclusive",), ("pass",))
    )
    assert exit_code_of([fine, untold]) is ExitCode.INCONCLUSIVE
    assert exit_code_of([wrong, untold, fine]) is ExitCode.FAIL


def test_only_the_inconclusive_is_asked_again_and_not_for_ever():
    """A verdict that one does not like is never asked again."""
    untold = came_to("inconclusive")
    assert ask_again([]) and ask_again([untold])
    assert not ask_again([untold] * TRIES)
    assert not ask_again([came_to("pass")])


def test_what_was_left_behind_and_what_was_never_run_are_not_a_pass():
    """Nothing run proves nothing, and a clean-up that failed is said."""
    left = msgspec.structs.replace(came_to("fail", "pay.rpo"), cleanup="incomplete")
    assert exit_code_of([compare(EXPERIMENT, [left])]) is ExitCode.UNCLEAN
    assert exit_code_of([]) is ExitCode.INCONCLUSIVE
