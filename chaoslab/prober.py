"""The prober as a process of the run: started, watched and ended by the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from chaoslab.probe.plan import ProbePlan, encode_plan
from chaoslab.process import COMES_FIRST, end_group, spawn
from chaoslab.store import write_whole

# Above the longest deadline of a journey: slots that are open when the prober is told to end still get their answer.
_MARGIN_S = 3.0


class ProberProcess:
    """One prober. It ends with its standard input, so it does not outlive the harness."""

    def __init__(
        self, plan: ProbePlan, folder: Path, private: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """`folder` takes the log; `private` the plan, which holds the headers as they are, and goes at the end.

        `env` is added to the environment.
        """
        self._plan = plan
        self._plan_file = (private or folder) / "probe-plan.json"
        self._folder = folder
        self._env = {**os.environ, **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write the plan and start the prober on it. Raises EnvironmentFault."""
        write_whole(self._plan_file, encode_plan(self._plan))
        command = [sys.executable, "-m", "chaoslab.probe", str(self._plan_file)]
        self._child = spawn(command, log=self._folder / "probe.log", env=self._env, stdin=subprocess.PIPE, niceness=COMES_FIRST)

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
            longest_s = max((target.timeout_s for target in self._plan.targets), default=0.0)
            end_group(self._child, grace_s=longest_s + _MARGIN_S)
            self._child = None
        self._plan_file.unlink(missing_ok=True)
