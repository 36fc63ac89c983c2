"""`heal_after: recovered`: when a fault is healed, played on the fake stack.

The app's RTO is 5 s, and the hold of the steady state 1 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from chaoslab.cleanup.journal import open_steps
from chaoslab.engine import trial
from chaoslab.engine.abort import AbortReason
from chaoslab.judge.verdict import judge
from chaoslab.spec.load import load_experiment

KILL: dict[str, Any] = {"id": "kill", "fault": "service.kill", "service": "app", "site": "east", "heal_after": "recovered"}
PAUSE: dict[str, Any] = {"id": "pause", "fault": "service.pause", "service": "app", "site": "west"}
BACK_S = 3.1  # 25 good slots make a recovery, at 10 a second, and two may be in flight; an answer may take 0.4 s
MISSED_S = 10.0  # 5 s beyond the RTO


def bad(stage: Stage, *spans: tuple[float, float]) -> None:
    """Users get bad answers in these spans of seconds, counted from the begin of the faults."""

    def turn(to: bool) -> None:
        stage.is_bad = to

    def plan() -> None:
        for begin_s, end_s in spans:
            stage.after(begin_s, lambda: turn(True))
            stage.after(end_s, lambda: turn(False))

    stage.when(lambda: stage.has_begun("faults"), plan)


def rto_of(stage: Stage) -> tuple[str, str]:
    """The verdict of the judge on the app's RTO, and its reason."""
    result = judge(stage.loaded.experiment, stage.loaded.compose.spec, stage.rows)
    found = next(one for one in result.objectives if one.id == "app.rto")
    return found.verdict, found.why


def test_a_fault_is_healed_once_the_services_are_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before they were back for long enough, and the judge can tell."""
    stage = Stage(tmp_path, monkeypatch, KILL)
    bad(stage, (0.0, 2.0))
    stage.play()
    assert stage.seconds("kill", "heal") == pytest.approx(2.0 + BACK_S, abs=0.3)
    assert rto_of(stage)[0] == "pass"
    assert any("healed 5." in text for text in stage.notes("info"))


def test_the_hold_of_the_steady_state_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer one than a recovery takes."""
    stage = Stage(tmp_path, monkeypatch, KILL, steady_state={"hold": "4s", "within": "20s"})
    bad(stage, (0.0, 2.0))
    stage.play()
    assert stage.seconds("kill", "heal") == pytest.approx(2.0 + 4.0, abs=0.3)


def test_a_service_that_never_comes_back_has_missed_its_rto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: healed when the RTO is just over, nobody could tell, and it was inconclusive."""
    stage = Stage(tmp_path, monkeypatch, KILL)
    bad(stage, (0.0, MISSED_S + 0.5))
    stage.play()
    assert stage.seconds("kill", "heal") == pytest.approx(MISSED_S, abs=0.3)
    verdict, why = rto_of(stage)
    assert (verdict, "recovered only because of the heal" in why) == ("fail", True)


def test_a_flap_while_it_holds_starts_that_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad slot, two seconds after the others."""
    stage = Stage(tmp_path, monkeypatch, KILL)
    bad(stage, (0.0, 1.0), (3.0, 3.15))
    stage.play()
    assert stage.seconds("kill", "heal") == pytest.approx(3.1 + BACK_S, abs=0.3)
    assert rto_of(stage)[0] == "pass"


def test_a_service_that_has_not_noticed_the_fault_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good from the start may only mean that the outage comes later; but not for longer than its RTO."""
    stage = Stage(tmp_path, monkeypatch, KILL)
    stage.play()
    assert stage.seconds("kill", "heal") == pytest.approx(MISSED_S, abs=0.3)


def test_a_journey_that_may_fail_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bad slots show that the fault was noticed, and the judge passes what was waited for."""
    stage = Stage(tmp_path, monkeypatch, KILL, objectives={"app": {"rpo": None, "degraded": {"app.write": "allowed"}}})
    stage.spared = frozenset({"app.read"})
    bad(stage, (0.0, 30.0))
    stage.when(lambda: stage.count("heal"), lambda: setattr(stage, "is_bad", False))
    stage.play()
    assert stage.seconds("kill", "heal") == pytest.approx(BACK_S, abs=0.3)
    assert rto_of(stage) == ("pass", "")
    result = judge(stage.loaded.experiment, stage.loaded.compose.spec, stage.rows)
    assert result.services["app"].faults == {"kill": "degraded"}


