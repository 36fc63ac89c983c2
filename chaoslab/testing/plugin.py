"""Experiments as tests: `pytest experiments/` runs each of them once, and every objective is a test of its own.

Registered as the pytest plugin `chaoslab`. It does nothing in a session that collects no experiment. A file is one when it
lies in a folder named `experiments` and has a key of an experiment at its top: one with a misspelt timeline is an error.

A missed objective is a failure. What could not be measured (inconclusive, aborted, error) is an *error*, never a skip or a
pass. A known-bad has one test: that it ends as it expects.

For a team's own tests there are the fixtures `chaoslab_stack` and `chaoslab_run`, and the mark `chaoslab`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chaoslab.testing import worker
from chaoslab.testing.outcome import NotProven, ObjectiveMissed

if TYPE_CHECKING:
    from chaoslab.history.result import Result
    from chaoslab.spec.load import Loaded
    from chaoslab.testing.fixtures import ChaoslabRun, ChaoslabStack

_FOLDER = "experiments"
_KEY = re.compile(rb"^(timeline|stack|steady_state|failback|objectives)\s*:", re.MULTILINE)
_READ_MAX = 1 << 20
_MARKS_OF_PYTEST = ("skip", "skipif", "xfail", "parametrize", "usefixtures", "filterwarnings")  # would make a red test green
_PROOF = "proof"
RUN, AS_EXPECTED = "run", "as-expected"
_STACK = pytest.StashKey["ChaoslabStack"]()
_LINES = pytest.StashKey[list[str]]()  # of the summary


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaoslab", "experiments as tests")
    group.addoption("--chaoslab-runtime", default="auto", metavar="NAME", help="Where stacks run: auto, embedded, compose, …")
    group.addoption(
        "--chaoslab-set", action="append", default=[], metavar="KEY=VALUE", help="Change one value of every experiment."
    )
    binds = "Let stacks write to your bind mounts and external volumes, not to copies."
    group.addoption("--chaoslab-use-binds", action="store_true", help=binds)


def pytest_configure(config: pytest.Config) -> None:
    """Refuses a change without KEY=VALUE, which would be ignored silently. Raises UsageError."""
    for pair in config.getoption("--chaoslab-set"):
        if "=" not in pair.strip("="):
            raise pytest.UsageError(f"--chaoslab-set: {pair!r} is not KEY=VALUE, such as load.users=5")
    config.addinivalue_line("markers", "chaoslab(experiment, set={}): the experiment of chaoslab_run, and whose stack is up")
    config.stash[_LINES] = []


# --- a team's own tests -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chaoslab_stack(request: pytest.FixtureRequest) -> Iterator[ChaoslabStack]:
    """One stack for the session: booted when a test first needs it, and proven clean and steady before each test after that."""
    from chaoslab.testing.fixtures import ChaoslabStack

    config = request.config
    runtime, changes = config.getoption("--chaoslab-runtime"), _changes(config)
    use_binds = bool(config.getoption("--chaoslab-use-binds"))
    stack = ChaoslabStack(config.rootpath, runtime, changes, lambda text: worker.say(config, text), use_binds=use_binds)
    config.stash[_STACK] = stack
    try:
        yield stack
    finally:
        used = stack.summary()
        config.stash[_LINES] += [used] if used else []
        stack.close()


@pytest.fixture
def chaoslab_run(request: pytest.FixtureRequest, chaoslab_stack: ChaoslabStack) -> ChaoslabRun:
    """Runs an experiment on that stack: `chaoslab_run("fire", set={"load.users": 5})` gives its result."""
    from chaoslab.testing.fixtures import ChaoslabRun

    return ChaoslabRun(chaoslab_stack, request.node)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests that use the stack share a worker of `--dist loadgroup`, and their runs have deadlines of their own."""
    if "chaoslab_stack" in getattr(item, "fixturenames", ()):
        if item.config.pluginmanager.hasplugin("xdist"):
            item.add_marker(pytest.mark.xdist_group("chaoslab"))
        if item.config.pluginmanager.hasplugin("timeout") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(0))


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """After the fixtures. Raises NotProven, so the test is an error, when its stack is not clean and steady."""
    if "chaoslab_stack" not in getattr(item, "fixturenames", ()):
        return
    from chaoslab.testing.fixtures import of_mark

    stack, marked = item.config.stash[_STACK], of_mark(item)
    shown = stack.prove(stack.load(*marked) if marked else None)
    if shown is not None:
        item.add_report_section("setup", "chaoslab", shown)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was not proven is an error in every phase: it gets a phase of its own, and xfail does not hide it."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, NotProven):
        report.outcome = "failed"
        if hasattr(report, "wasxfail"):
            del report.wasxfail
        if call.when == "call":
            report.when = _PROOF  # type: ignore[assignment]  # of "call", JUnit makes a failure
        else:
            report.longrepr = str(call.excinfo.value)
    return report


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """As errors of setup and teardown are counted and shown."""
    return ("error", "E", "ERROR") if report.when == _PROOF else None


