"""`exec`: a command of the user's own, with its undo and its check that it bit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from chaoslab import process
from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective, NotReady, StackError
from chaoslab.faults.base import Evidence
from chaoslab.spec.model import Exec
from chaoslab.stack.protocol import Stack
from chaoslab.undo import AnyStep, EndProcesses, RunCommand

MARK = "CHAOSLAB_EXEC"  # in the environment of each command: one that is cut short must not go on behind the last heal


class ExecFault:
    """Exit status 0 of `verify` means that the fault is in effect; before `inject` and after `heal` it must be another."""

    def __init__(self, spec: Exec, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._folder = Path.cwd()
        self._token = token_hex(8)
        self._clock = clock

    def prepare(self) -> None:
        if self._run(self._spec.verify).returncode == 0:
            raise FaultNotEffective(
                f"the check {' '.join(self._spec.verify)} says that the fault is in effect before it was injected"
            )

    def undo_steps(self) -> list[AnyStep]:
        """Undone backwards: what the commands started ends first, then their heal has the last word."""
        return [RunCommand(list(self._spec.heal), str(self._folder), self._spec.timeout), EndProcesses(MARK, self._token)]

    def inject(self) -> dict[str, Any]:
        self._must(self._spec.inject)
        return {}

    def verify(self) -> Evidence:
        since_ns = self._clock.now_ns()
        done = self._run(self._spec.verify)
        if done.returncode != 0:
            raise FaultNotEffective(f"{' '.join(self._spec.verify)}: exit status {done.returncode}: {_last(done.stderr)}")
        return Evidence(since_ns, {"said": _last(done.stdout)})

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._must(self._spec.heal)
        return {}

    def verify_heal(self, deadline: Deadline) -> Evidence:
        if self._run(self._spec.verify).returncode == 0:
            raise NotReady(f"{' '.join(self._spec.verify)} says that the fault is still in effect after it was healed")
        return Evidence(self._clock.now_ns())

    def _must(self, command: Sequence[str]) -> None:
        done = self._run(command)
        if done.returncode != 0:
            raise StackError(f"{' '.join(command)}: exit status {done.returncode}: {_last(done.stderr)}")

    def _run(self, command: Sequence[str]) -> process.Completed:
        environment = {**os.environ, MARK: self._token}
        return process.run(command, timeout_s=self._spec.timeout, cwd=self._folder, env=environment)


def _last(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "(said nothing)"
