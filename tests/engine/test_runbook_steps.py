"""The steps that an experiment writes into its timeline, on the fake stack: rows, order, undo, and how each is judged."""

from __future__ import annotations

import json
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_stack import FakeStack
from stage import Stage

from chaoslab import process
from chaoslab.cleanup.journal import RunCommand, UndoJournal, open_steps, undo
from chaoslab.clock import NS_PER_S, SYSTEM, Deadline, wait_until
from chaoslab.engine.steps import StepRunner
from chaoslab.engine.timeline_steps import Surroundings, planned_step
from chaoslab.faults.command import MARK
from chaoslab.history.result import ObjectiveResult, Result
from chaoslab.history.rows import AnyRow, Step
from chaoslab.judge.run_record import Record
from chaoslab.judge.verdict import judge
from chaoslab.kill import kill
from chaoslab.report.html import render_html
from chaoslab.report.junit import render_junit
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Address
from chaoslab.spec.step import RunStep

PAUSE: dict[str, Any] = {"id": "pause", "fault": "service.pause", "service": "app", "site": "west", "heal_after": "2s"}
MINI = Path(__file__).parents[1] / "mini"
APP = "http://app-east:8000"


class Replica(BaseHTTPRequestHandler):
    """Answers with a count, and counts each POST; /down refuses."""

    asked: list[tuple[str, Any]]

    def do_GET(self) -> None:
        self.answer(200, {"asked": len(self.asked)})

    def do_POST(self) -> None:
        self.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.answer(503 if self.path == "/down" else 201, {"moved": len(self.asked)})

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def replica() -> Iterator[Address]:
    """It was there before any stage, whose clock waits for each thread begun after it."""
    with HTTPServer(("127.0.0.1", 0), Replica) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Address("127.0.0.1", server.server_port)
        server.shutdown()
        thread.join()


class Runs:
    """Stages in a folder, whose replicas are all the one above."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, replica: Address) -> None:
        self.folder, self._patch, self._replica = folder, patch, replica
        Replica.asked = []
        (folder / "Makefile").touch()  # a project

    def stage(self, *steps: dict[str, Any], **more: Any) -> Stage:
        self._patch.setattr(FakeStack, "address", lambda *_, seen_from=OUTSIDE: self._replica)
        return Stage(self.folder, self._patch, PAUSE, *steps, **more)

    def play(self, *steps: dict[str, Any], **more: Any) -> tuple[Stage, Result]:
        stage = self.stage(*steps, **more)
        rows = stage.play()
        return stage, judge(stage.loaded.experiment, stage.loaded.compose.spec, rows)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replica: Address) -> Runs:
    return Runs(tmp_path, monkeypatch, replica)


def events(stage: Stage, id_: str) -> list[tuple[str, float]]:
    start_ns = next(row.t_ns for row in stage.rows if getattr(row, "phase", "") == "faults")
    return [(row.event, (row.t_ns - start_ns) / NS_PER_S) for row in stage.rows if isinstance(row, Step) and row.id == id_]


def of_step(result: Result, id_: str) -> ObjectiveResult:
    return next(one for one in result.objectives if one.id == f"step.{id_}")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


# --- commands ---------------------------------------------------------------------------------------------------


def test_a_command_runs_in_the_project_and_its_output_is_kept(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the folder of the process; the entry's URL is in its environment."""
    monkeypatch.chdir("/")
    code = "import os; print(os.getcwd()); print(os.environ['CHAOSLAB_ENTRY'][:17])"
    stage, result = runs.play({"id": "look", "at": "1s", "run": python(code), "within": "< 1s"})
    assert [event for event, _ in events(stage, "look")] == ["begin", "returned", "end"]
    (step,) = result.steps
    assert (step.kind, step.status, step.output) == ("run", "done", f"{tmp_path}\nhttp://127.0.0.1:")
    assert of_step(result, "look").verdict == "pass"
    assert (stage.folder.logs / "step-look.log").read_text().startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ({"run": python("print('no such site'); raise SystemExit(3)")}, "exit status 3"),
        ({"run": ["./no-such-program"]}, "cannot start ./no-such-program"),
        ({"run": ["echo", "\0"]}, "embedded null byte"),
        ({"run": ["true"], "verify": {"get": f"{APP}/", "expect": "asked == `9`"}, "budget": "3s"}, "within its budget of 3 s"),
        ({"run": ["true"], "precondition": {"get": f"{APP}/", "expect": "asked == `9`"}}, "its precondition does not hold"),
        ({"http": {"path": "/down", "json": {}}}, "status 503, expected 2xx"),
        ({"http": {"path": "/x", "headers": {"X": "\ud1a0\ud070"}}}, "a header holds a character that HTTP does not allow"),
        ({"http": {"url": f"{APP}/x", "json": {}, "status": 200}}, "status 201, expected 200"),
        ({"manual": "call", "delay": "2s", "within": "< 1s"}, "it took 2.0 s"),
    ],
)
def test_a_step_that_fails_fails_its_objective_alone(runs: Runs, step: dict[str, Any], why: str) -> None:
    """Known bad, each in its way: the run goes on, and fails for the step."""
    stage, result = runs.play({"id": "mend", **step})
    judged = of_step(result, "mend")
    assert (judged.verdict, result.verdict) == ("fail", "fail")
    assert why in judged.why
    assert stage.notes("error") == []
    assert any(getattr(row, "phase", "") == "failback" for row in stage.rows)


