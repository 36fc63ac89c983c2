"""A run that expects to fail ends once what it names has failed for good, played on the fake stack.

The app's RTO is 5 s; a slot is settled 3.4 s later.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from chaoslab.clock import NS_PER_S
from chaoslab.errors import NotHealthy
from chaoslab.history.result import ObjectiveResult, Result
from chaoslab.history.rows import Decided, Note, PhaseRow
from chaoslab.judge.verdict import as_expected, judge

FIRE: dict[str, Any] = {"id": "fire", "fault": "service.kill", "service": "app", "site": "east", "heal_after": "30s"}
FAILS: dict[str, Any] = {"expect": {"verdict": "fail", "objectives": ["app.rto"]}}
SETTLED_S = 3.4
LOOK_S = 1.2  # between two looks, and a tick


def bad(stage: Stage, *spans: tuple[float, float]) -> None:
    """Users get bad answers in these spans of seconds, counted from the begin of the faults."""

    def turn(to: bool) -> Callable[[], None]:
        return lambda: setattr(stage, "is_bad", to)

    def plan() -> None:
        for begin_s, end_s in spans:
            stage.after(begin_s, turn(True))
            stage.after(end_s, turn(False))

    stage.when(lambda: stage.has_begun("faults"), plan)


def play(stage: Stage, *, ends_early: bool = True) -> Result:
    """The run and its verdict."""
    stage.play(stage.trial(ends_early=ends_early))
    return judge(stage.loaded.experiment, stage.loaded.compose.spec, stage.rows)


def ended_after_s(stage: Stage) -> float | None:
    """From the begin of the faults to the early end; None without one."""
    begin_ns = next(row.t_ns for row in stage.rows if isinstance(row, PhaseRow) and row.phase == "faults")
    decided = next((row for row in stage.rows if isinstance(row, Decided)), None)
    return None if decided is None else (decided.t_ns - begin_ns) / NS_PER_S


def objective(result: Result, id_: str) -> ObjectiveResult:
    return next(one for one in result.objectives if one.id == id_)


def test_an_rto_that_is_missed_for_good_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Healed at once and not read back, as nothing more has to be known; what was not decided is not judged."""
    stage = Stage(tmp_path, monkeypatch, FIRE, **FAILS)
    bad(stage, (0.0, 60.0))
    result = play(stage)
    assert ended_after_s(stage) == pytest.approx(5 + SETTLED_S + LOOK_S / 2, abs=LOOK_S)
    assert stage.seconds("fire", "heal") == pytest.approx(ended_after_s(stage), abs=0.3)
    assert {row.phase for row in stage.rows if isinstance(row, PhaseRow)}.isdisjoint({"failback", "verify"})
    assert as_expected(result, stage.loaded.experiment)[0], result.reasons
    assert objective(result, "app.rto").measured.startswith("≥")
    untold = [one for one in result.objectives if one.id in ("app.failback", "app.rpo", "app.ledger")]
    assert [(one.verdict, one.why.partition(":")[0]) for one in untold] == [("inconclusive", "not judged")] * 3
    assert any("what was not decided is not judged" in why for why in result.reasons)


def test_without_being_asked_to_it_goes_on_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a person sees it who runs a known-bad: the whole story."""
    stage = Stage(tmp_path, monkeypatch, FIRE, **FAILS)
    bad(stage, (0.0, 31.0))
    result = play(stage, ends_early=False)
    assert ended_after_s(stage) is None
    assert objective(result, "app.rto").verdict == "fail"


def test_a_service_that_is_back_in_time_is_watched_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad for the rule: a single bad slot after the RTO is a flap, and no outage that goes on."""
    stage = Stage(tmp_path, monkeypatch, FIRE, **FAILS)
    bad(stage, (0.0, 3.0), (8.0, 8.1))
    result = play(stage)
    assert ended_after_s(stage) is None
    assert objective(result, "app.rto").verdict == "pass"
    assert stage.seconds("fire", "heal") == pytest.approx(30.0, abs=0.2)


