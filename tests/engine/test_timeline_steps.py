"""Steps in a timeline beside faults: a kind that the engine does not know has its window, its rows and its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.engine import trial as trial_module
from chaoslab.engine.conditions import Conditions
from chaoslab.engine.steps import Begun, PlannedStep, Seen
from chaoslab.errors import StackError
from chaoslab.history.rows import AnyRow, Condition, LedgerRead, PhaseRow, Step
from chaoslab.judge.run_record import Record
from chaoslab.spec.timeline import Action, end_of, schedule

PAUSE: dict[str, Any] = {"id": "pause", "fault": "service.pause", "service": "app", "site": "west", "heal_after": "2s"}


@dataclass(eq=False)
class Rebalance:
    """A second kind of step: its effect is seen `takes_s` seconds after its begin."""

    clock: Clock
    id: str = "even-out"
    name: str = "rebalance"
    takes_s: float = 1.5
    refused: bool = False
    verbs: list[str] = field(default_factory=list)
    fails_in: str = ""
    undo_timeout_s: float = 0.0

    def begin(self) -> Begun:
        self.call("begin")
        self.began_ns = self.clock.now_ns()
        return Begun(self.began_ns, {"moved": 3}, refused=self.refused)

    def verify(self) -> Seen | None:
        at_ns = self.began_ns + round(self.takes_s * NS_PER_S)
        return Seen(at_ns) if self.clock.now_ns() >= at_ns else None

    def awaited(self) -> str:
        return "3 parts are still moving"

    def end(self) -> None:
        self.call("end")

    def undo(self) -> None:
        self.call("undo")

    def call(self, verb: str) -> None:
        self.verbs.append(verb)
        if self.fails_in == verb:
            raise StackError("the balancer does not answer")


def planned(stage: Stage, **more: Any) -> tuple[Rebalance, PlannedStep]:
    step = Rebalance(stage.clock, **more)
    return step, PlannedStep(step, at=1.0, budget=4.0)


def windows(stage: Stage, rows: list[AnyRow]) -> list[tuple[str, str, str, float]]:
    start_ns = next(row.t_ns for row in rows if getattr(row, "phase", "") == "faults")
    return [(r.id, r.name, r.event, (r.t_ns - start_ns) / NS_PER_S) for r in rows if isinstance(r, Step)]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch, PAUSE)


def test_a_step_of_a_timeline_has_a_window(stage: Stage) -> None:
    """At its instant, beside a fault that goes its own way; the judge counts what users suffer from its begin."""
    step, plan = planned(stage)
    rows = stage.play(stage.trial(steps=[plan]))
    (begin, end) = windows(stage, rows)
    assert begin == ("even-out", "rebalance", "begin", 1.0)
    assert end == ("even-out", "rebalance", "end", 2.5)
    assert step.verbs == ["begin", "end", "undo"]
    assert stage.seconds("pause", "heal") == pytest.approx(2.0)
    (taken,) = Record.of(rows).steps
    assert (taken.name, taken.end_ns - taken.begin_ns) == ("rebalance", round(1.5 * NS_PER_S))  # type: ignore[operator]
    assert next(row.detail for row in rows if isinstance(row, Step)) == {"moved": 3}


def test_a_step_that_outlasts_the_faults_keeps_them_not_from_their_heal(stage: Stage) -> None:
    """The last heals are due; failback begins once the step is over, too."""
    _, plan = planned(stage, takes_s=2.9)
    rows = stage.play(stage.trial(steps=[plan]))
    assert stage.seconds("pause", "heal") == pytest.approx(2.0)
    assert [event for *_, event, _ in windows(stage, rows)] == ["begin", "end"]
    failback_ns = next(row.t_ns for row in rows if getattr(row, "phase", "") == "failback")
    assert failback_ns >= next(row.t_ns for row in rows if isinstance(row, Step) and row.event == "end")


def test_a_step_without_effect_has_no_end_and_is_ended_all_the_same(stage: Stage) -> None:
    """It has failed, and its row names what was waited for; the stack is still left clean."""
    step, plan = planned(stage, takes_s=60.0)
    rows = stage.play(stage.trial(steps=[plan], last=False))
    assert [(event, at_s) for *_, event, at_s in windows(stage, rows)] == [("begin", 1.0), ("failed", pytest.approx(5.0))]
    (why,) = [row.detail["why"] for row in rows if isinstance(row, Step) and row.event == "failed"]
    assert why == "not finished within its budget of 4 s: 3 parts are still moving"
    assert step.verbs == ["begin", "end", "undo"]
    assert stage.session.why_unusable() is None


def test_a_step_that_was_refused_is_none(stage: Stage) -> None:
    """It changed nothing: no rows, and nothing to end."""
    step, plan = planned(stage, refused=True)
    rows = stage.play(stage.trial(steps=[plan]))
    assert windows(stage, rows) == []
    assert step.verbs == ["begin"]


def test_ctrl_c_ends_a_step_that_is_under_way(stage: Stage) -> None:
    """As it heals a fault; and a step that is due later never begins."""
    step, plan = planned(stage, takes_s=3.5)
    later = Rebalance(stage.clock, id="later")
    stage.when(lambda: "begin" in step.verbs, lambda: stage.session.stop("ended by SIGINT"))
    rows = stage.play(stage.trial(steps=[plan, PlannedStep(later, at=3.0)]))
    assert [event for *_, event, _ in windows(stage, rows)] == ["begin"]
    assert (step.verbs, later.verbs) == (["begin", "end", "undo"], [])


def test_a_step_that_cannot_begin_ends_the_trial(stage: Stage) -> None:
    """With an error that names what failed."""
    step, plan = planned(stage, fails_in="begin")
    stage.play(stage.trial(steps=[plan]))
    assert stage.notes("error") == ["the balancer does not answer"]
    assert step.verbs == ["begin", "end"]


def test_a_step_that_cannot_be_ended_leaves_no_stack_for_another_trial(stage: Stage) -> None:
    """Known bad: it is not known what of it goes on."""
    _, plan = planned(stage, fails_in="end")
    stage.play(stage.trial(steps=[plan], last=False))
    assert any("could not be ended: the balancer does not answer" in text for text in stage.notes("warning"))
    assert "the step rebalance even-out could not be ended" in (stage.session.why_unusable() or "")


def test_a_step_is_an_action_of_the_timeline(stage: Stage) -> None:
    """After what is healed and injected at the same instant; the timeline lasts until it must be over."""
    _, plan = planned(stage)
    timeline = stage.loaded.experiment.timeline
    assert schedule(timeline, [], [plan]) == [
        Action(0.0, "inject", "pause"),
        Action(1.0, "begin", "even-out"),
        Action(2.0, "heal", "pause"),
    ]
    assert end_of(timeline, [], [plan]) == 5.0


def test_a_timeline_may_have_steps_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what it tests: ledgers are read, and the conditions of the end are looked at, not those of the steady state."""
    step = {"id": "pause", "manual": "Wait", "delay": "2s"}
    steady = {"hold": "1s", "within": "20s", "conditions": ["east-serves"]}
    stage = Stage(tmp_path, monkeypatch, step, steady_state=steady, failback={"within": "5s", "hold": "1s", "conditions": []})
    monkeypatch.setattr(Conditions, "observe", lambda *_: (True, "seen"))
    final = LedgerRead(t_ns=1, journey="j", service="app", writer="w", begin_ns=0, end_ns=1, ok=True, site="east", final=True)
    monkeypatch.setattr(trial_module, "read_ledgers", lambda *_: [final])
    rows = stage.play()
    assert windows(stage, rows)[0] == ("pause", "manual", "begin", 0.0)
    assert final in rows
    assert {(row.id, row.role) for row in rows if isinstance(row, Condition)} >= {("east-serves", "fault")}
    assert not [row for row in rows if isinstance(row, Condition) and row.role == "failback"]
    phases = [(row.phase, row.event) for row in rows if isinstance(row, PhaseRow)]
    assert ("failback", "end") in phases