def test_a_command_that_exceeds_its_budget_is_ended(tmp_path: Path) -> None:
    """With what it started; on the machine's clock, since a real process sleeps."""
    written: list[Any] = []
    stack = FakeStack(load_stack([MINI / "compose.yaml"]).topology())
    around = Surroundings(stack, UndoJournal(tmp_path / "undo.jsonl"), tmp_path, written.append, SYSTEM)
    code = "import subprocess; print('begun', flush=True); subprocess.run(['sleep', '60'])"
    plan = planned_step(RunStep(id="hang", run=python(code), budget="500ms", cwd=tmp_path), around)  # type: ignore[arg-type]
    runner = StepRunner([], written.append, SYSTEM)
    runner.carry_out(plan)
    assert [row.event for row in written] == ["begin", "failed"]
    assert written[-1].detail["why"] == "not finished within its budget of 0.5 s: it has not ended"
    assert process.marked(MARK, plan.step.token) == []  # type: ignore[attr-defined]
    runner.close()
    runner.end_all()
    assert runner.unended == []
    assert open_steps(tmp_path / "undo.jsonl") == []


def test_a_command_that_hides_its_environment_is_ended_all_the_same(tmp_path: Path) -> None:
    """Known bad: only what carried the mark of the step was ended, and `env -i` takes that away."""
    written: list[Any] = []
    stack = FakeStack(load_stack([MINI / "compose.yaml"]).topology())
    around = Surroundings(stack, UndoJournal(tmp_path / "undo.jsonl"), tmp_path, written.append, SYSTEM)
    hidden = ["env", "-i", sys.executable, "-c", "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"]
    plan = planned_step(RunStep(id="hang", run=hidden, budget="700ms", cwd=tmp_path), around)  # type: ignore[arg-type]
    StepRunner([], written.append, SYSTEM).carry_out(plan)
    assert [row.event for row in written] == ["begin", "failed"]
    pid = int((tmp_path / "pid").read_text())
    try:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    finally:
        kill([pid], Deadline.after(2.0))


def test_after_a_kill_a_command_that_hides_its_environment_is_ended(tmp_path: Path) -> None:
    """By the journal alone, as its reaper does. Known bad: it went on for ever, because nothing carried the mark."""
    stack = FakeStack(load_stack([MINI / "compose.yaml"]).topology())
    around = Surroundings(stack, UndoJournal(tmp_path / "undo.jsonl"), tmp_path, lambda _: None, SYSTEM)
    hidden = ["env", "-i", sys.executable, "-c", "import time; open('begun', 'w').close(); time.sleep(60)"]
    step = planned_step(RunStep(id="hang", run=hidden, cwd=tmp_path), around).step
    step.begin()
    try:
        wait_until("the command", lambda: ((tmp_path / "begun").exists(), "nothing"), Deadline.after(20.0))
        assert undo(tmp_path / "undo.jsonl") == []
        child = step.child  # type: ignore[attr-defined]
        assert process.is_dead(child)
    finally:
        step.end()


def test_page_and_junit_show_steps_with_what_they_said(runs: Runs) -> None:
    """As text: a hostile output stays one."""
    loud = python("print('<script>alert(1)</script>'); raise SystemExit(1)")
    stage, result = runs.play({"id": "loud", "run": loud}, {"id": "quiet", "manual": "Wait", "delay": "1s"})
    page = render_html(result, stage.loaded.experiment, stage.loaded.compose.spec, Record.of(stage.rows))
    table = page[page.index('<h2 id="steps">') :]
    assert "<code>&lt;script&gt;alert(1)&lt;/script&gt;</code>" in table
    assert "<script" not in page
    assert "manual Wait: done" in page, "in the chart"
    cases = {case.get("name"): case for case in ET.fromstring(render_junit(result)).iter("testcase")}  # noqa: S314
    assert [child.tag for child in cases["step.loud"]] == ["failure"]
    assert [*cases["step.quiet"]] == []


# --- order ------------------------------------------------------------------------------------------------------


