"""When replicas answer again after a heal, and which of their connections failed: rows of a run, played on the fake stack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_stack import FakeStack
from stage import Stage

from chaoslab.history.rows import Ask, Start
from chaoslab.judge.verdict import judge
from chaoslab.stack.protocol import Unanswered

FIRE: dict[str, Any] = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "10s"}
RESTORED = {"app": {"rto": None, "restored": "< 5s"}}


def rows_of(stage: Stage, kind: type) -> list[Any]:
    return [row for row in stage.rows if isinstance(row, kind)]


def test_replicas_are_seen_to_return_and_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the fault had ended, and no others."""
    stage = Stage(tmp_path, monkeypatch, FIRE, objectives=RESTORED)
    stage.play()
    found = [(row.replica, row.service, row.fault, row.event) for row in rows_of(stage, Start)]
    assert found == [("app-east", "app", "fire", "returning"), ("app-east", "app", "fire", "answers")]
    returning, answers = rows_of(stage, Start)
    assert 0 <= (answers.t_ns - returning.t_ns) / 1e9 < 1.0


def test_without_such_an_objective_nobody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs something."""
    stage = Stage(tmp_path, monkeypatch, FIRE)
    stage.play()
    assert rows_of(stage, Start) == rows_of(stage, Ask) == []


def test_who_asked_in_vain_is_in_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their services, from the first fault on."""

    def unanswered(_: FakeStack) -> Sequence[Unanswered]:
        return [Unanswered("app-west", "app-east", 8000, "silent", 3)]

    monkeypatch.setattr(FakeStack, "watch_asks", lambda _: None, raising=False)
    monkeypatch.setattr(FakeStack, "unanswered", unanswered, raising=False)
    stage = Stage(tmp_path, monkeypatch, FIRE, objectives=RESTORED)
    stage.play()
    first = rows_of(stage, Ask)[0]
    assert (first.client, first.client_service, first.target, first.target_service) == ("app-west", "app", "app-east", "app")
    assert (first.port, first.how, first.times) == (8000, "silent", 3)
    assert len(rows_of(stage, Ask)) >= 5


@pytest.mark.parametrize(("bad_s", "verdict"), [(12.0, "pass"), (40.0, "fail")])
def test_a_run_is_judged_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_s: float, verdict: str) -> None:
    """Two seconds after the heal, or never: from the instant at which the power was back, as the fault reports it."""
    stage = Stage(tmp_path, monkeypatch, FIRE, objectives=RESTORED, failback={"within": "15s", "hold": "12s"})

    def turn(to: bool) -> None:
        stage.is_bad = to

    def plan() -> None:
        stage.after(0.0, lambda: turn(True))
        stage.after(bad_s, lambda: turn(False))

    stage.when(lambda: stage.has_begun("faults"), plan)
    stage.play()
    assert [row.event for row in stage.faults()][-3:] == ["heal", "reconnected", "healed"]
    result = judge(stage.loaded.experiment, stage.loaded.compose.spec, stage.rows)
    assert {one.id: one.verdict for one in result.objectives}["app.restored"] == verdict
    assert [(one.fault, one.service, one.verdict) for one in result.restored] == [("fire", "app", verdict)]


def test_a_watch_that_breaks_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing that it did not see would be known to be missing."""

    def unanswered(_: FakeStack) -> Sequence[Unanswered]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(FakeStack, "watch_asks", lambda _: None, raising=False)
    monkeypatch.setattr(FakeStack, "unanswered", unanswered, raising=False)
    stage = Stage(tmp_path, monkeypatch, FIRE, objectives=RESTORED)
    stage.play()
    assert judge(stage.loaded.experiment, stage.loaded.compose.spec, stage.rows).verdict == "error"
