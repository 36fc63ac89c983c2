"""Fixtures for a team's own pytest tests: one booted stack for the whole session, and experiments run on it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chaoslab.cleanup.active_runs import alone
from chaoslab.errors import ChaoslabError, ExitCode
from chaoslab.history.result import Result
from chaoslab.judge.verdict import as_expected
from chaoslab.run import runtimes
from chaoslab.run.session import Options, RunOutcome
from chaoslab.run.shared_stack import SharedStack
from chaoslab.spec.load import Loaded, find_experiment, load_experiment
from chaoslab.stack.protocol import Stack
from chaoslab.testing.outcome import NotProven, ObjectiveMissed


class ChaoslabStack:
    """The fixture `chaoslab_stack`: the stack of the experiment that was used last, at most one at a time.

    It is booted when a test first needs it. Before each further test that uses it, it is proven clean and in its steady state;
    one that is not is rebooted, which is reported. On this machine, one session at a time boots, proves or runs.
    """

    def __init__(
        self,
        project: Path,
        runtime: str,
        changes: Mapping[str, str],
        say: Callable[[str], None],
        *,
        use_binds: bool = False,
    ) -> None:
        """`runtime`: a name, or auto. `changes`: made to every experiment. `say`: is given what happens, a line each.

        `use_binds`: as of `load_experiment`.
        """
        self._project, self._runtime, self._changes, self._say = project, runtime, changes, say
        self._use_binds = use_binds
        self._shared: SharedStack | None = None
        self._shared_runtime = ""
        self._left: list[str] = []  # by stacks on another runtime, in words
        self._steady: Loaded | None = None  # an experiment whose steady state was reached on this stack
        self._boots_s: list[float] = []
        self._proofs_s: list[float] = []
        self._runs = 0

    @property
    def stack(self) -> Stack:
        """The stack that is up: its states, its links, its replicas. Raises NotProven when there is none."""
        found = self._shared.stack if self._shared is not None else None
        if found is None:
            raise NotProven('no stack is up: mark the test with @pytest.mark.chaoslab("NAME"), or run an experiment first')
        return found

    @property
    def url(self) -> str:
        """The entry of the stack, such as http://127.0.0.1:34567. Raises as `stack`."""
        return f"http://{self.stack.address(*self.stack.topology.entry)}"

    def load(self, experiment: str | Path, changes: Mapping[str, Any]) -> Loaded:
        """An experiment by its name or its path below the project. Raises NotProven with all that is wrong."""
        written = {key: value if isinstance(value, str) else json.dumps(value) for key, value in changes.items()}
        try:
            file = find_experiment(str(experiment), self._project)
            return load_experiment(file, {**self._changes, **written}, use_binds=self._use_binds)
        except ChaoslabError as wrong:
            raise NotProven(str(wrong)) from None

    def prove(self, loaded: Loaded | None = None) -> str | None:
        """Have the stack up, clean and steady, before a test; in words, how long that took.

        Without `loaded` the stack that is up, if there is one, as steady as it was for an earlier test. Raises NotProven.
        """
        is_up = self._shared is not None and self._shared.stack is not None
        if (loaded := loaded or (self._steady if is_up else None)) is None:
            return None
        with self._on_this_machine():
            readied = self._stack_for(loaded).ready(loaded)
        self._steady = loaded
        took = self._boots_s if readied.booted else self._proofs_s
        took.append(readied.took_s)
        what = "booted and steady" if readied.booted else "clean and steady"
        return f"the stack of {loaded.experiment.name}: {what} after {readied.took_s:.1f} s"

    def run(self, loaded: Loaded) -> RunOutcome:
        """One run on the stack, with a folder of its own. Raises NotProven when it could not even begin."""
        with self._on_this_machine():
            outcome = self._stack_for(loaded).run(loaded)
        self._runs += 1
        if outcome.result.verdict in ("pass", "fail"):
            self._steady = loaded
        elif self._steady is not None and self._steady.compose != loaded.compose:
            self._steady = None
        return outcome

    def close(self) -> None:
        """Take the stack down, if one is up. Raises NotProven when something was left behind."""
        left, self._left = self._left, []
        left += self._shared.close() if self._shared is not None else []
        if left:
            raise NotProven("\n".join(f"left behind: {thing}" for thing in left))

    def summary(self) -> str | None:
        """What it was used for, in words, if it was."""
        if not self._runs and not self._boots_s:
            return None
        proven = f"verified clean and steady {len(self._proofs_s)} times"
        longest = f", in at most {max(self._proofs_s):.1f} s" if self._proofs_s else ""
        booted = f", booted before a test {len(self._boots_s)} times" if self._boots_s else ""
        return f"{self._runs} runs on shared stacks, {proven}{longest}{booted}"

    def _stack_for(self, loaded: Loaded) -> SharedStack:
        runtime, _ = runtimes.choose_runtime(self._runtime, loaded)
        if self._shared is None or runtime.name != self._shared_runtime:
            if self._shared is not None:
                self._left += self._shared.close()
            self._shared, self._shared_runtime = SharedStack(Options(self._project, runtime.name), self._say), runtime.name
        return self._shared

    @contextlib.contextmanager
    def _on_this_machine(self) -> Iterator[None]:
        """Under the lock of the whole machine; what chaoslab raises on purpose leaves a test without proof."""
        try:
            with alone(lambda: self._say("another experiment runs on this machine; waiting for its end")):
                yield
        except ChaoslabError as failed:
            raise NotProven(str(failed)) from failed


