"""`exec`: a command of the user, with its undo and the check that it is in effect."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from chaoslab import process
from chaoslab.cleanup.journal import AnyStep, EndProcesses, RunCommand
from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective, NotReady, StackError
from chaoslab.faults.base import Proof
from chaoslab.spec.fault import CallLimits, FaultBase
from chaoslab.spec.fault_types import FaultType
from chaoslab.spec.stackfile.topology import Topology
from chaoslab.spec.yaml.quantities import Seconds
from chaoslab.stack.protocol import Stack

MARK = "CHAOSLAB_EXEC"  # in the environment of each command: one that is cut short must not continue after the last heal


CUT_SHORT_S = 3.0  # to end a command that takes too long


class Exec(FaultBase):
    """A command of the user's own, with its undo and its check. Each is an argument list; no shell.

    The undo has to work from any state: after part of `inject`, without `inject`, and after an earlier undo.
    """

    fault: Literal["exec"]
    inject: Annotated[list[str], Field(min_length=1)]
    heal: Annotated[list[str], Field(min_length=1)]
    verify: Annotated[list[str], Field(min_length=1)]
    timeout: Seconds = 30.0
    cwd: Annotated[
        Path | None, Field(description="The folder of its commands, relative to the project's, which is the default.")
    ] = None
    target_fields: ClassVar[tuple[str, ...]] = ("id",)
    runs_commands: ClassVar[bool] = True

    @property
    def commands(self) -> dict[str, list[str]]:
        return {"inject": self.inject, "heal": self.heal, "verify": self.verify}

    def conflicts_with(self, other: FaultBase) -> bool:
        return False  # what a command changes is not known

    def call_limits(self, topology: Topology) -> CallLimits:
        command_s = self.timeout + CUT_SHORT_S
        return CallLimits(prepare_s=self.timeout, inject_s=command_s, heal_s=2 * command_s)  # a heal is a command and a check


class ExecFault:
    """Exit status 0 of `verify` means that the fault is in effect; before `inject` and after `heal` it must differ from 0."""

    def __init__(self, spec: Exec, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._folder = spec.cwd or Path.cwd()  # a loaded one has its folder
        self._token = token_hex(8)
        self._clock = clock

    def prepare(self) -> None:
        if self._run(self._spec.verify).returncode == 0:
            raise FaultNotEffective(
                f"the check {' '.join(self._spec.verify)} reports that the fault is in effect before it was injected"
            )

    def undo_steps(self) -> list[AnyStep]:
        """Undone in reverse order: what the commands started is ended first, then their heal runs."""
        return [RunCommand(list(self._spec.heal), str(self._folder), self._spec.timeout), EndProcesses(MARK, self._token)]

    def inject(self) -> dict[str, Any]:
        self._must(self._spec.inject)
        return {}

    def verify(self) -> Proof:
        since_ns = self._clock.now_ns()
        done = self._run(self._spec.verify)
        if done.returncode != 0:
            raise FaultNotEffective(f"{' '.join(self._spec.verify)}: exit status {done.returncode}: {_last(done.stderr)}")
        return Proof(since_ns, {"said": _last(done.stdout)})

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._must(self._spec.heal)
        return {}

    def verify_heal(self, deadline: Deadline) -> Proof:
        if self._run(self._spec.verify).returncode == 0:
            raise NotReady(f"{' '.join(self._spec.verify)} reports that the fault is still in effect after it was healed")
        return Proof(self._clock.now_ns())

    def _must(self, command: Sequence[str]) -> None:
        done = self._run(command)
        if done.returncode != 0:
            raise StackError(f"{' '.join(command)}: exit status {done.returncode}: {_last(done.stderr)}")

    def _run(self, command: Sequence[str]) -> process.Completed:
        environment = {**os.environ, MARK: self._token}
        return process.run(command, timeout_s=self._spec.timeout, cwd=self._folder, env=environment)


def _last(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "(no output)"


FAULT_TYPES = (FaultType(Exec, ExecFault),)
