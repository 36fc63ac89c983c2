"""The prober as a process of the run: started, watched and ended by the engine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from chaoslab.probe.plan import ProbePlan, encode_plan
from chaoslab.process import COMES_FIRST, end_group, spawn

# Above the longest deadline of a journey: slots that are open when the prober is told to end still get their answer.
_MARGIN_S = 3.0


class ProberProcess:
    """One prober. It ends with its standard input, so it does not outlive the harness."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        """`folder` takes the log; `env` is added to the environment."""
        self._folder = folder
        self._env = {**os.environ, **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None
        self._longest_s = 0.0

    def start(self) -> None:
        """Start the process, which waits for its plan. Raises EnvironmentFault."""
        command = [sys.executable, "-m", "chaoslab.probe"]
        self._child = spawn(command, log=self._folder / "probe.log", env=self._env, stdin=subprocess.PIPE, niceness=COMES_FIRST)

    def begin(self, plan: ProbePlan) -> None:
        """Let it probe. The plan holds headers as they are, so it never gets to the disk."""
        self._longest_s = max((target.timeout_s for target in plan.targets), default=0.0)
        if self._child is not None and self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it is gone already; `poll` tells why
                self._child.stdin.write(encode_plan(plan) + b"\n")
                self._child.stdin.flush()

    def poll(self) -> str | None:
        """None while it runs (or has not been started), else why it does not."""
        if self._child is None or self._child.poll() is None:
            return None
        log = self._folder / "probe.log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:]) if log.exists() else ""
        return f"the prober ended by itself with status {self._child.returncode}; its last lines:\n{tail}"

    def stop(self) -> None:
        """Let it finish the slots that are open, then end it. Idempotent."""
        if self._child is not None:
            end_group(self._child, grace_s=self._longest_s + _MARGIN_S)
            self._child = None
