"""Experiments as tests: what pytest says of them is what `chaoslab run` says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from mini_stack import assert_nothing_left
from sessions import FIRE, KNOWN_BAD, MISSED, NOT_STEADY, command, environment, run_pytest, write

from chaoslab.testing import worker


def test_objectives_are_collected_as_tests(tmp_path: Path) -> None:
    """By file and objective, selected by name and by tag; nothing is run for that."""
    write(tmp_path, fire=FIRE, late=MISSED, bad=KNOWN_BAD)
    found = run_pytest(tmp_path, "experiments", "--collect-only", "-q").stdout.splitlines()
    assert [line for line in found if "::" in line] == [
        "experiments/bad.yaml::as-expected",
        *(f"experiments/fire.yaml::{name}" for name in ("app.failback", "app.rpo", "app.rto", "run")),
        *(f"experiments/late.yaml::{name}" for name in ("app.failback", "app.rpo", "app.rto", "run")),
    ]
    by_tag = run_pytest(tmp_path, "experiments", "--collect-only", "-q", "-m", "slow-fire", "-k", "rto").stdout
    assert "late.yaml::app.rto" in by_tag and "fire.yaml::app" not in by_tag.replace("late", "")
    assert not (tmp_path / "runs").exists()


def test_a_project_without_xdist_has_every_mark_it_needs(tmp_path: Path) -> None:
    """Known bad: a warning for each file, and with `--strict-markers` no test at all, for a mark of pytest-xdist."""
    (tmp_path / "test_own.py").write_text(OWN_TEST)
    write(tmp_path, fire=FIRE)
    strict = ("-p", "no:xdist", "--strict-markers", "-W", "error::pytest.PytestUnknownMarkWarning")
    found = run_pytest(tmp_path, *strict, "experiments", "test_own.py", "--collect-only", "-q")
    assert found.returncode == 0, found.stdout
    assert "test_own.py::test_own" in found.stdout and "experiments/fire.yaml::run" in found.stdout


def test_what_failed_last_is_collected_alone(tmp_path: Path) -> None:
    """`--lf` knows an objective by its file and its name."""
    write(tmp_path, fire=FIRE, late=MISSED)
    cache = tmp_path / ".pytest_cache" / "v" / "cache" / "lastfailed"
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({"experiments/late.yaml::app.rto": True}))
    found = run_pytest(tmp_path, "-p", "cacheprovider", "experiments", "--lf", "--collect-only", "-q").stdout
    assert [line for line in found.splitlines() if "::" in line] == ["experiments/late.yaml::app.rto"], found


def test_an_experiment_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Known bad: all of its problems, each with its place."""
    write(tmp_path, fire=FIRE.replace("site: east", "site: eats"))
    ran = run_pytest(tmp_path, "experiments")
    assert ran.returncode != 0
    assert "fire.yaml:6:" in ran.stdout and "Did you mean 'east'?" in ran.stdout


OWN_TEST = """
def test_own(chaoslab_run):
    chaoslab_run("fire")
"""
STOPPED = """
import chaoslab.run.session as session
from chaoslab.errors import EnvironmentFault
from chaoslab.run.shared_stack import SharedStack

def stop(loaded):
    raise EnvironmentFault(f"use_binds is {loaded.compose.use_binds}")

session.run_once = lambda loaded, *_: stop(loaded)
SharedStack.run = lambda _, loaded: stop(loaded)
"""


@pytest.mark.parametrize("given", [(), ("--chaoslab-use-binds",)])
def test_stacks_share_the_user_s_data_when_asked_to(tmp_path: Path, given: tuple[str, ...]) -> None:
    """Those of experiments, and those of a team's own tests."""
    write(tmp_path, fire=FIRE)
    (tmp_path / "conftest.py").write_text(STOPPED)
    (tmp_path / "test_own.py").write_text(OWN_TEST)
    failed = run_pytest(tmp_path, "experiments", "test_own.py", "-k", "rto or own", *given).stdout
    assert "2 errors" in failed
    assert f"use_binds is {bool(given)}" in failed and f"use_binds is {not given}" not in failed, failed


def test_a_misspelt_timeline_is_an_error(tmp_path: Path) -> None:
    """Known bad: the file was left out, and the session was green."""
    write(tmp_path, fire=FIRE.replace("timeline:", "timelin:"))
    ran = run_pytest(tmp_path, "experiments")
    assert ran.returncode == pytest.ExitCode.INTERRUPTED, ran.stdout
    assert "Did you mean 'timeline'?" in ran.stdout