# --- sessions of pytest-xdist -------------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    worker.configure(node.config, node.workerinput)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", None)
    node.config.stash[_LINES] += (output or {}).get("chaoslab_lines", [])
    worker.remove_shared(node.config, output)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["chaoslab_lines"] = session.config.stash[_LINES]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in config.stash[_LINES]:
        terminalreporter.write_line(f"chaoslab: {line}")


def pytest_unconfigure(config: pytest.Config) -> None:
    worker.clean_up(config)


# --- experiments as tests -----------------------------------------------------------------------------------------


def _changes(config: pytest.Config) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in config.getoption("--chaoslab-set"))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ExperimentFile | None:
    """An experiment, where this is one."""
    if file_path.suffix not in (".yaml", ".yml") or file_path.parent.name != _FOLDER:
        return None
    with file_path.open("rb") as content:
        found = _KEY.search(content.read(_READ_MAX))
    return ExperimentFile.from_parent(parent, path=file_path) if found else None


class ExperimentFile(pytest.File):
    """One experiment. It is run when the first of its tests is, and never twice in a session."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._judged: tuple[Result, Path] | None = None
        self._failed: BaseException | None = None

    def collect(self) -> Iterator[ObjectiveItem]:
        """A test for each objective that is promised, and one for the run as a whole. Marked with the experiment's tags."""
        from chaoslab.errors import ChaoslabError
        from chaoslab.spec.load import load_experiment

        try:
            loaded = load_experiment(
                self.path, _changes(self.config), use_binds=bool(self.config.getoption("--chaoslab-use-binds"))
            )
        except ChaoslabError as wrong:
            raise self.CollectError(str(wrong)) from None
        tags = loaded.experiment.tags
        for tag in tags:
            self.config.addinivalue_line("markers", f"{tag}: a tag of experiments")
        for name in self._names(loaded):
            item = ObjectiveItem.from_parent(self, name=name, loaded=loaded)
            for tag in tags:
                if tag not in _MARKS_OF_PYTEST:
                    item.add_marker(tag)
            if self.config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group(self.path.stem))
            if self.config.pluginmanager.hasplugin("timeout"):
                item.add_marker(pytest.mark.timeout(0))  # a run has deadlines of its own; pytest-timeout would cut it off
            yield item

    def _names(self, loaded: Loaded) -> Iterator[str]:
        from chaoslab.spec.objectives import objectives_for, promised_names

        if loaded.experiment.expect is not None:
            yield AS_EXPECTED
            return
        for service, promised in objectives_for(loaded.experiment, loaded.compose.spec).items():
            found = promised_names(promised, planned_change=loaded.experiment.is_planned_change)
            yield from (
                f"{service}.{promise}"
                for promise in sorted(found - {"unaffected"} | ({"rto"} if "unaffected" in found else set()))
            )
        yield from (f"step.{step.id}" for step in loaded.experiment.steps)
        yield from (f"restore.{step.id}" for step in loaded.experiment.steps if step.restores)
        yield RUN

    def judged(self, loaded: Loaded) -> tuple[Result, Path]:
        """The result of the run and its folder. Raises what the run raised, each time that it is asked."""
        if self._failed is not None:
            raise self._failed
        if self._judged is None:
            try:
                self._judged = self._run(loaded)
            except BaseException as failed:  # whatever ends it, the next test must not run the experiment again
                self._failed = failed
                raise
        return self._judged

    def _run(self, loaded: Loaded) -> tuple[Result, Path]:
        """Under a lock of the whole machine: with xdist, one worker runs an experiment and the others read what came of it."""
        from chaoslab.cleanup.active_runs import alone
        from chaoslab.history.folder import RunFolder
        from chaoslab.run import runtimes
        from chaoslab.run.session import Options, run_once

        shared = worker.shared_file(self.config, self.path)
        say = partial(worker.say, self.config)
        if _STACK in self.config.stash:
            self.config.stash[_STACK].close()  # one stack at a time
        with alone(lambda: say("another experiment runs on this machine; waiting for its end")):
            if shared is not None and shared.exists():
                folder = RunFolder(Path(shared.read_text()))
                return folder.read_result(), folder.path
            project = self.config.rootpath
            runtime, _ = runtimes.choose_runtime(self.config.getoption("--chaoslab-runtime"), loaded)
            outcome = run_once(loaded, Options(project, runtime.name))
            if shared is not None:
                shared.write_text(str(outcome.folder.path))
            return outcome.result, outcome.folder.path


