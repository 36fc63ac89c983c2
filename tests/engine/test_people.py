"""Manual steps: people who confirm them in an attended run, and what an unattended run declares instead of waiting."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from chaoslab.clock import NS_PER_S
from chaoslab.history.confirmations import Answer, Ask, Confirmations
from chaoslab.history.result import ObjectiveResult, Result
from chaoslab.history.rows import Step
from chaoslab.judge.run_record import Record
from chaoslab.judge.verdict import judge
from chaoslab.report.html import render_html
from chaoslab.report.labels import line_of

PAUSE: dict[str, Any] = {"id": "pause", "fault": "service.pause", "service": "app", "site": "west", "heal_after": "9s"}
CALL: dict[str, Any] = {"id": "call", "manual": "Call the lead", "owner": "sre", "delay": "2s", "budget": "6s"}


class Attended:
    """A stage whose run waits for people."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, *steps: dict[str, Any]) -> None:
        (folder / "Makefile").touch()
        self.stage = Stage(folder, patch, PAUSE, *steps)
        self.trial = self.stage.trial(attended=True, facts={"run_id": "abcd"})
        self.people = Confirmations(self.trial[1].path)
        self.asked: list[Ask] = []

    def when_asked(self, step: str, answer: Answer) -> None:
        """Once, a second later."""

        def say() -> None:
            self.asked += self.people.waiting()
            self.stage.after(1.0, lambda: self.people.answer(step, answer))

        self.stage.when(lambda: step in [ask.step for ask in self.people.waiting()], say)

    def play(self) -> Result:
        rows = self.stage.play(self.trial)
        return judge(self.stage.loaded.experiment, self.stage.loaded.compose.spec, rows)


@pytest.fixture
def attended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *steps: Attended(tmp_path, monkeypatch, *steps)


def of_step(result: Result, id_: str) -> ObjectiveResult:
    return next(one for one in result.objectives if one.id == f"step.{id_}")


def test_a_run_waits_until_a_person_confirms(attended: Any) -> None:
    """Not for the delay; what is asked says who is to do what, and until when; then it is asked no longer."""
    run = attended(CALL)
    run.when_asked("call", Answer(by="kim"))
    result = run.play()
    (ask,) = run.asked
    assert (ask.what, ask.owner, ask.run_id) == ("Call the lead", "sre", "abcd")
    (step,) = result.steps
    assert (step.status, step.by, step.declared_s) == ("done", "kim", 0.0)
    assert step.duration_s == pytest.approx(1.1, abs=0.3)
    assert of_step(result, "call").verdict == "pass"
    assert run.people.waiting() == []
    told = [line.text for row in run.stage.rows if isinstance(row, Step) and (line := line_of(row)) is not None]
    assert told == ["manual call: started: sre: Call the lead", "manual call: returned: confirmed by kim", "manual call: done"]


def test_a_person_may_answer_that_it_failed(attended: Any) -> None:
    """Known bad: the step fails for the reason given, and the run goes on."""
    run = attended(CALL)
    run.when_asked("call", Answer(by="kim", failed="the bridge is blocked"))
    result = run.play()
    assert of_step(result, "call").why == "kim answered that it failed: the bridge is blocked"
    assert of_step(result, "call").verdict == "fail"


def test_nobody_confirms(attended: Any) -> None:
    """Known bad: it fails when its budget is over, and an answer that comes later is of no step that waits."""
    run = attended(CALL)
    result = run.play()
    assert of_step(result, "call").why == "not finished within its budget of 6 s: it has not been confirmed"
    assert run.people.waiting() == []


def test_a_person_has_the_delay_and_the_budget_where_the_delay_is_longer(attended: Any) -> None:
    """Four seconds of a delay of five, with a budget of three: in time, and nothing is declared."""
    run = attended({**CALL, "delay": "5s", "budget": "3s"})
    run.stage.when(run.people.waiting, lambda: run.stage.after(4.0, lambda: run.people.answer("call", Answer(by="x"))))
    result = run.play()
    assert of_step(result, "call").verdict == "pass"
    assert result.steps[0].declared_s == 0.0