def test_steps_come_after_effects_heals_and_steps(runs: Runs) -> None:
    """`at` counts from there; a person's work takes the delay that stands for it."""
    stage, result = runs.play(
        {"id": "call", "at": "500ms", "after": "pause", "manual": "Call the lead", "owner": "sre", "delay": "2s"},
        {"id": "mend", "at": "250ms", "after": "call", "run": ["true"]},
        {"id": "close", "after_heal": "pause", "run": ["true"]},
    )
    assert events(stage, "call") == [("begin", 0.5), ("returned", 2.5), ("end", 2.5)]
    over_s = pytest.approx(2.75, abs=0.3)
    assert events(stage, "mend")[0] == ("begin", over_s)
    assert events(stage, "mend")[0][1] >= 2.75
    assert events(stage, "close")[0][1] >= stage.seconds("pause", "healed")
    assert [step.status for step in result.steps] == ["done", "done", "done"]
    assert result.steps[0].what == "sre: Call the lead"


def test_what_comes_after_a_step_that_failed_is_skipped(runs: Runs) -> None:
    """It shows nothing about itself: inconclusive, and so is what comes after that."""
    _, result = runs.play(
        {"id": "one", "run": ["false"]},
        {"id": "two", "after": "one", "run": ["true"]},
        {"id": "three", "after": "two", "run": ["true"]},
    )
    assert [(one.id, one.status) for one in result.steps] == [("one", "failed"), ("two", "skipped"), ("three", "skipped")]
    assert [of_step(result, id_).verdict for id_ in ("one", "two", "three")] == ["fail", "inconclusive", "inconclusive"]
    assert of_step(result, "two").why == "it did not begin: it comes after one, which failed"


def test_a_step_that_is_cut_is_inconclusive(runs: Runs) -> None:
    """Known bad: a person asks the run to stop while the step is under way; one that is due later never begins."""
    stage = runs.stage({"id": "call", "manual": "call", "delay": "5s"}, {"id": "later", "at": "9s", "run": ["true"]})
    stage.when(lambda: stage.count("effective"), lambda: stage.session.stop("ended by SIGINT"))
    rows = stage.play()
    result = judge(stage.loaded.experiment, stage.loaded.compose.spec, rows)
    assert [step.status for step in result.steps] == ["cut"]
    assert [(of_step(result, id_).verdict, of_step(result, id_).why) for id_ in ("call", "later")] == [
        ("inconclusive", "it was under way when the run ended"),
        ("inconclusive", "it did not begin"),
    ]


# --- undo -------------------------------------------------------------------------------------------------------


def test_the_undo_is_on_the_disk_before_the_step_and_runs_at_the_end(runs: Runs, tmp_path: Path) -> None:
    """The step itself reads the journal; after the trial nothing is open."""
    look = python("print(open('undo.jsonl').read())")
    stage, result = runs.play({"id": "move", "run": look, "undo": ["touch", "undone"]})
    assert '"run-command","command":["touch","undone"]' in result.steps[0].output
    assert events(stage, "move")[-1][0] == "undone"
    assert (tmp_path / "undone").exists()
    assert open_steps(stage.journal.path) == []


