"""A team's own tests, on one stack that is booted once: real runs on the mini stack."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from mini_stack import assert_nothing_left, commands_of, speaks_of
from sessions import FIRE, MISSED, NOT_STEADY, command, environment, run_pytest, write

from chaoslab import judge_stored, load_run
from chaoslab.cleanup import active_runs
from chaoslab.history.result import result_json
from chaoslab.history.rows import Anchor, LedgerRead

README = Path(__file__).parents[2] / "README.md"
OWN = """
def test_missed(chaoslab_run):
    chaoslab_run("late")

@pytest.mark.xfail
def test_not_proven(chaoslab_run):
    chaoslab_run("restless")

def test_spoil(chaoslab_stack):
    assert chaoslab_stack.url.startswith("http://127.0.0.1:")
    chaoslab_stack.stack.pause(["store"])

@pytest.mark.chaoslab("fire")
def test_after(chaoslab_stack):
    assert set(chaoslab_stack.stack.states().values()) == {"running"}

@pytest.mark.chaoslab("fier")
def test_misspelt(chaoslab_stack):
    pass
"""


def example() -> str:
    """The test in the README, for the mini stack."""
    (found,) = re.findall(r"```python\n(.*?)```", README.read_text().split("## Game days and pytest")[1], re.DOTALL)
    assert len(found.splitlines()) <= 10
    return found.replace("idc-fire", "fire").replace("pay", "app").replace("70s", "6s")


def test_tests_share_one_stack_that_is_proven_between_them(tmp_path: Path) -> None:
    """The README's test, and the known bad: what is missed fails; what proves nothing is an error; a stack that a test left
    frozen is rebooted, and that is reported. Each run has a folder, a ledger and the verdict that judging it again gives.
    """
    write(tmp_path, fire=FIRE, late=MISSED, restless=NOT_STEADY)
    (tmp_path / "test_own.py").write_text(example() + OWN)
    ran = run_pytest(tmp_path, "test_own.py", "-rA", "-v")
    words = dict(re.findall(r"^test_own.py::(\w+) (\w+)", ran.stdout, re.MULTILINE))
    assert words == {
        "test_app_survives_the_fire": "PASSED",
        "test_missed": "FAILED",
        "test_not_proven": "ERROR",
        "test_spoil": "PASSED",
        "test_after": "PASSED",
        "test_misspelt": "ERROR",
    }, ran.stdout
    assert ran.stdout.count("the stack is rebooted: store is paused") == 1
    assert "Did you mean 'fire'?" in ran.stdout
    (longest,) = re.findall(r"3 runs on shared stacks, verified clean and steady 3 times, in at most ([\d.]+) s", ran.stdout)
    assert float(longest) <= 5
    stacks = [path for path in (tmp_path / "runs" / "stacks").iterdir() if not path.is_symlink()]
    assert len(stacks) == 2
    writers = []
    for name, verdict in (("fire", "pass"), ("late", "fail"), ("restless", "inconclusive")):
        folder = load_run(name, tmp_path / "runs")
        result = folder.read_result()
        assert (result.verdict, result.cleanup) == (verdict, "kept"), result.reasons
        assert result_json(judge_stored(folder)) == result_json(result)
        anchor = next(row for row in folder.read_rows() if isinstance(row, Anchor))
        assert (tmp_path / anchor.facts["stack"] / "logs" / "store.log").is_file()
        writers.append({row.writer for row in folder.read_rows() if isinstance(row, LedgerRead)})
        assert_nothing_left(folder.path)
    assert not writers[0] & writers[1]


def test_workers_wait_for_each_other_and_say_so(tmp_path: Path) -> None:
    """Two workers, one experiment and one run of it; nothing of the session stays in the registry."""
    write(tmp_path, fire=FIRE)
    ran = run_pytest(tmp_path, "experiments", "-n", "2", "--dist", "load")
    assert "4 passed" in ran.stdout, ran.stdout
    assert re.search(r"\[gw[01]\] chaoslab: another experiment runs on this machine", ran.stderr), ran.stderr
    assert len([path for path in (tmp_path / "runs" / "fire").iterdir() if not path.is_symlink()]) == 1
    assert [path.name for path in active_runs.folder().iterdir() if path.name.startswith("pytest-")] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_pytest_that_is_killed_in_a_run_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Known bad: SIGKILL in the fault, on a stack of the session; and Ctrl-C. The secrets in its logs are covered, too."""
    write(tmp_path, fire=FIRE.replace("heal_after: 6s", "heal_after: 60s"))
    (tmp_path / "test_own.py").write_text("def test_fire(chaoslab_run):\n    chaoslab_run('fire')\n")
    child = subprocess.Popen(command("test_own.py"), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
    history = tmp_path / "runs" / "fire" / "latest" / "history.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (history.exists() and '"event":"effective"' in history.read_text()):
        time.sleep(0.1)
    assert json.loads(history.read_text().splitlines()[0])["facts"]["trial"] == 1
    child.send_signal(number)
    child.wait()
    until = time.monotonic() + 30
    while True:
        try:
            assert_nothing_left(history.parent.resolve())
            assert_no_process_of(tmp_path)
            assert active_runs.entries() == []
            return
        except (AssertionError, psutil.Error):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def assert_no_process_of(project: Path) -> None:
    """The reaper's journal lies in the folder of the stack, not in that of the run."""
    assert commands_of(one for one in psutil.process_iter() if speaks_of(one, str(project))) == []