def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delay: str, **objectives: Any) -> tuple[Result, str]:
    """Users are not served from the fault on, for four seconds; meanwhile a person works for three of them, and longer.

    The result, and its page.
    """
    (tmp_path / "Makefile").touch()
    step = {**CALL, "delay": delay, "budget": "3s"}
    stage = Stage(tmp_path, monkeypatch, PAUSE, step, probe={"rate": 50}, objectives={"app": objectives})

    def worsen() -> None:
        stage.is_bad = True
        stage.after(4.0, lambda: setattr(stage, "is_bad", False))

    stage.when(lambda: stage.count("effective"), worsen)
    rows = stage.play()
    begun, ended = [row.t_ns for row in rows if isinstance(row, Step) and row.event in ("begin", "end")]
    assert (ended - begun) / NS_PER_S == pytest.approx(min(3.0, float(delay.removesuffix("s"))), abs=0.01)
    experiment, spec = stage.loaded.experiment, stage.loaded.compose.spec
    result = judge(experiment, spec, rows)
    return result, render_html(result, experiment, spec, Record.of(rows))


def test_what_is_longer_than_the_budget_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the step, and to the outage that waited for it: 4 s measured and 7 s declared miss an RTO of 10 s."""
    result, page = declared(tmp_path, monkeypatch, "10s", rto="< 10s")
    assert of_step(result, "call").measured == "finished after 3.0 s + 7.0 s declared"
    assert of_step(result, "call").verdict == "pass"
    (rto,) = [one for one in result.objectives if one.id == "app.rto"]
    assert rto.verdict == "fail"
    assert rto.measured.endswith(" s + 7.0 s declared")
    assert "(7.0 s of that declared)" in rto.why
    low = result.services["app"].rto_s.low  # type: ignore[union-attr]
    assert low == pytest.approx(11.0, abs=0.1)
    assert {clock.declared_s for clock in result.clocks} == {7.0}
    assert "3.0 s + 7.0 s declared" in page[page.index('<h2 id="steps">') :]
    assert "7.0 s of it declared" in page


@pytest.mark.parametrize(("delay", "rto"), [("10s", "< 12s"), ("2s", "< 5s")])
def test_what_is_added_does_not_miss_an_objective_that_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delay: str, rto: str
) -> None:
    """And what fits into the budget is waited for, and adds nothing."""
    result, _ = declared(tmp_path, monkeypatch, delay, rto=rto)
    assert next(one for one in result.objectives if one.id == "app.rto").verdict == "pass"


# --- the files --------------------------------------------------------------------------------------------------

ASK = Ask(step="call", what="Call", owner=None, run_id="x", since="1", until="2")


def test_an_answer_is_given_once(tmp_path: Path) -> None:
    """The first counts; files and folder are private."""
    people = Confirmations(tmp_path)
    people.ask(ASK)
    assert people.waiting() == [ASK]
    assert people.answer("call", Answer(by="a"))
    assert not people.answer("call", Answer(by="b"))
    assert people.answer_to("call") == Answer(by="a")
    assert people.waiting() == []
    modes = [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("asks", "asks/call.answer")]
    assert modes == ["0o700", "0o600"]


@pytest.mark.parametrize("plant", ["link", "pipe", "junk", "folder"])
def test_what_is_no_answer_is_none(tmp_path: Path, plant: str) -> None:
    """Known bad: a planted link, a pipe that nobody writes to, and half a file."""
    people, place = Confirmations(tmp_path), tmp_path / "asks/call.answer"
    people.ask(ASK)
    (tmp_path / "elsewhere").write_bytes(b'{"by": "mallory"}')
    match plant:
        case "link":
            place.symlink_to(tmp_path / "elsewhere")
        case "pipe":
            os.mkfifo(place)
        case "junk":
            place.write_bytes(b'{"by": "mal')
        case _:
            place.mkdir()
    assert people.answer_to("call") is None


def test_a_folder_that_is_a_link_asks_nothing(tmp_path: Path) -> None:
    """Known bad: an answer would be written wherever it leads."""
    (tmp_path / "elsewhere").mkdir()
    Confirmations(tmp_path / "elsewhere").ask(ASK)
    (tmp_path / "asks").symlink_to(tmp_path / "elsewhere/asks")
    assert Confirmations(tmp_path).waiting() == []
