"""A run works from any thread and any folder: it asks the process for neither."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_stack import FakeStack
from mini_stack import assert_nothing_left, write_experiment

from chaoslab.clock import SYSTEM, Deadline
from chaoslab.errors import ExitCode, SpecError, StackError
from chaoslab.report.status import Status
from chaoslab.report.view import JsonView
from chaoslab.run import runtimes
from chaoslab.run.embedded import EmbeddedRuntime
from chaoslab.run.session import Options, run_once
from chaoslab.spec.load import load_experiment
from chaoslab.spec.stackfile.compose import ComposeFile
from chaoslab.stack.protocol import OnProgress

QUICK = {"fault": "service.kill", "service": "app", "site": "east", "id": "kill", "heal_after": "2s"}
EXEC = {"id": "f", "fault": "exec", "inject": ["touch", "x"], "heal": ["rm", "-f", "x"], "verify": ["test", "-e", "x"]}
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Watching(JsonView):
    """Notes the handlers of signals while the run is under way."""

    def __init__(self) -> None:
        self.handlers: set[object] = set()

    def tick(self, status: Status) -> None:
        self.handlers |= {signal.getsignal(number) for number in HANDLED}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, with the process standing elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "project/.git").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    return tmp_path / "project"


def test_a_run_in_a_thread_from_another_folder(project: Path, tmp_path: Path) -> None:
    """Its folder lies below the project, nothing beside the process; signals stay whoever's they were."""
    loaded, view = load_experiment(write_experiment(project, timeline=[QUICK])), Watching()
    before = {signal.getsignal(number) for number in HANDLED}
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(run_once, loaded, Options(project, signals=True), view).result(120)
    assert outcome.result.verdict in ("pass", "inconclusive"), outcome.result.reasons  # this machine may be busy
    assert outcome.exit_code in (ExitCode.PASS, ExitCode.INCONCLUSIVE)
    assert outcome.folder.path.parent == project / "runs/mini"
    assert outcome.folder.report.exists()
    assert outcome.result.faults[0].verified
    assert [*(tmp_path / "elsewhere").iterdir()] == []
    assert view.handlers == before
    assert_nothing_left(outcome.folder.path)


class Stillborn(FakeStack):
    """Does not come up: a run on it is over soon."""

    def up(self, deadline: Deadline, on_progress: OnProgress) -> None:
        SYSTEM.sleep(0.5)
        raise StackError("it does not come up")


class StillbornRuntime(EmbeddedRuntime):
    def make(self, compose: ComposeFile, run_id: str, data: Path, logs: Path) -> Stillborn:
        return Stillborn(compose.topology())


@pytest.mark.parametrize("wanted", [False, True])
def test_signals_are_taken_only_where_options_say_so(project: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    """A program that embeds a run keeps its own handlers; a run that is asked to takes them for a while."""
    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(runtimes, "get", lambda _: StillbornRuntime())
    before, view = {signal.getsignal(number) for number in HANDLED}, Watching()
    options = Options(project, signals=wanted, root=project / "elsewhere")
    outcome = run_once(load_experiment(write_experiment(project, timeline=[QUICK])), options, view)
    assert (outcome.exit_code, outcome.folder.path.parent) == (ExitCode.ERROR, project / "elsewhere/mini")
    assert view.handlers
    assert (view.handlers == before) is not wanted
    assert {signal.getsignal(number) for number in HANDLED} == before


def test_whose_commands_run_is_asked_of_the_project(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Known bad: a process that stands in the folder of somebody else's spec made its commands the project's own."""
    foreign = tmp_path / "foreign"
    (foreign / ".git").mkdir(parents=True)
    monkeypatch.chdir(foreign)
    loaded = load_experiment(write_experiment(foreign, timeline=[EXEC]))
    with pytest.raises(SpecError, match="lies outside this project"):
        run_once(loaded, Options(project))
    assert not (project / "runs").exists()
