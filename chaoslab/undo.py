"""How everything that a run changes is undone: written to disk before the change is made, so that it survives the run.

The journal is append-only, one JSON object a line, flushed to the disk before `plan` returns. Undoing goes backwards,
is idempotent, and needs nothing but the journal; what could not be undone stays open, for `chaoslab heal`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from chaoslab import process
from chaoslab.clock import Deadline
from chaoslab.errors import EnvironmentFault
from chaoslab.files import open_to_append
from chaoslab.kill import kill

_DEATHS_S = 5.0
_NAMED_MAX = 3  # processes that are named when they were killed; of the others the number is enough

Tell = Callable[[str], None]


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
    """The undo journal of one run. Safe for several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def plan(self, step: AnyStep) -> int:
        """Write how to undo what is about to be done; returns its number, that of its line. On return it is on the disk.

        Raises EnvironmentFault when it cannot be written: then the change must not be made.
        """
        try:
            with self._lock:
                return self._append(step)
        except OSError as broken:
            raise EnvironmentFault(f"cannot write {self.path}, so nothing may be changed: {broken.strerror}") from broken

    def _append(self, step: AnyStep) -> int:
        is_new = not self.path.exists()
        descriptor = open_to_append(self.path)
        with os.fdopen(descriptor, "r+b", buffering=0) as journal:
            before = journal.read()
            line = msgspec.json.encode(step) + b"\n"
            if before and not before.endswith(b"\n"):  # a crash or a full disk cut a line short: leave it to itself
                line = b"\n" + line
            if journal.write(line) != len(line):
                raise OSError(0, "a line was cut short")
            os.fsync(descriptor)
        if is_new:
            _sync_folder(self.path.parent)
        return len((before + line).splitlines()) - 1

    def done(self, number: int) -> None:
        """Note that a planned step has been undone. Where that cannot be written, it will be undone once more: no harm."""
        with contextlib.suppress(EnvironmentFault):
            self.plan(Done(number))


def _sync_folder(folder: Path) -> None:
    """A new file survives a power loss once its folder is on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def undo_journal(folder: Path) -> Path:
    """Where the undo journal of a run lies in its folder."""
    return folder / "undo.jsonl"


def open_steps(path: Path) -> list[tuple[int, AnyStep]]:
    """The steps of a journal that are not undone yet, latest first. A line that was cut short counts as absent."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    steps = [(number, step) for number, line in enumerate(lines) if (step := _decoded(line)) is not None]
    done = {step.number for _, step in steps if isinstance(step, Done)}
    return [(n, step) for n, step in reversed(steps) if n not in done and not isinstance(step, Done)]


def _decoded(line: bytes) -> AnyStep | None:
    step: AnyStep | None = None
    with contextlib.suppress(msgspec.MsgspecError):
        step = _DECODER.decode(line)
    return step


def _silent(_: str) -> None:
    """Nobody wants to know."""


def undo(path: Path, tell: Tell = _silent) -> list[str]:
    """Undo all open steps of a journal, latest first, and note each; returns what could not be undone, in words.

    `tell` hears what was done. One process at a time: a second one waits for the first and finds the rest.
    """
    if not path.exists():
        return []
    journal, left = UndoJournal(path), list[str]()
    with _alone(path):
        for number, step in open_steps(path):
            try:
                found = perform(step, tell)
            except Exception as failed:  # whatever it was: the other steps have to be undone
                found = [f"{type(step).__name__}: {failed}"]
            if not found:
                journal.done(number)
            left += found
    return left


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("rb") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        yield


def perform(step: AnyStep, tell: Tell = _silent) -> list[str]:
    """Undo one step; returns what is left of it, in words. Undoing what is undone already does nothing."""
    match step:
        case EndProcesses(key, value):
            return _end_processes(key, value, tell)
        case RemoveFolder(path):
            return _remove_folder(Path(path), tell)
        case RunCommand(command, cwd, timeout_s):
            done = process.run(command, timeout_s=timeout_s, cwd=Path(cwd))
            tell(f"ran {shlex.join(command)}: exit status {done.returncode}")
            said = f": {done.stderr.strip()}" if done.stderr.strip() else ""
            return [f"{shlex.join(command)}: exit status {done.returncode}{said}"] if done.returncode else []
        case Done():
            return []


def _remove_folder(path: Path, tell: Tell) -> list[str]:
    if not path.exists():
        return []
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        return [f"folder {path}"]
    tell(f"removed the folder {path}")
    return []


def _end_processes(key: str, value: str, tell: Tell) -> list[str]:
    deadline, killed = Deadline.after(_DEATHS_S), dict[int, str]()
    while found := [one for one in process.marked(key, value) if one.pid != os.getpid()]:
        pids = [one.pid for one in found]
        if deadline.passed:
            return [f"process {pid}" for pid in pids]
        killed |= {one.pid: process.name_of(one) for one in found}
        kill(pids, Deadline.after(1.0))
    if killed:
        more = f", and {len(killed) - _NAMED_MAX} more" if len(killed) > _NAMED_MAX else ""
        tell(f"killed {', '.join([*killed.values()][:_NAMED_MAX])}{more}")
    return []