def test_a_service_that_need_not_notice_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has to be good for a while nevertheless."""
    stage = Stage(tmp_path, monkeypatch, KILL, objectives={"app": {"unaffected": "allowed"}})
    stage.play()
    assert stage.seconds("kill", "heal") == pytest.approx(BACK_S, abs=0.3)


def test_an_rto_under_the_fault_itself_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be longer than the usual one."""
    stage = Stage(tmp_path, monkeypatch, KILL, objectives={"app": {"under": {"kill": {"rto": "< 10s"}}}})
    bad(stage, (0.0, 8.0))
    stage.play()
    assert stage.seconds("kill", "heal") == pytest.approx(8.0 + BACK_S, abs=0.3)
    assert rto_of(stage)[0] == "pass"


def test_a_fault_of_set_length_is_healed_in_its_time_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that waits goes on to wait while the other makes an outage of its own; the last heal begins with failback."""
    objectives = {"app": {"under": {"kill": {"rto": "< 20s"}}}}
    stage = Stage(tmp_path, monkeypatch, KILL, PAUSE | {"at": "3s", "heal_after": "4s"}, objectives=objectives)
    bad(stage, (0.0, 1.0), (3.0, 9.0))
    stage.play()
    assert stage.seconds("pause", "heal") == pytest.approx(7.0, abs=0.1)
    assert stage.seconds("kill", "heal") == pytest.approx(9.0 + BACK_S, abs=0.3)


def test_two_faults_of_one_instant_are_healed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one event, once both may be healed, although their RTOs differ."""
    objectives = {"app": {"under": {"pause": {"rto": "< 10s"}}}}
    stage = Stage(tmp_path, monkeypatch, KILL, PAUSE | {"heal_after": "recovered"}, objectives=objectives)
    bad(stage, (0.0, 40.0))
    stage.when(lambda: stage.count("heal") == 2, lambda: setattr(stage, "is_bad", False))
    stage.play()
    assert stage.seconds("kill", "heal") == stage.seconds("pause", "heal") == pytest.approx(15.0, abs=0.3)
    result = judge(stage.loaded.experiment, stage.loaded.compose.spec, stage.rows)
    assert {clock.cause for clock in result.clocks if clock.kind == "rto"} == {"kill+pause"}


def test_two_faults_one_after_the_other_are_each_healed_at_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins while the first waits, and makes an outage that both wait for."""
    objectives = {"app": {"rto": "< 20s"}}
    pause = PAUSE | {"at": "2s", "heal_after": "recovered"}
    stage = Stage(tmp_path, monkeypatch, KILL, pause, objectives=objectives)
    bad(stage, (0.0, 1.0), (2.0, 4.0))
    stage.play()
    assert [stage.seconds(id_, "heal") for id_ in ("kill", "pause")] == [pytest.approx(4.0 + BACK_S, abs=0.3)] * 2


def test_ctrl_c_heals_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a recovery any more, and nothing is left to undo."""
    stage = Stage(tmp_path, monkeypatch, KILL)
    bad(stage, (0.0, 60.0))
    stage.when(lambda: stage.count("effective"), lambda: stage.after(1.0, lambda: stage.engine.stop("Ctrl-C")))
    stage.play()
    assert stage.seconds("kill", "heal") == pytest.approx(1.0, abs=0.3)
    assert stage.faults()[-1].event == "healed"
    assert open_steps(stage.journal.path) == []
    assert stage.notes("interrupted")


def test_an_abort_condition_heals_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that waits for recovery is under the same safety limits."""
    stage = Stage(tmp_path, monkeypatch, KILL)
    bad(stage, (0.0, 60.0))
    full = AbortReason("host_memory > 95%", "99.0%")
    stage.when(lambda: stage.count("effective"), lambda: monkeypatch.setattr(trial, "abort_reason", lambda *_: full))
    stage.play()
    assert stage.seconds("kill", "heal") < 0.5
    assert stage.faults()[-1].event == "healed"


def test_a_set_length_from_the_command_line_replaces_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `--set timeline.0.heal_after=50s`."""
    stage = Stage(tmp_path, monkeypatch, KILL)
    path = tmp_path / "mini.yaml"
    assert load_experiment(path).experiment.timeline[0].heals_at_recovery
    assert load_experiment(path, {"timeline.0.heal_after": "50s"}).experiment.timeline[0].heal_after == 50
    assert stage.loaded.experiment.timeline[0].heal_after == "recovered"
