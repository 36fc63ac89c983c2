"""Programs that write a title over their environment, as Redis does: they are found, hurt and ended all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import psutil
import pytest
import yaml

from chaoslab import process
from chaoslab.cleanup.journal import EndProcesses, perform
from chaoslab.clock import Deadline, wait_until
from chaoslab.run import runtimes
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.reach import REPLICA_VARIABLE, RUN_VARIABLE, data_folder, roster_in

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds its own environment in /proc")

PROGRAM = """
import ctypes, http.server, os, subprocess, sys
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(fields[47]), int(fields[48])
ctypes.memset(start, 0, end - start)
subprocess.Popen(["sleep", sys.argv[1]], env={})
host, _, port = os.environ["LISTEN"].rpartition(":")
http.server.HTTPServer((host, int(port)), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
LIVE = "import os, socket; host, port = os.environ['LISTEN'].split(':'); socket.create_connection((host, int(port)), 1)"


def stack_of(sleep: str) -> dict[str, Any]:
    replica = {
        "command": ["python", "titled.py", sleep],
        "environment": {"LISTEN": "${LISTEN:-0.0.0.0:8000}"},
        "healthcheck": {"test": ["CMD", "python", "-c", LIVE], "interval": "1s"},
        "labels": {"chaoslab.site": "east"},
    }
    return {"services": {"titled": replica}, "x-chaoslab": {"sites": ["east"], "entry": "titled:8000"}}


def seconds() -> str:
    """How long its child sleeps, which names that child: nobody else sleeps as long."""
    return f"3{int(token_hex(3), 16)}"


class Titled:
    """A stack of one replica that has overwritten its environment, and whose child has none."""

    def __init__(self, folder: Path) -> None:
        self.sleep = seconds()
        (folder / "titled.py").write_text(PROGRAM)
        (folder / "compose.yaml").write_text(yaml.safe_dump(stack_of(self.sleep)))
        self.run_id, self.data = token_hex(4), folder / "data"
        self.stack = EmbeddedStack(load_stack([folder / "compose.yaml"]), self.run_id, self.data, folder / "logs")

    @property
    def leader(self) -> int:
        return self.stack._children["titled"].pid

    def living(self) -> list[psutil.Process]:
        """By their commands, not by any mark."""
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if self.sleep in one.cmdline() and process.alive(one):
                    found.append(one)
        return found


@pytest.fixture
def titled(tmp_path: Path) -> Iterator[Titled]:
    made = Titled(tmp_path)
    try:
        made.stack.up(Deadline.after(20), lambda _: None)
        yield made
    finally:
        left = made.stack.down()
        stray = made.living()
        for one in stray:
            one.kill()
    assert (left, stray) == ([], [])


def test_it_is_killed_and_started_again(titled: Titled) -> None:
    """Known bad: no process of it was found, so the kill had no effect, and its processes were left."""
    assert not [one for one in process.marked(RUN_VARIABLE, titled.run_id) if one.pid == titled.leader], "it shows no mark"
    assert len(titled.living()) == 2
    report = titled.stack.kill(["titled"])
    assert report.targets == 2
    assert (titled.stack.states()["titled"], titled.living()) == ("dead", [])
    titled.stack.start(["titled"], Deadline.after(20))
    assert titled.stack.reaches("titled", 8000)


def test_it_is_frozen_with_its_children(titled: Titled) -> None:
    titled.stack.pause(["titled"])
    wait_until("all", lambda: (all(process.is_stopped(one.pid) for one in titled.living()), None), Deadline.after(5))
    titled.stack.resume(["titled"])
    wait_until("none", lambda: (not any(process.is_stopped(one.pid) for one in titled.living()), None), Deadline.after(5))


def test_it_is_throttled(titled: Titled) -> None:
    """By a helper in another process, which reads what the stack wrote down."""
    titled.stack.throttle(["titled"], 0.2)
    wait_until("a freeze", lambda: (titled.stack.observed_share("titled") < 0.6, None), Deadline.after(10))
    titled.stack.unthrottle(["titled"])
    assert not process.is_stopped(titled.leader)


def test_what_is_left_of_it_is_its_own(titled: Titled) -> None:
    """Its first process is gone, and its child has no mark, no parent and no environment, but the session."""
    os.kill(titled.leader, signal.SIGKILL)
    wait_until("its end", lambda: (titled.stack.states()["titled"] == "dead", None), Deadline.after(5))
    assert len(titled.living()) == 1
    titled.stack.kill(["titled"])
    assert titled.living() == []


def test_the_undo_step_finds_it_without_its_harness(titled: Titled) -> None:
    """Known bad: the step of before, which knows the mark alone, leaves all of it. A second look does no harm."""
    assert perform(EndProcesses(REPLICA_VARIABLE, f"{titled.run_id}/titled")) == []
    assert len(titled.living()) == 2
    for _ in range(2):
        step = EndProcesses(REPLICA_VARIABLE, f"{titled.run_id}/titled", str(roster_in(titled.data)))
        assert perform(step) == []
        assert titled.living() == []


def test_the_watch_of_the_machine_knows_its_site(titled: Titled) -> None:
    """Known bad: its processor time counted as the harness's."""
    began = process.began(titled.leader)
    assert titled.stack.members.read_text() == f'{{"{titled.leader}@{began:.0f}": "east"}}'


def test_the_journal_of_a_run_names_the_roster() -> None:
    assert runtimes.get("embedded").undo_steps("a-run") == [
        EndProcesses(RUN_VARIABLE, "a-run", str(roster_in(data_folder("a-run"))))
    ]


# --- who is not taken for it


def sleeper(tmp_path: Path, *, env: dict[str, str]) -> tuple[str, int]:
    slept = seconds()
    return slept, process.spawn(["sleep", slept], log=tmp_path / "log", env=env).pid


def test_another_process_with_its_pid_is_left_alone(tmp_path: Path) -> None:
    """Known bad: a roster of long ago, whose numbers others have by now."""
    roster = tmp_path / "roster"
    _, pid = sleeper(tmp_path, env={})
    try:
        process.remember(pid, {"MARK": "x"}, roster)
        assert [one.pid for one in process.marked("MARK", "x", roster)] == [pid]
        roster.write_text(roster.read_text().replace(f'"began":{process.began(pid):.1f}', '"began":1.0'))
        assert process.marked("MARK", "x", roster) == []
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_session_whose_leader_is_gone_takes_nobody_with_an_environment_of_their_own(tmp_path: Path) -> None:
    """Its number may be another's by now; what was ours showed our mark, or nothing."""
    roster = tmp_path / "roster"
    started = ["sh", "-c", "PATH=/bin:/usr/bin; env -i OTHERS=1 sleep 300 & env -i sleep 300 & sleep 300"]
    child = process.spawn(started, log=tmp_path / "log", env={"MARK": "x"})
    process.remember(child.pid, {"MARK": "x"}, roster)
    wait_until("all", lambda: (len(process.families([child.pid])) == 4, None), Deadline.after(5))
    family = process.families([child.pid])
    try:
        wait_until("exec", lambda: (_names(family) == ["sleep"] * 3, _names(family)), Deadline.after(5))
        assert len(process.marked("MARK", "x", roster)) == 4, "while the leader lives, the session is its own"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        left = process.marked("MARK", "x", roster)
        assert len(left) == 2
        assert not any("OTHERS" in one.environ() for one in left)
    finally:
        os.killpg(child.pid, signal.SIGKILL)


def _names(family: list[int]) -> list[str]:
    return [psutil.Process(pid).name() for pid in family[1:]]


def test_what_was_written_before_the_machine_started_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = tmp_path / "roster"
    process.remember(os.getpid(), {"MARK": "x"}, roster)
    assert [one.pid for one in process.remembered(roster)] == [os.getpid()]
    with roster.open("a") as file:
        file.write('{"pid": 1, "beg')  # a line that was cut short
    assert len(process.remembered(roster)) == 1
    monkeypatch.setattr(psutil, "boot_time", lambda: roster.stat().st_mtime + 10)
    assert process.remembered(roster) == []
    assert process.remembered(tmp_path / "none") == process.remembered(None) == []