class ObjectiveItem(pytest.Item):
    """One objective of one experiment."""

    parent: ExperimentFile

    def __init__(self, *, loaded: Loaded, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._loaded = loaded

    def setup(self) -> None:
        """The run, and whether this objective was measured at all: an error here is pytest's error, not its failure."""
        result, folder = self.parent.judged(self._loaded)
        verdict, text = self._outcome(result, folder)
        if verdict not in ("pass", "fail"):
            raise NotProven(text)

    def runtest(self) -> None:
        result, folder = self.parent.judged(self._loaded)
        verdict, text = self._outcome(result, folder)
        if verdict == "fail":
            raise ObjectiveMissed(text)

    def _outcome(self, result: Result, folder: Path) -> tuple[str, str]:
        """The verdict on this test, and the text of its failure. A run that left something behind is no pass."""
        from chaoslab.errors import ExitCode, exit_code_of

        report = f"report: {os.path.relpath(folder / 'report.html', self.config.rootpath)}"
        left = [f"left behind: {thing}" for thing in result.left_behind]
        is_unclean = exit_code_of(result) is ExitCode.UNCLEAN
        if self.name == AS_EXPECTED:
            from chaoslab.judge.verdict import as_expected

            fine, why = as_expected(result, self._loaded.experiment)
            verdict = "pass" if fine else "fail" if result.verdict in ("pass", "fail") else "inconclusive"
            verdict = "unclean" if fine and is_unclean else verdict
            return verdict, "\n".join([f"{result.experiment}: {why}", *result.reasons, *left, report])
        if self.name == RUN:
            verdict = "unclean" if result.verdict == "pass" and is_unclean else result.verdict
            return verdict, "\n".join([f"{result.experiment}: {verdict}", *result.reasons, *left, report])
        found = next((one for one in result.objectives if one.id == self.name), None)
        if found is None:  # the run ended before it could be judged
            return "inconclusive", "\n".join([f"{self.name}: not judged", *result.reasons, report])
        return found.verdict, "\n".join(
            [f"{found.id}: {found.verdict}; measured {found.measured}, objective {found.objective}", found.why, report]
        )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any, **__: Any) -> Any:
        """Words for what the experiment came to; a traceback for what broke."""
        from chaoslab.errors import ChaoslabError

        if isinstance(excinfo.value, ObjectiveMissed | NotProven | ChaoslabError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.parent.path.stem}: {self.name}"
