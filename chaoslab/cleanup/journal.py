"""How every change of a run is undone: written to disk before the change is made, so that it survives the run.

The journal is append-only, one JSON object per line, flushed to the disk before `plan` returns. Undoing goes backwards,
is idempotent, and needs nothing but the journal; a step that could not be undone stays open, for `chaoslab heal`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from chaoslab import process
from chaoslab.clock import Deadline
from chaoslab.errors import EnvironmentFault
from chaoslab.files import open_to_append
from chaoslab.kill import kill

_DEATHS_S = 5.0
_UNMOUNT_S = 10.0
_MOUNTS = Path("/proc/self/mountinfo")  # Linux; elsewhere nothing is mounted by a run
_NAMED_MAX = 3  # killed processes that are named; the others are counted

OnProgress = Callable[[str], None]


class Step(msgspec.Struct, frozen=True, tag_field="undo"):
    """One thing to undo."""


class EndProcesses(Step, frozen=True, tag="end-processes"):
    """Kill every process whose environment carries `key=value`, and its descendants. `roster`: as in `process.remember`."""

    key: str
    value: str
    roster: str | None = None


class RemoveFolder(Step, frozen=True, tag="remove-folder"):
    """Remove a folder that the run made."""

    path: str


class Unmount(Step, frozen=True, tag="unmount"):
    """Unmount every file system that is mounted below a folder of the run."""

    path: str


class RunCommand(Step, frozen=True, tag="run-command"):
    """Run the undo command of a fault or a step."""

    command: list[str]
    cwd: str
    timeout_s: float


class Done(Step, frozen=True, tag="done"):
    """The step planned as number `number` was undone."""

    number: int


AnyStep = EndProcesses | RemoveFolder | Unmount | RunCommand | Done
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
                is_new = not self.path.exists()
                descriptor = open_to_append(self.path)
                with os.fdopen(descriptor, "r+b", buffering=0) as journal:
                    before = journal.read()
                    line = msgspec.json.encode(step) + b"\n"
                    if before and not before.endswith(b"\n"):  # a crash or a full disk cut a line short: end that line first
                        line = b"\n" + line
                    if journal.write(line) != len(line):
                        raise OSError(0, "a line was cut short")
                    os.fsync(descriptor)
                if is_new:  # it survives a power loss once its folder is on the disk, too
                    folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    try:
                        os.fsync(folder)
                    finally:
                        os.close(folder)
                return len((before + line).splitlines()) - 1
        except OSError as broken:
            raise EnvironmentFault(f"cannot write {self.path}, so no change may be made: {broken.strerror}") from broken

    def done(self, number: int) -> None:
        """Note that a planned step has been undone. Where that cannot be written, it will be undone once more: no harm."""
        with contextlib.suppress(EnvironmentFault):
            self.plan(Done(number))


def undo_journal(folder: Path) -> Path:
    """Where the undo journal of a run lies in its folder."""
    return folder / "undo.jsonl"


def open_steps(path: Path) -> list[tuple[int, AnyStep]]:
    """The steps of a journal that are not undone yet, latest first. A line that was cut short counts as absent."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    steps: list[tuple[int, AnyStep]] = []
    for number, line in enumerate(lines):
        with contextlib.suppress(msgspec.MsgspecError):
            steps.append((number, _DECODER.decode(line)))
    done = {step.number for _, step in steps if isinstance(step, Done)}
    return [(n, step) for n, step in reversed(steps) if n not in done and not isinstance(step, Done)]


def undo(path: Path, on_progress: OnProgress = lambda _: None) -> list[str]:
    """Undo all open steps of a journal, latest first, and note each; returns what could not be undone, in words.

    `on_progress` is given what was done, a line each. A second process that undoes the same journal waits for the first.
    """
    if not path.exists():
        return []
    journal, left = UndoJournal(path), list[str]()
    with path.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        for number, step in open_steps(path):
            try:
                found = perform(step, on_progress)
            except Exception as failed:  # whatever it was: the other steps have to be undone
                found = [f"{type(step).__name__}: {failed}"]
            if not found:
                journal.done(number)
            left += found
    return left


def perform(step: AnyStep, on_progress: OnProgress = lambda _: None) -> list[str]:
    """Undo one step; returns what is left of it, in words. Undoing what is undone already does nothing."""
    match step:
        case EndProcesses(key, value, roster):
            return _end_processes(key, value, Path(roster) if roster else None, on_progress)
        case RemoveFolder(path):
            folder = Path(path)
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)
                if folder.exists():
                    return [f"folder {folder}"]
                on_progress(f"removed the folder {folder}")
            return []
        case Unmount(path):
            for place in _mounted_below(Path(path)):
                if process.run(["umount", place], timeout_s=_UNMOUNT_S).returncode == 0:
                    on_progress(f"unmounted {place}")
            return [f"mount {place}" for place in _mounted_below(Path(path))]
        case RunCommand(command, cwd, timeout_s):
            done = process.run(command, timeout_s=timeout_s, cwd=Path(cwd))
            on_progress(f"ran {shlex.join(command)}: exit status {done.returncode}")
            error = f": {done.stderr.strip()}" if done.stderr.strip() else ""
            return [f"{shlex.join(command)}: exit status {done.returncode}{error}"] if done.returncode else []
        case Done():
            return []


def _end_processes(key: str, value: str, roster: Path | None, on_progress: OnProgress) -> list[str]:
    deadline, killed = Deadline.after(_DEATHS_S), dict[int, str]()
    while found := [marked for marked in process.marked(key, value, roster) if marked.pid != os.getpid()]:
        pids = [marked.pid for marked in found]
        if deadline.passed:
            return [f"process {pid}" for pid in pids]
        killed |= {marked.pid: process.name_of(marked) for marked in found}
        kill(pids, Deadline.after(1.0))
    if killed:
        more = f", and {len(killed) - _NAMED_MAX} more" if len(killed) > _NAMED_MAX else ""
        on_progress(f"killed {', '.join([*killed.values()][:_NAMED_MAX])}{more}")
    return []


def _mounted_below(folder: Path) -> list[str]:
    """Where something is mounted below a folder, the latest first. The kernel names places with links followed."""
    folder = folder.resolve()
    lines = _MOUNTS.read_text().splitlines() if _MOUNTS.exists() else []
    places = [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4]) for line in lines]
    return [place for place in reversed(places) if Path(place).is_relative_to(folder)]
