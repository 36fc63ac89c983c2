"""The prober as a process of the run: started, watched and ended by the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from chaoslab.probe.plan import ProbePlan, encode_plan
from chaoslab.process import HIGH_PRIORITY, end_group, how_it_ended, send_line, spawn

# Above the longest timeout of a journey: slots that are open when the prober is stopped still get their answer.
_MARGIN_S = 3.0


class ProberProcess:
    """One prober. It ends with its standard input, so it does not outlive the harness."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        """`folder` takes the log; `env` is added to the environment."""
        self._log = folder / "probe.log"
        self._env = {**os.environ, **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None
        self._longest_s = 0.0

    def start(self) -> None:
        """Start the process, which waits for its plan. Raises EnvironmentFault."""
        command = [sys.executable, "-m", "chaoslab.probe"]
        self._child = spawn(command, log=self._log, env=self._env, stdin=subprocess.PIPE, niceness=HIGH_PRIORITY)

    def begin(self, plan: ProbePlan) -> None:
        """Send the plan, and so begin probing. The plan holds headers as they are, so it is never written to disk."""
        self._longest_s = max((target.timeout_s for target in plan.targets), default=0.0)
        if self._child is not None:
            send_line(self._child, encode_plan(plan))

    def poll(self) -> str | None:
        """None while it runs (or has not been started), else how it ended, with its last log lines."""
        return how_it_ended("the prober", self._child, self._log) if self._child is not None else None

    def stop(self) -> None:
        """Let it finish the open slots, then end it. Idempotent."""
        if self._child is not None:
            end_group(self._child, grace_s=self._longest_s + _MARGIN_S)
            self._child = None
