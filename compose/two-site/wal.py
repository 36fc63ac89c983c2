"""Segment files of PostgreSQL's write-ahead log: their names, their headers, and what pg_waldump reads in them."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

NAME = re.compile(r"[0-9A-F]{24}")
HISTORY = re.compile(r"[0-9A-F]{8}\.history")
_HEADER = struct.Struct("<HHIQI4xQII")  # of the first page: magic, info, timeline, address, remaining, system, sizes
_LONG_HEADER = 0x0002
_COMMIT = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+), .*desc: COMMIT(?: PREPARED)? (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")
_DUMP_TIMEOUT_S = 60.0


@dataclass(frozen=True, order=True)
class Segment:
    """One WAL file: its timeline, and its number in units of `size` bytes."""

    timeline: int
    number: int
    size: int

    @classmethod
    def named(cls, name: str, size: int) -> Segment:
        """The segment of that name. Raises ValueError for another name."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a WAL segment")
        timeline, log, piece = (int(name[place : place + 8], 16) for place in (0, 8, 16))
        return cls(timeline, log * (2**32 // size) + piece, size)

    @classmethod
    def holding(cls, timeline: int, lsn: int, size: int) -> Segment:
        """The one with the byte at this address."""
        return cls(timeline, lsn // size, size)

    @property
    def name(self) -> str:
        per_log = 2**32 // self.size
        return f"{self.timeline:08X}{self.number // per_log:08X}{self.number % per_log:08X}"

    @property
    def begin(self) -> int:
        return self.number * self.size

    def until(self, end: int) -> list[Segment]:
        """This segment and those that follow it on its timeline, up to but without number `end`."""
        return [Segment(self.timeline, number, self.size) for number in range(self.number, end)]


@dataclass(frozen=True)
class Header:
    """The header in the first page of a segment."""

    timeline: int
    address: int
    system: int
    size: int


def header_of(content: bytes) -> Header | None:
    """The header at the beginning of a segment; None where there is none."""
    if len(content) < _HEADER.size:
        return None
    magic, info, timeline, address, _, system, size, _ = _HEADER.unpack_from(content)
    return Header(timeline, address, system, size) if magic and info & _LONG_HEADER else None


def lsn_of(text: str) -> int:
    """The address that PostgreSQL writes as 0/3000110."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_text(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:08X}"


@dataclass(frozen=True)
class Switch:
    """Where a timeline ends, from the history of a later one."""

    timeline: int
    lsn: int


def switches_in(history: str) -> list[Switch]:
    """The ancestors of a timeline, the first one first."""
    lines = [line.split("\t") for line in history.splitlines() if line.strip() and not line.startswith("#")]
    return [Switch(int(words[0]), lsn_of(words[1])) for words in lines]


@dataclass(frozen=True)
class Commit:
    lsn: int
    at: datetime


@dataclass(frozen=True)
class Dumped:
    """The commits that were read, and what was wrong with the first record that could not be; "" where all could."""

    commits: Sequence[Commit]
    broken: str


def dump(waldump: Path, folder: Path, timeline: int, begin: int, end: int) -> Dumped:
    """Read the WAL of a timeline between two addresses; pg_waldump verifies the checksum of each record.

    Raises OSError or subprocess.TimeoutExpired.
    """
    which = ["--path", str(folder), "--timeline", str(timeline), "--start", lsn_text(begin), "--end", lsn_text(end)]
    done = subprocess.run(
        [str(waldump), *which, "--rmgr", "Transaction"],
        capture_output=True,
        text=True,
        timeout=_DUMP_TIMEOUT_S,
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        check=False,
    )
    commits = [Commit(lsn_of(lsn), datetime.fromisoformat(at).replace(tzinfo=UTC)) for lsn, at in _COMMIT.findall(done.stdout)]
    said = done.stderr.strip().splitlines() or [f"pg_waldump ended with status {done.returncode}"]
    return Dumped(commits, said[-1].removeprefix("pg_waldump: error: ") if done.returncode else "")
