"""How everything that a run changes is undone: written to disk before the change is made, so that it survives the run.

The journal is append-only, one JSON object a line, flushed to the disk before `plan` returns. Undoing goes backwards,
is idempotent, and needs nothing but the journal.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

import msgspec

from chaoslab import process
from chaoslab.clock import Deadline
from chaoslab.errors import ChaoslabError

_DEATHS_S = 5.0


class Step(msgspec.Struct, frozen=True, tag_field="undo"):
    """One thing to undo."""


class EndProcesses(Step, frozen=True, tag="end-processes"):
    """Kill every process whose environment carries `key=value`, and its descendants."""

    key: str
    value: str


class RemoveFolder(Step, frozen=True, tag="remove-folder"):
    """Remove a folder that the run made."""

    path: str


class RunCommand(Step, frozen=True, tag="run-command"):
    """Run a fault's own undo command."""

    command: list[str]
    cwd: str
    timeout_s: float


class Done(Step, frozen=True, tag="done"):
    """The step planned as number `number` was undone."""

    number: int


AnyStep = EndProcesses | RemoveFolder | RunCommand | Done
_DECODER = msgspec.json.Decoder(AnyStep)


class UndoJournal:
    """The undo journal of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0

    def plan(self, step: AnyStep) -> int:
        """Write how to undo what is about to be done; returns its number. On return it is on the disk."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(step) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._count += 1
        return self._count - 1

    def done(self, number: int) -> None:
        """Note that a planned step has been undone."""
        self.plan(Done(number))


def undo_journal(folder: Path) -> Path:
    """Where the undo journal of a run lies in its folder."""
    return folder / "undo.jsonl"


def open_steps(path: Path) -> list[tuple[int, AnyStep]]:
    """The steps of a journal that are not undone yet, latest first. A last line that a crash cut short counts as absent."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    steps = [_DECODER.decode(line) for line in lines]
    done = {step.number for step in steps if isinstance(step, Done)}
    return [(n, step) for n, step in reversed(list(enumerate(steps))) if n not in done and not isinstance(step, Done)]


def undo(path: Path) -> list[str]:
    """Undo all open steps of a journal, latest first, and note each; returns what could not be undone, in words."""
    journal, left = UndoJournal(path), list[str]()
    for number, step in open_steps(path):
        try:
            left += perform(step)
            journal.done(number)
        except (ChaoslabError, OSError) as failed:
            left.append(f"{type(step).__name__}: {failed}")
    return left


def perform(step: AnyStep) -> list[str]:
    """Undo one step; returns what is left of it, in words. Undoing what is undone already does nothing."""
    match step:
        case EndProcesses(key, value):
            return _end_processes(key, value)
        case RemoveFolder(path):
            shutil.rmtree(path, ignore_errors=True)
            return [f"folder {path}"] if Path(path).exists() else []
        case RunCommand(command, cwd, timeout_s):
            done = process.run(command, timeout_s=timeout_s, cwd=Path(cwd))
            return [f"{' '.join(command)}: exit status {done.returncode}"] if done.returncode else []
        case Done():
            return []


def _end_processes(key: str, value: str) -> list[str]:
    deadline = Deadline.after(_DEATHS_S)
    while pids := _pids(process.marked(key, value)):
        process.send(pids, signal.SIGKILL)
        process.deaths_ns(pids, Deadline.after(1.0))
        if deadline.passed:
            return [f"process {pid}" for pid in pids]
    return []


def _pids(found: Iterable[process.Found]) -> list[int]:
    return [one.pid for one in found if one.pid != os.getpid()]