def test_a_session_without_experiments_is_left_alone(tmp_path: Path) -> None:
    """A YAML file elsewhere, or without a timeline, is no experiment."""
    write(tmp_path, notes="title: no timeline here\n")
    (tmp_path / "other.yaml").write_text(FIRE)
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    ran = run_pytest(tmp_path)
    assert (ran.returncode, "1 passed" in ran.stdout) == (0, True), ran.stdout


def test_a_change_without_a_value_is_refused(tmp_path: Path) -> None:
    """Known bad: `--chaoslab-set load.users`. Without it the experiment would run unchanged."""
    write(tmp_path, fire=FIRE)
    ran = run_pytest(tmp_path, "experiments", "--collect-only", "--chaoslab-set", "load.users")
    assert (ran.returncode, "is not KEY=VALUE" in ran.stderr) == (pytest.ExitCode.USAGE_ERROR, True), ran.stdout


def test_a_tag_is_never_a_skip(tmp_path: Path) -> None:
    """Known bad: tags that pytest reads as an order to pass. The others are marks."""
    write(tmp_path, fire=FIRE + "tags: [skip, xfail, hot]\n")
    counts = {}
    for tag in ("skip", "xfail", "hot"):
        counts[tag] = run_pytest(tmp_path, "experiments", "--collect-only", "-q", "-m", tag).stdout.count("fire.yaml::")
    assert counts == {"skip": 0, "xfail": 0, "hot": 4}


def test_workers_of_one_session_share_a_file_and_leave_none(tmp_path: Path) -> None:
    """Known bad: two sessions are named alike by `--testrunuid`; a controller that was killed left its folder behind."""
    controllers = [controller() for _ in range(2)]
    workers = [worker_of(controllers[number]) for number in (0, 0, 1)]
    assert worker.shared_file(controllers[0], tmp_path) is None
    gone = worker_of(controllers[0])
    child = subprocess.Popen(["true"])
    child.wait()
    gone.workerinput["chaoslab_session"] = f"{child.pid}-of-a-controller-that-is-gone"
    stale = worker.shared_file(gone, tmp_path)
    found = [worker.shared_file(one, tmp_path) for one in workers]
    assert found[0] == found[1] != found[2]
    assert not stale.parent.exists()
    assert (found[0].parent.stat().st_uid, found[0].parent.stat().st_mode & 0o077) == (os.geteuid(), 0)
    worker.remove_shared(controllers[0], workers[0].workeroutput)
    worker.remove_shared(controllers[1], {})
    for one in controllers:
        worker.clean_up(one)
    assert [one.parent.exists() for one in found] == [False, False, True]
    worker.remove_shared(controllers[1], None)  # one of its workers crashed
    worker.clean_up(controllers[1])
    assert not found[2].parent.exists()


def test_a_known_bad_that_left_something_behind_is_no_pass(tmp_path: Path) -> None:
    """Known bad: it ended as it expects, and its test was green."""
    write(tmp_path, bad=KNOWN_BAD)
    (tmp_path / "conftest.py").write_text(
        """
import pytest
from chaoslab.testing import plugin
from pathlib import Path
from types import SimpleNamespace

def judged(self, loaded):
    met = SimpleNamespace(id="app.rto", verdict="fail")
    return SimpleNamespace(
        experiment="bad", verdict="fail", reasons=[], objectives=[met], cleanup="complete", interrupted=False,
        left_behind=["process 4711"],
    ), Path("runs")

plugin.ExperimentFile.judged = judged
"""
    )
    ran = run_pytest(tmp_path, "experiments")
    assert "left behind: process 4711" in ran.stdout and "1 error" in ran.stdout, ran.stdout


def controller() -> Any:
    return SimpleNamespace(stash=pytest.Stash())


def worker_of(one: Any) -> Any:
    found = SimpleNamespace(workerinput={}, workeroutput={})
    worker.configure(one, found.workerinput)
    return found


