"""The journal of a game day, `night.jsonl`: what was planned, what began and how it ended. Resuming needs nothing else.

A row is synced to the disk before the event that it announces, so that a kill repeats at most one run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.files import open_to_append
from chaoslab.gameday.plan import WHOLE, Shard

NAME = "night.jsonl"


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the game day, on whichever shard. `expected_s`: seconds that it will take. `shard` counts from 1."""

    id: str
    experiment: str
    title: str
    repeat: int
    expected_s: float
    shard: int
    spec_sha256: str


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """The first row: the plan of the whole game day, the same on every shard but for `shard` and `started_at` (UTC)."""

    suite: str
    title: str
    purpose: str
    runtime: str
    started_at: str
    chaoslab: str
    plan: list[Planned]
    shard: Shard = WHOLE
    budget_s: float | None = None
    limit_s: float = 900.0
    after_fail: Literal["continue", "stop"] = "continue"
    use_binds: bool = False

    @property
    def mine(self) -> list[Planned]:
        """What this shard has to run."""
        return [case for case in self.plan if case.shard == self.shard.index]


class Begun(msgspec.Struct, frozen=True, kw_only=True, tag="begun"):
    """A run is about to start, `elapsed_s` into the game day (interruptions left out)."""

    case: str
    at: str
    elapsed_s: float


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """A run is over. `folder`: relative to the game day's; empty if the run left none. `why`: what ended it early."""

    case: str
    at: str
    elapsed_s: float
    seconds: float
    exit_code: int
    folder: str = ""
    why: str = ""


class NotRun(msgspec.Struct, frozen=True, kw_only=True, tag="not-run"):
    """A case that will not run in this game day, and why."""

    case: str
    why: str


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag="closed"):
    """The game day is over."""

    at: str
    elapsed_s: float


AnyRow = Opened | Begun | Ended | NotRun | Closed
_DECODER = msgspec.json.Decoder(AnyRow)


class Journal:
    """Appends rows to the journal of a game day's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def append(self, row: AnyRow) -> None:
        """Write one row and sync it to the disk; half a row before it, cut by a kill or a full disk, is removed.

        Raises EnvironmentFault.
        """
        line = msgspec.json.encode(row) + b"\n"
        try:
            descriptor = open_to_append(self._path)
            try:
                whole = os.pread(descriptor, os.fstat(descriptor).st_size, 0).rfind(b"\n") + 1
                os.ftruncate(descriptor, whole)
                if os.write(descriptor, line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as broken:
            raise EnvironmentFault(f"cannot write {self._path}: {broken.strerror or broken}") from broken


def has_rows(folder: Path) -> bool:
    """Whether there is a journal with at least one whole row; without one, a game day was killed before it had a plan."""
    with contextlib.suppress(FileNotFoundError):
        return b"\n" in (folder / NAME).read_bytes()
    return False


def read_journal(folder: Path) -> list[AnyRow]:
    """All whole rows; the last line may have been cut by a kill. Raises SpecError when there is no journal to read."""
    path = folder / NAME
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        cure = "name the folder of a game day, runs/gameday/SUITE/TIME"
        raise SpecError(f"{folder} is not the folder of a game day: it has no {NAME}", cure=cure) from None
    except OSError as broken:
        raise SpecError(f"{path}: cannot be read: {broken.strerror}") from broken
    rows: list[AnyRow] = []
    for number, line in enumerate(lines, 1):
        try:
            rows += [_DECODER.decode(line)] if line else []
        except (msgspec.MsgspecError, UnicodeDecodeError) as broken:
            raise SpecError(f"{path}:{number}: not a row of a game day's journal: {broken}") from broken
    if not rows or not isinstance(rows[0], Opened):
        raise SpecError(f"{path}: its first line is not the plan of a game day")
    return rows


class State(msgspec.Struct, frozen=True):
    """The state of a game day. `remaining`: cases that have not ended, in order; the first may have been running when it was
    killed.

    `last_at`: the time of its last row (ISO 8601, UTC).
    """

    opened: Opened
    ended: dict[str, Ended]
    not_run: dict[str, NotRun]
    remaining: list[Planned]
    elapsed_s: float
    closed: bool
    last_at: str


def state_of(rows: Sequence[AnyRow]) -> State:
    """Pure. `rows` begin with the plan."""
    opened = next(row for row in rows if isinstance(row, Opened))
    ended = {row.case: row for row in rows if isinstance(row, Ended)}
    not_run = {row.case: row for row in rows if isinstance(row, NotRun) and row.case not in ended}
    remaining = [case for case in opened.mine if case.id not in ended and case.id not in not_run]
    timed = [row for row in rows if isinstance(row, Begun | Ended | Closed)]
    elapsed_s = max((row.elapsed_s for row in timed), default=0.0)
    last_at = max((row.at for row in timed), default=opened.started_at)
    return State(opened, ended, not_run, remaining, elapsed_s, any(isinstance(row, Closed) for row in rows), last_at)
