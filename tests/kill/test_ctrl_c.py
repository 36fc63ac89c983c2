"""Ctrl-C in a terminal goes to the whole foreground group: the harness hears it, and nothing that it runs to heal or look."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from mini_stack import finish, start_chaoslab, write_experiment
from test_bad_weather import wait_for

from chaoslab import process
from chaoslab.clock import Deadline, wait_until
from chaoslab.errors import EnvironmentFault

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ANY = {"hold": "1s", "within": "30s", "journeys": {"good": "> 10%"}}  # how good the stack is makes no difference here

# Says that it began, and whether it was interrupted before it could say that it is done.
SLOW = """
import pathlib, signal, sys, time
begun, done, hurt = map(pathlib.Path, sys.argv[1:4])
signal.signal(signal.SIGINT, lambda *_: (hurt.touch(), sys.exit(1)))
begun.touch()
time.sleep(1.5)
done.touch()
"""


def slow(folder: Path) -> tuple[list[str], Path, Path, Path]:
    begun, done, hurt = (folder / name for name in ("begun", "done", "hurt"))
    return [sys.executable, "-c", SLOW, str(begun), str(done), str(hurt)], begun, done, hurt


def interrupt_once(child: subprocess.Popen[Any], begun: Path) -> None:
    """As a terminal does."""
    wait_until(f"{begun}", lambda: (begun.exists(), child.poll()), Deadline.after(40), poll_s=0.02)
    os.killpg(child.pid, signal.SIGINT)


def test_ctrl_c_does_not_reach_the_heal_of_a_command(tmp_path: Path) -> None:
    """It goes on to its end, and is verified."""
    heal, begun, done, hurt = slow(tmp_path)
    bite: dict[str, Any] = {"id": "bite", "fault": "exec", "heal_after": "1s", "heal": heal}
    bite |= {"inject": ["touch", str(tmp_path / "bitten")]}
    bite |= {"verify": ["sh", "-c", f"test -e {tmp_path}/bitten && ! test -e {done}"]}
    child = start_chaoslab(
        tmp_path, "run", str(write_experiment(tmp_path, timeline=[bite], steady_state=ANY, probe={"rate": 10})), "--allow-exec"
    )
    interrupt_once(child, begun)
    ran = finish(child, tmp_path)
    assert ran.code == 130, ran.out + ran.err
    assert done.exists()
    assert not hurt.exists()
    assert '"event":"healed"' in (ran.folder / "history.jsonl").read_text()


def test_ctrl_c_does_not_reach_a_health_check(tmp_path: Path) -> None:
    """While the stack boots."""
    check, begun, _, hurt = slow(tmp_path)
    overlay = {"services": {"store": {"healthcheck": {"test": ["CMD", *check], "timeout": "5s"}}}}
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, overlay=overlay)))
    interrupt_once(child, begun)
    ran = finish(child, tmp_path)
    assert ran.code == 130, ran.out + ran.err
    assert not hurt.exists()


def test_a_signal_while_an_injection_hangs(tmp_path: Path) -> None:
    """Its command is ended after a while, and healed; nobody waits for the five minutes that it may take."""
    bite, healed = tmp_path / "bitten", tmp_path / "healed"
    hang = f"import time, pathlib; pathlib.Path({str(bite)!r}).touch(); time.sleep(300)"
    mend = f"import pathlib; pathlib.Path({str(bite)!r}).unlink(missing_ok=True); pathlib.Path({str(healed)!r}).touch()"
    timeline = [{"id": "bite", "fault": "exec", "inject": [sys.executable, "-c", hang], "timeout": "300s"}]
    timeline[0] |= {"heal": [sys.executable, "-c", mend], "verify": ["test", "-e", str(bite)]}
    child = start_chaoslab(
        tmp_path,
        "run",
        str(write_experiment(tmp_path, timeline=timeline, steady_state=ANY, probe={"rate": 10})),
        "--allow-exec",
    )
    wait_for(child, tmp_path, '"event":"inject"')
    os.kill(child.pid, signal.SIGINT)
    ran = finish(child, tmp_path, timeout_s=60)
    assert ran.code == 130, ran.out + ran.err
    assert healed.exists()
    assert not bite.exists()
    assert ran.result["cleanup"] == "complete"


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started() -> None:
    """Known bad: what it had started went on."""
    token = token_hex(8)
    with pytest.raises(EnvironmentFault, match="no end within 0 s"):
        process.run(["sh", "-c", "sleep 30 & sleep 30"], timeout_s=0.3, env={**os.environ, "TEST_TOKEN": token})
    wait_until("the end of both", lambda: (not process.marked("TEST_TOKEN", token), None), Deadline.after(10), poll_s=0.02)


def test_a_command_stands_in_a_session_of_its_own() -> None:
    """So no terminal's signal reaches it."""
    said = process.run([sys.executable, "-c", "import os; print(os.getsid(0), os.getpid())"], timeout_s=10).stdout.split()
    assert said[0] == said[1]
