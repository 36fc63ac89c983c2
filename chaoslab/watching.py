"""What watches the machine, as a process of the run: started, told of the control, looked after and ended by the engine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from chaoslab.machine.plan import ControlAt, MachinePlan, encode
from chaoslab.process import COMES_FIRST, end_group, spawn
from chaoslab.spec.model import OUTSIDE, Experiment, StackSpec
from chaoslab.stack.protocol import CanBeWatched, Stack

LATE_SHARE = 0.5  # of the tightest `within`: from then on a control is late
_GRACE_S = 2.0


class MachineWatch:
    """One watch. It ends with its standard input, so it does not outlive the harness."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        """`folder` takes the log; `env` is added to the environment."""
        self._log = folder / "machine.log"
        self._env = {**os.environ, **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, plan: MachinePlan) -> None:
        """Start the process; from now on there is a row a second. Raises EnvironmentFault."""
        command = [sys.executable, "-m", "chaoslab.machine"]
        self._child = spawn(command, log=self._log, env=self._env, stdin=subprocess.PIPE, niceness=COMES_FIRST)
        self._tell(plan)

    def ask(self, url: str) -> None:
        """From now on the control at this URL is asked."""
        self._tell(ControlAt(url))

    def _tell(self, said: MachinePlan | ControlAt) -> None:
        if self._child is not None and self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it is gone already; `poll` tells why
                self._child.stdin.write(encode(said))
                self._child.stdin.flush()

    def poll(self) -> str | None:
        """None while it runs (or has not been started), else why it does not."""
        if self._child is None or self._child.poll() is None:
            return None
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-12:]) if self._log.exists() else ""
        return f"what watches the machine ended by itself with status {self._child.returncode}; its last lines:\n{tail}"

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._child is not None:
            end_group(self._child, grace_s=_GRACE_S)
            self._child = None


def machine_plan(stack: Stack, experiment: Experiment, spec: StackSpec, history: Path, run_id: str) -> MachinePlan:
    """The plan for a run: whose processes there are, and when the control is late."""
    topology = stack.topology
    wanted = experiment.probe.journeys
    withins_s = [journey.good.within for name, journey in spec.journeys.items() if wanted is None or name in wanted]
    members = stack.members if isinstance(stack, CanBeWatched) else None
    return MachinePlan(
        history=str(history),
        run_id=run_id,
        harness=os.getpid(),
        sites=[place for place in topology.places if place != OUTSIDE],
        outside=[replica.name for replica in topology.in_site(OUTSIDE)],
        late_s=min(withins_s, default=1.0) * LATE_SHARE,
        members=None if members is None else str(members),
    )
