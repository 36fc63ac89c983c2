"""A server that fails by script, and a prober on it, each a process of its own; and targets for both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from chaoslab.history.rows import LedgerRead, Probe, read_history
from chaoslab.probe.plan import Http, HttpCall, LedgerTarget, ProbePlan, Target, encode_plan

SCRIPT = Path(__file__).with_name("scripted.py")
BODY = {"id": "{id}", "writer": "{writer}", "seq": "{seq}", "payload": "{payload}"}


LEDGER_CALL = HttpCall(path="/entries?writer={writer}&after={after}")
LEDGER = LedgerTarget(site=LEDGER_CALL, entry=LEDGER_CALL, items="entries[].{id: id, hash: hash}")
GET, POST = HttpCall(path="/x"), HttpCall(method="POST", path="/entries", body=BODY)


def read_target(**changes) -> Target:
    fields = {"name": "shop.read", "service": "shop", "op": "read", "how": Http(call=GET), "timeout_s": 1.0}
    return Target(**fields | changes)


def write_target(**changes) -> Target:
    fields = {"name": "shop.write", "service": "shop", "op": "write", "how": Http(call=POST, statuses=(201,))}
    return Target(**fields | {"timeout_s": 1.0, "ledger": LEDGER} | changes)


class ScriptedServer:
    """tests/probe/scripted.py, running."""

    def __init__(self, script: dict) -> None:
        self.child = subprocess.Popen([sys.executable, str(SCRIPT), json.dumps(script)], stdout=subprocess.PIPE)
        self.port = self.line()["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def line(self) -> dict:
        """What it says next, such as how long a window really was."""
        return json.loads(self.child.stdout.readline())

    def freeze(self, for_s: float) -> tuple[int, int]:
        """Stop it as ^Z does; when, and until when."""
        os.kill(self.child.pid, signal.SIGSTOP)
        begin_ns = time.monotonic_ns()
        time.sleep(for_s)
        os.kill(self.child.pid, signal.SIGCONT)
        return begin_ns, time.monotonic_ns()

    def end(self) -> None:
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()


class RunningProber:
    """`python -m chaoslab.probe`, running."""

    def __init__(self, folder: Path, plan: ProbePlan, *, piped: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.history = Path(plan.history)
        line = folder / "plan.json"
        line.write_bytes(encode_plan(plan) + b"\n")
        with line.open("rb") as plan_file:
            stdin = subprocess.PIPE if piped else plan_file
            self.child = subprocess.Popen([sys.executable, "-m", "chaoslab.probe"], stdin=stdin, stderr=subprocess.PIPE)
        if piped:
            self.child.stdin.write(line.read_bytes())
            self.child.stdin.flush()

    def started(self) -> None:
        """Returns once there are rows."""
        deadline = time.monotonic() + 10
        while not (self.history.exists() and self.history.stat().st_size):
            assert time.monotonic() < deadline, "no row of the prober within 10 s"
            time.sleep(0.01)

    def stop(self) -> int:
        self.child.terminate()
        return self.child.wait(10)

    @property
    def slots(self) -> list[Probe]:
        return [row for row in read_history(self.history) if isinstance(row, Probe)]

    @property
    def reads(self) -> list[LedgerRead]:
        return [row for row in read_history(self.history) if isinstance(row, LedgerRead)]

    def end(self) -> None:
        self.child.kill()
        self.child.communicate()