def test_an_undo_that_nobody_ran_is_the_reapers(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a kill -9: the journal alone is enough, and the folder is in it."""
    stage = runs.stage({"id": "move", "run": ["true"], "undo": ["touch", "undone"]})
    monkeypatch.setattr(StepRunner, "end_all", lambda _: None)
    stage.play()
    assert not (tmp_path / "undone").exists()
    assert [step.cwd for _, step in open_steps(stage.journal.path) if isinstance(step, RunCommand)] == [str(tmp_path)]
    monkeypatch.chdir("/")
    assert undo(stage.journal.path) == []
    assert (tmp_path / "undone").exists()


@pytest.mark.parametrize(("command", "why"), [("false", "false: exit status 1"), ("./nowhere", "cannot run ./nowhere")])
def test_an_undo_that_fails_is_told_and_stays_open(runs: Runs, command: str, why: str) -> None:
    """Known bad: the stack is not left to another trial, and the reaper tries once more."""
    stage = runs.stage({"id": "move", "run": ["true"], "undo": [command]})
    stage.play(stage.trial(last=False))
    assert events(stage, "move")[-1][0] == "undone"
    assert any(f"could not be undone: {why}" in text for text in stage.notes("warning"))
    assert "could not be undone" in (stage.session.why_unusable() or "")
    assert [step for _, step in open_steps(stage.journal.path) if isinstance(step, RunCommand)] != []


# --- requests and conditions ------------------------------------------------------------------------------------


def test_a_request_is_verified_by_a_condition(runs: Runs) -> None:
    """Sent once, with its JSON; the condition was false before, so the objective could have been missed."""
    moved = {"get": f"{APP}/", "expect": "asked == `1`"}
    _, result = runs.play({"id": "move", "http": {"path": "/move", "json": {"to": "west"}}, "verify": [moved]})
    assert Replica.asked == [("/move", {"to": "west"})]
    assert (result.steps[0].status, result.steps[0].output) == ("done", '{"moved": 1}')
    assert of_step(result, "move").verdict == "pass"


@pytest.mark.parametrize(("wanted", "verdict", "why"), [("1", "pass", ""), ("0", "inconclusive", "already holds")])
def test_a_condition_is_brought_about(runs: Runs, wanted: str, verdict: str, why: str) -> None:
    """A switchover, as the stack says how. Known bad: one that holds already, which would have shown nothing."""
    condition = {"get": f"{APP}/", "expect": f"asked == `{wanted}`", "bring_about": {"post": f"{APP}/switchover", "json": {}}}
    overlay = {"x-chaoslab": {"conditions": {"led-from-west": condition}}}
    _, result = runs.play({"id": "move", "bring_about": "led-from-west", "budget": "8s"}, overlay=overlay)
    judged = of_step(result, "move")
    assert judged.verdict == verdict
    assert why in judged.why
    assert [path for path, _ in Replica.asked] == (["/switchover"] if verdict == "pass" else [])


def test_a_request_names_variables(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their values are in what is sent, and in nothing that is stored; one that is not set fails the step."""
    monkeypatch.setenv("WHERE", "west")
    call = {"path": "/move/${WHERE}", "json": {"to": ["${WHERE}"]}}
    stage, result = runs.play({"id": "move", "http": call}, {"id": "more", "http": {"path": "/${NOWHERE}", "json": {}}})
    assert Replica.asked == [("/move/west", {"to": ["west"]})]
    assert "west" not in next(str(row.detail) for row in stage.rows if isinstance(row, Step) and row.event == "begin")
    assert of_step(result, "more").why == "the environment variable NOWHERE is not set"


def test_a_step_is_not_done_from_a_place_that_is_cut_off(runs: Runs) -> None:
    """Known bad: the runner of the runbook stands in the site that burns."""
    cut = {"id": "cut", "fault": "site.isolate", "site": "east", "at": "500ms", "heal_after": "2s"}
    steps = ({"id": "near", "after": "cut", "from": "east", "run": ["true"]}, {"id": "far", "from": "west", "run": ["true"]})
    _, result = runs.play(cut, *steps)
    assert of_step(result, "near").why == "it did not begin: it would run from east, which is cut off"
    assert [of_step(result, id_).verdict for id_ in ("near", "far")] == ["fail", "pass"]


def test_requests_are_sent_from_the_place_of_their_step(runs: Runs) -> None:
    """Known bad: they were sent by the harness, which no fault cuts off, so a runbook worked that could not have."""
    cut = {"id": "cut", "fault": "link.cut", "from": "west", "to": "east", "mode": "refuse", "heal_after": "6s"}
    condition = {"get": f"{APP}/", "expect": "asked == `1`", "bring_about": {"post": f"{APP}/switchover", "json": {}}}
    asked = {"http": {"url": f"{APP}/move", "json": {}}}
    steps = (
        {"id": "far", "after": "cut", "from": "west", **asked},
        {"id": "near", "after": "cut", "from": "east", **asked},
        {"id": "led", "after": "cut", "from": "west", "bring_about": "led-from-west", "budget": "2s"},
    )
    _, result = runs.play(cut, *steps, overlay={"x-chaoslab": {"conditions": {"led-from-west": condition}}})
    assert [of_step(result, id_).verdict for id_ in ("far", "near", "led")] == ["fail", "pass", "fail"]
    assert of_step(result, "far").why.startswith(f"POST {APP}/move: ConnectionRefusedError")
    assert Replica.asked == []


def test_a_step_is_no_event_for_clocks(runs: Runs) -> None:
    """Users notice the fault only after the step: the time counts from the fault all the same."""
    stage = runs.stage({"id": "mend", "at": "500ms", "run": ["true"]}, probe={"rate": 50})

    def worsen() -> None:
        stage.after(0.8, lambda: setattr(stage, "is_bad", True))
        stage.after(1.2, lambda: setattr(stage, "is_bad", False))

    stage.when(lambda: stage.count("effective"), worsen)
    rows: list[AnyRow] = stage.play()
    result = judge(stage.loaded.experiment, stage.loaded.compose.spec, rows)
    assert {(clock.cause, clock.event, clock.kind) for clock in result.clocks} == {("pause", "inject", "rto")}
    assert all(clock.low > 1.0 for clock in result.clocks)