def test_a_relapse_after_the_rto_ends_it_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock runs on, so it has been missed by the second bad slot in a row."""
    stage = Stage(tmp_path, monkeypatch, FIRE, **FAILS)
    bad(stage, (0.0, 3.0), (15.0, 16.0))
    result = play(stage)
    assert ended_after_s(stage) == pytest.approx(15 + SETTLED_S + LOOK_S / 2, abs=LOOK_S)
    assert objective(result, "app.rto").verdict == "fail"


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="a good experiment"),
        pytest.param(
            {"expect": {"verdict": "fail", "objectives": ["app.rto", "app.rpo"]}}, id="only the ledger shows the rest"
        ),
        pytest.param({"expect": {"verdict": "fail"}}, id="nothing is named"),
        pytest.param({"expect": {"verdict": "inconclusive", "objectives": ["app.rto"]}}, id="it must not be told"),
    ],
)
def test_a_run_that_has_more_to_show_is_never_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """Whatever fails meanwhile."""
    stage = Stage(tmp_path, monkeypatch, FIRE | {"heal_after": "20s"}, **more)
    bad(stage, (0.0, 25.0))
    play(stage)
    assert ended_after_s(stage) is None
    assert stage.seconds("fire", "heal") == pytest.approx(20.0, abs=0.2)


def test_a_fault_that_should_go_unnoticed_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`unaffected: true` is broken by the first outage, however short."""
    stage = Stage(tmp_path, monkeypatch, FIRE, objectives={"app": {"unaffected": True}}, **FAILS)
    bad(stage, (1.0, 2.0))
    result = play(stage)
    assert ended_after_s(stage) == pytest.approx(1 + SETTLED_S + LOOK_S / 2, abs=LOOK_S)
    assert objective(result, "app.rto").verdict == "fail"
    assert "declared unaffected" in objective(result, "app.rto").why


def test_a_share_that_cannot_be_reached_any_more_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if every slot to the latest end of the run were good."""
    expect = {"verdict": "fail", "objectives": ["app.availability"]}
    stage = Stage(tmp_path, monkeypatch, FIRE, objectives={"app": {"availability": "> 95%"}}, expect=expect)
    bad(stage, (0.0, 60.0))
    result = play(stage)
    ended_s = ended_after_s(stage)
    assert ended_s is not None
    decided = next(row for row in stage.rows if isinstance(row, Decided))
    whole_s = ended_s + (decided.latest_ns - decided.t_ns) / NS_PER_S
    assert ended_s == pytest.approx(0.05 * whole_s + SETTLED_S + LOOK_S / 2, abs=LOOK_S)
    assert objective(result, "app.availability").verdict == "fail"


def test_a_step_that_failed_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is over, and nothing can make it succeed."""
    step = {"id": "promote", "after": "fire", "at": "1s", "run": ["false"]}
    expect = {"verdict": "fail", "objectives": ["step.promote"]}
    stage = Stage(tmp_path, monkeypatch, FIRE, step, expect=expect)
    result = play(stage)
    ended_s = ended_after_s(stage)
    assert ended_s is not None
    assert ended_s < 5
    assert as_expected(result, stage.loaded.experiment)[0], result.reasons


def test_a_heal_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack is taken down anyway; it is no error of the harness, and what is left is said."""
    stage = Stage(tmp_path, monkeypatch, FIRE, **FAILS)
    bad(stage, (0.0, 60.0))

    def never(*_: Any) -> None:
        raise NotHealthy("app-east is not healthy")

    stage.when(lambda: stage.count("effective"), lambda: monkeypatch.setattr(stage.stack, "start", never))
    result = play(stage)
    assert as_expected(result, stage.loaded.experiment)[0], result.reasons
    assert [row.level for row in stage.rows if isinstance(row, Note) and "wait for its heal was cut" in row.text] == ["warning"]
    assert not stage.notes("error")
