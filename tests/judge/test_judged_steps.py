"""Steps as they are judged: what they came to, in time or not, and what shows nothing."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Step
from chaoslab.judge.clocks import EventTimeline
from chaoslab.judge.run_record import Record
from chaoslab.judge.starvation import Starved
from chaoslab.judge.steps import SWITCHBACK, check_step, check_switchback, step_results
from chaoslab.spec.step import BringAboutStep, RunStep

EMPTY = EventTimeline((), {}, 60 * NS_PER_S)


def row(at_s: float, event: Literal["begin", "returned", "end", "failed", "undone"], id_: str = "mend", **detail: Any) -> Step:
    return Step(t_ns=round(at_s * NS_PER_S), id=id_, name="run", event=event, detail=detail)


def judged(*rows: Step, timeline: EventTimeline = EMPTY, **written: Any) -> tuple[str, str]:
    spec = RunStep(id="mend", run=["true"], **written)
    found = check_step(spec, Record.of(rows), timeline)
    return found.verdict, found.why


def over(at_s: float, unseen_s: float | None = None) -> tuple[Step, Step]:
    return row(1, "begin"), row(at_s, "end", **({} if unseen_s is None else {"unseen_ns": round(unseen_s * NS_PER_S)}))


def test_a_step_that_is_over_passes() -> None:
    """Within its budget, without any other objective; known bad: the last look before the end of the budget took too long."""
    assert judged(*over(40)) == ("pass", "")
    assert judged(*over(62, 60.5))[0] == "inconclusive"
    assert judged(*over(63, 61.5)) == ("fail", "it took 62.0 s")


@pytest.mark.parametrize(
    ("end_s", "unseen_s", "verdict"),
    [(5.9, 5.8, "pass"), (6.1, 5.9, "inconclusive"), (6.3, 6.1, "fail"), (6.1, None, "fail"), (6.0, None, "fail")],
)
def test_the_duration_is_an_interval(end_s: float, unseen_s: float | None, verdict: str) -> None:
    """From the last look without the effect to the first with it; without looks it is exact. The objective is `< 5s`."""
    assert judged(*over(end_s, unseen_s), within="< 5s")[0] == verdict


@pytest.mark.parametrize(
    ("rows", "verdict", "why"),
    [
        ([row(1, "begin"), row(2, "failed", why="exit status 3")], "fail", "exit status 3"),
        ([row(2, "failed", why="its precondition does not hold")], "fail", "its precondition does not hold"),
        ([row(2, "failed", why="it comes after x", skipped=True)], "inconclusive", "it comes after x"),
        ([row(1, "begin"), row(2, "failed", why="holds already", skipped=True)], "inconclusive", "holds already"),
        ([row(1, "begin")], "inconclusive", "it was under way when the run ended"),
        ([], "inconclusive", "it did not begin"),
        ([row(1, "begin"), row(2, "end"), row(9, "undone", why="no undo")], "pass", ""),
    ],
)
def test_what_a_step_came_to(rows: list[Step], verdict: str, why: str) -> None:
    """A fail is the step's own doing; what was cut, skipped or idle shows nothing."""
    assert judged(*rows) == (verdict, why)


def test_what_the_harness_brings_about_later_is_not_the_step_of_that_name() -> None:
    """The step could not begin, and failback brought about the condition of the same name. Known bad: that was its pass."""
    spec = BringAboutStep(id="led", bring_about="led")
    failed = msgspec.structs.replace(row(2, "failed", "led", why="its precondition does not hold"), name="bring_about")
    back = [msgspec.structs.replace(one, name=SWITCHBACK) for one in (row(20, "begin", "led"), row(21, "end", "led"))]
    record = Record.of([failed, *back])
    found = check_step(spec, record, EMPTY)
    assert (found.verdict, found.why) == ("fail", "its precondition does not hold")
    assert check_switchback("led", record, EMPTY, 30.0).verdict == "pass"


@pytest.mark.parametrize(("until_s", "verdict"), [(4.0, "inconclusive"), (1.5, "fail")])
def test_a_starved_machine_may_have_made_it_late(until_s: float, verdict: str) -> None:
    """Where it would have been in time without those seconds; known bad: they do not explain it."""
    span = Starved(NS_PER_S, round(until_s * NS_PER_S), "others", excused=True, why="the control was late")
    starved = EventTimeline((), {}, 60 * NS_PER_S, starved=[span])
    assert judged(*over(7), timeline=starved, within="< 5s")[0] == verdict
    late = (row(1, "begin"), row(6.5, "failed", why="not finished within its budget of 4 s", late=True))
    assert judged(*late, timeline=starved, budget="4s")[0] == verdict
    assert judged(row(1, "begin"), row(2, "failed", why="exit status 3"), timeline=starved)[0] == "fail"


def test_the_result_lists_every_step() -> None:
    """With what it said last; what never began has no times."""
    rows = [row(1, "begin", target="true"), row(2, "returned", status=0, output="done it"), row(2.5, "end", unseen_ns=NS_PER_S)]
    rows += [row(3, "begin", "other"), row(4, "failed", "third", why="no"), row(4, "failed", "fourth", why="no", skipped=True)]
    found = {step.id: step for step in step_results(Record.of(rows))}
    assert [(id_, step.status) for id_, step in found.items()] == [
        ("mend", "done"),
        ("other", "cut"),
        ("third", "failed"),
        ("fourth", "skipped"),
    ]
    mend = found["mend"]
    assert (mend.begun_s, mend.ended_s, mend.duration_s) == (0.0, 1.5, 1.5)
    assert (mend.what, mend.output, mend.why) == ("true", "done it", "")
    assert (found["other"].ended_s, found["third"].begun_s) == (None, None)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([row(1, "begin", "led"), row(4, "end", "led")], "pass"),
        ([row(1, "begin", "led"), row(12, "begin", "led#2"), row(14, "end", "led"), row(14, "end", "led#2")], "pass"),
        ([row(1, "begin", "led")], "fail"),
        ([row(1, "begin", "led"), row(3, "end", "led"), row(20, "begin", "led#2")], "fail"),
    ],
)
def test_what_the_harness_brings_about_has_a_verdict(rows: list[Step], verdict: str) -> None:
    """Known bad: it asked for the switch back again and again, and nobody learnt that it never came."""
    own = [msgspec.structs.replace(one, name=SWITCHBACK) for one in rows]
    record = Record.of(own)
    assert check_switchback("led", record, EMPTY, 30.0).verdict == verdict
    cut = EventTimeline((), {}, 60 * NS_PER_S, cut=True)
    assert check_switchback("led", record, cut, 30.0).verdict == {"fail": "inconclusive"}.get(verdict, verdict)
    span = Starved(2 * NS_PER_S, 3 * NS_PER_S, "others", excused=True, why="the control was late")
    starved = EventTimeline((), {}, 60 * NS_PER_S, starved=[span])
    assert check_switchback("led", record, starved, 30.0).verdict == {"fail": "inconclusive"}.get(verdict, verdict)