def test_the_options_of_locust_are_in_nobody_s_way(tmp_path: Path) -> None:
    """Locust is a plugin of pytest, too: with `--host`, and a fixture that is called `session`."""
    write(tmp_path, fire=FIRE)
    ran = run_pytest(tmp_path, "experiments", "--collect-only", "-q", "--host", "http://127.0.0.1:1")
    assert (ran.returncode, ran.stdout.count("fire.yaml::")) == (0, 4), ran.stdout + ran.stderr


NOT_PROVEN = """
import pytest
from chaoslab.testing.outcome import NotProven

@pytest.mark.xfail
def test_not_proven():
    raise NotProven("no steady state")

def test_missed():
    assert False

@pytest.mark.xfail
@pytest.mark.chaoslab("nope")
def test_misspelt(chaoslab_run):
    pass

def test_fine():
    pass
"""


def test_what_is_not_proven_is_an_error_wherever_it_is_raised(tmp_path: Path) -> None:
    """In a test's own code, and under xfail, too; in JUnit and in CTRF, with xdist. Known bad: a failure, a skip."""
    (tmp_path / "test_own.py").write_text(NOT_PROVEN)
    ran = run_pytest(tmp_path, "-n", "2", "--junit-xml", "junit.xml", "--ctrf", "ctrf.json")
    assert "1 failed, 1 passed, 2 errors" in ran.stdout, ran.stdout + ran.stderr
    assert "ERROR at proof of test_not_proven" in ran.stdout
    suite = next(ET.parse(tmp_path / "junit.xml").iter("testsuite"))  # noqa: S314 - our own file
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["4", "1", "2", "0"]
    told = json.loads((tmp_path / "ctrf.json").read_text())["results"]["tests"]
    assert {one["name"].rpartition("::")[2]: (one["status"], one.get("rawStatus"), one.get("retries", 0)) for one in told} == {
        "test_not_proven": ("failed", "proof_failed", 0),
        "test_missed": ("failed", "call_failed", 0),
        "test_misspelt": ("failed", "setup_failed", 0),
        "test_fine": ("passed", None, 0),
    }


def test_each_verdict_is_what_pytest_makes_of_it(tmp_path: Path) -> None:
    """A missed objective fails; what was not proven is an error, never a skip or a pass; one run for all tests of a file."""
    write(tmp_path, fire=FIRE, late=MISSED, restless=NOT_STEADY)
    ran = run_pytest(tmp_path, "experiments", "-rA", "--junit-xml", "junit.xml")
    for experiment, verdict in (("fire", "pass"), ("late", "fail"), ("restless", "inconclusive")):
        (folder,) = [path for path in (tmp_path / "runs" / experiment).iterdir() if not path.is_symlink()]  # one run
        assert json.loads((folder / "result.json").read_text())["verdict"] == verdict, ran.stdout
        assert_nothing_left(folder)
    words = [line.split(maxsplit=2)[:2] for line in ran.stdout.splitlines() if "experiments/" in line and "::" in line]
    outcomes = {name.removeprefix("experiments/"): word for word, name in words if word in ("PASSED", "FAILED", "ERROR")}
    names = ("app.failback", "app.rpo", "app.rto", "run")
    assert [outcomes[f"fire.yaml::{name}"] for name in names] == ["PASSED"] * 4
    assert [outcomes[f"late.yaml::{name}"] for name in names] == ["PASSED", "PASSED", "FAILED", "FAILED"]
    assert [outcomes[f"restless.yaml::{name}"] for name in names] == ["ERROR"] * 4
    assert "app.rto: fail; measured" in ran.stdout
    suite = next(ET.parse(tmp_path / "junit.xml").iter("testsuite"))  # noqa: S314 - our own file
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["12", "2", "4", "0"]
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_pytest_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Known bad: SIGKILL in the fault, where the reaper of the run heals and takes the stack down; and Ctrl-C."""
    write(tmp_path, fire=FIRE.replace("heal_after: 6s", "heal_after: 60s"))
    child = subprocess.Popen(command("experiments", "-k", "rto"), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
    history = tmp_path / "runs" / "fire" / "latest" / "history.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (history.exists() and '"event":"effective"' in history.read_text()):
        time.sleep(0.1)
    child.send_signal(number)
    child.wait()
    while time.monotonic() < deadline + 30:
        try:
            assert_nothing_left(history.parent.resolve())
            return
        except (AssertionError, psutil.Error):
            time.sleep(0.2)
    assert_nothing_left(history.parent.resolve())
