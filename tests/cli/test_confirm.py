"""`chaoslab confirm`: what waits, who answers, and why something cannot be answered."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mini_stack import write_experiment

from chaoslab.cleanup import active_runs
from chaoslab.cli.program import cli
from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.history.confirmations import Answer, Ask, Confirmations
from chaoslab.history.folder import RunFolder
from chaoslab.history.rows import Anchor, Step, encode
from chaoslab.spec.load import dump_resolved, load_experiment

FIRE: dict[str, Any] = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "6s"}
STEPS: list[dict[str, Any]] = [
    {"id": "call", "manual": "Call the lead", "owner": "sre", "delay": "2s"},
    {"id": "close", "manual": "Close the ticket", "delay": "2s"},
    {"id": "mend", "run": ["true"]},
]


class Run:
    """A stored run that lives as long as its place in the registry is taken."""

    def __init__(self, project: Path) -> None:
        (project / "Makefile").touch()
        self.folder = RunFolder.create(project / "runs", "mini")
        loaded = load_experiment(write_experiment(project, timeline=[FIRE, *STEPS]))
        self.folder.experiment.write_text(dump_resolved(loaded))
        self.people = Confirmations(self.folder.path)
        self.write(Anchor(t_ns=0, wall="", experiment="mini", run="", runtime="", facts={"run_id": "abcd", "attended": True}))
        self.place = active_runs.enter("abcd")

    def write(self, *rows: Any) -> None:
        with self.folder.history.open("ab") as history:
            history.writelines(map(encode, rows))

    def ask(self, step: str = "call") -> None:
        where = {"run_id": "abcd", "registry": str(active_runs.folder())}
        self.people.ask(Ask(step=step, what="Call the lead", owner="sre", since="10:00", until="10:01", **where))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "own"))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    found = Run(project)
    yield found
    found.place.leave(done=True)


def confirm(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["confirm", *arguments], standalone_mode=False, catch_exceptions=False)


def why_not(*arguments: str) -> str:
    with pytest.raises(SpecError) as refused:
        confirm(*arguments)
    return str(refused.value)


def test_what_waits_is_listed_and_answered(run: Run) -> None:
    """With the command that answers it; the answer says who gave it."""
    run.ask()
    told = confirm().output
    assert told.splitlines()[0] == "call, since 10:00, until 10:01: sre: Call the lead"
    assert told.splitlines()[1].endswith(f"chaoslab confirm runs/mini/{run.folder.path.name} call")
    assert confirm("mini").output == told
    assert confirm("mini", "call").output == "call: confirmed; the run goes on\n"
    answer = run.people.answer_to("call")
    assert answer is not None and answer.by and answer.failed is None
    assert confirm().output == "no step waits for a person\n"


def test_a_failure_is_answered_with_its_reason(run: Run) -> None:
    run.ask()
    confirm("mini", "call", "--failed", "the bridge is blocked")
    answer = run.people.answer_to("call")
    assert answer is not None and answer.failed == "the bridge is blocked"
    assert "it has been answered already, by" in why_not("mini", "call")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("mnii", "call"), "no such run. Did you mean"),
        (("mini", "cal"), "this run has no such step. Did you mean 'call'?"),
        (("mini", "mend"), "it is not a manual step; known: call, close"),
        (("mini", "close"), "it has not begun"),
        (("mini", "--failed", "x"), "name the step that failed"),
    ],
)
def test_what_cannot_be_answered_says_why(run: Run, arguments: tuple[str, ...], why: str) -> None:
    """Known bad: a run, or a step, that there is not, or that does not wait."""
    run.ask()
    assert why in why_not(*arguments)


def test_what_is_over_is_not_answered(run: Run) -> None:
    """Known bad: a step that is done, one that failed, and a run that was killed and left its ask behind."""
    run.write(Step(t_ns=1, id="call", name="manual", event="returned"))
    assert "it is done" in why_not("mini", "call")
    run.write(Step(t_ns=2, id="close", name="manual", event="failed", detail={"why": "it has not been confirmed"}))
    assert "it has failed: it has not been confirmed" in why_not("mini", "close")
    run.ask()
    run.place.leave(done=False)
    assert confirm().output == "no step waits for a person\n"
    assert "it is done" in why_not("mini", "call")


def test_an_answer_that_could_not_be_written_can_be_given_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: a full disk, or a kill, left half an answer, which the run could not read and nobody could replace."""
    run.ask()
    with monkeypatch.context() as full:
        full.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(EnvironmentFault, match="No space left"):
            confirm("mini", "call")
    assert confirm("mini", "call").output == "call: confirmed; the run goes on\n"
    assert [file.name for file in (run.folder.path / "asks").iterdir() if "answer" in file.name] == ["call.answer"]
    assert run.people.answer("call", Answer(by="kim")) is False


def test_a_run_of_another_login_is_found(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Known bad: a login without XDG_RUNTIME_DIR, such as by ssh, looked for living runs elsewhere, and nothing waited."""
    run.ask()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert confirm("mini", "call").output == "call: confirmed; the run goes on\n"
