"""The sampler of the machine as a process of the run: started, followed and ended by the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from chaoslab.machine.plan import ControlAt, MachinePlan
from chaoslab.process import HIGH_PRIORITY, end_group, how_it_ended, send_line, spawn
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.model import OUTSIDE, StackSpec
from chaoslab.stack.protocol import CanBeWatched, Stack

LATE_SHARE = 0.5  # of the tightest `within`: above that an answer of the control is late
_GRACE_S = 2.0


class MachineWatch:
    """The sampler's process. It ends with its standard input, so it does not outlive the harness."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        """`folder` takes the log; `env` is added to the environment."""
        self._log = folder / "machine.log"
        self._env = {**os.environ, **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, plan: MachinePlan) -> None:
        """Start the process; from now on there is a row a second. Raises EnvironmentFault."""
        command = [sys.executable, "-m", "chaoslab.machine"]
        self._child = spawn(command, log=self._log, env=self._env, stdin=subprocess.PIPE, niceness=HIGH_PRIORITY)
        send_line(self._child, msgspec.json.encode(plan))

    def ask(self, url: str) -> None:
        """Probe the control at this URL from now on."""
        if self._child is not None:
            send_line(self._child, msgspec.json.encode(ControlAt(url)))

    def poll(self) -> str | None:
        """None while it runs (or has not been started), else how it ended, with its last log lines."""
        return how_it_ended("the sampler of the machine", self._child, self._log) if self._child is not None else None

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._child is not None:
            end_group(self._child, grace_s=_GRACE_S)
            self._child = None


def machine_plan(stack: Stack, experiment: Experiment, spec: StackSpec, history: Path, run_id: str) -> MachinePlan:
    """The plan for a run: what its processes are known by, and when the control is late."""
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