class ChaoslabRun:
    """The fixture `chaoslab_run`: runs an experiment on the stack of the session, and gives its result.

    `outcomes`: what was run in this test, each with its folder.
    """

    def __init__(self, stack: ChaoslabStack, item: pytest.Item) -> None:
        self._stack, self._item = stack, item
        self.outcomes: list[RunOutcome] = []

    def __call__(
        self, experiment: str | Path | None = None, *, set: Mapping[str, Any] | None = None, may_fail: bool = False
    ) -> Result:
        """Run an experiment, by its name or path; without either, that of the test's mark. `set`: values to change in it.

        `may_fail`: the result of a missed objective is returned, for the test to look at. Raises ObjectiveMissed otherwise, and
        NotProven, which pytest reports as an error, when nothing was proven: inconclusive, aborted, error, or not cleaned up.
        """
        marked = of_mark(self._item)
        if experiment is None and marked is None:
            raise NotProven(
                'no experiment is named: call chaoslab_run("NAME"), or mark the test with @pytest.mark.chaoslab("NAME")'
            )
        name, changes = (experiment, {}) if experiment is not None else marked or ("", {})
        loaded = self._stack.load(name, {**changes, **(set or {})})
        outcome = self._stack.run(loaded)
        self.outcomes.append(outcome)
        result, report = outcome.result, os.path.relpath(outcome.folder.report, self._item.config.rootpath)
        self._item.user_properties.append(("chaoslab", report))
        fine, why = as_expected(result, loaded.experiment)
        left = [f"left behind: {thing}" for thing in result.left_behind]
        text = "\n".join([f"{result.experiment}: {why}", *result.reasons, *left, f"report: {report}"])
        if outcome.exit_code is ExitCode.UNCLEAN or not (fine or result.verdict in ("pass", "fail")):
            raise NotProven(text)
        if not (fine or may_fail):
            raise ObjectiveMissed(text)
        return result


def of_mark(item: pytest.Item) -> tuple[str | Path, Mapping[str, Any]] | None:
    """The experiment of `@pytest.mark.chaoslab("NAME", set={…})`, and what is changed in it; None without the mark."""
    mark = item.get_closest_marker("chaoslab")
    if mark is None:
        return None
    if len(mark.args) != 1 or mark.kwargs.keys() - {"set"}:
        raise NotProven(
            'write the mark as @pytest.mark.chaoslab("NAME") or @pytest.mark.chaoslab("NAME", set={"load.users": 5})'
        )
    return mark.args[0], mark.kwargs.get("set", {})
