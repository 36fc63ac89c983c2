"""What a restore from the archive needs, and every problem with it, found before any database is started.

PostgreSQL itself stops replaying at the first record that it cannot read, treats that as the end, and starts: a restore from a
damaged archive succeeds, and silently lacks data. So everything that the restore will read is verified here first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

from archive import MANIFEST, Archive, Entry
from wal import NAME, Commit, Segment, Switch, dump, header_of, lsn_of, lsn_text, switches_in

EARLY_MAX = timedelta(seconds=2)  # by how much WAL may seem to be archived before it was written, since there are two clocks
LATE_MAX = timedelta(minutes=1)  # by how much all of it may be late, and the database's clock may be set back
PROGRAMS = ("postgres", "pg_controldata", "pg_verifybackup", "pg_waldump")
_VERIFY_TIMEOUT_S = 120.0
_START = re.compile(r"START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file ([0-9A-F]{24})\)")
_SYSTEM = re.compile(r"Database system identifier: +(\d+)")


@dataclass(frozen=True)
class Problem:
    """A reason for which a restore would fail, or silently lose data. `cause`: one of a fixed set of short texts."""

    cause: str
    text: str

    def __str__(self) -> str:
        return f"{self.cause}: {self.text}"


class NotRestorable(Exception):
    """The archive cannot be restored as requested."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = list(problems)


@dataclass(frozen=True)
class Plan:
    """A restore that will work. `holds_until`: when the last transaction in the archive was committed, by the database's clock.

    `until`: the point in time to restore to; None for the end of the archive.
    """

    base: str
    timeline: int
    segments: int
    holds_until: str
    until: str | None = None


@dataclass(frozen=True)
class _Base:
    """A base backup: the address from which it needs WAL, and the one at which it is consistent."""

    entry: Entry
    folder: Path
    start: int
    consistent: int
    timeline: int
    size: int  # of segments


def plan(archive: Archive, tools: Path, until: datetime | Random | None = None) -> Plan:
    """How to restore the newest state, or that of a point in time: with a Random, of some commit after the newest base backup.

    Raises NotRestorable, with every problem.
    """
    if missing := [name for name in PROGRAMS if not (tools / name).exists()]:
        raise NotRestorable([Problem("programs missing", f"{', '.join(missing)}: not in {tools}, and a restore needs them")])
    try:
        entries = archive.entries()
    except (ValueError, TypeError) as broken:
        raise NotRestorable([Problem("journal unreadable", f"{archive.folder}/journal: {broken}")]) from broken
    if not entries:
        there = "is empty" if archive.folder.is_dir() else "does not exist"
        raise NotRestorable([Problem("archive missing", f"{archive.folder} {there}, or has no journal")])
    moment = until if isinstance(until, datetime) else None
    base = _base_of(archive, tools, entries, moment)
    kept = {entry.name: entry for entry in entries if NAME.fullmatch(entry.name)}
    switches, timeline = _history_of(archive, entries, base)
    needed = _needed(base, switches, timeline, kept)
    problems = [problem for segment in needed for problem in _segment_problems(archive, segment, kept.get(segment.name), base)]
    if problems:
        raise NotRestorable(problems)
    commits = _read_all(archive, tools, base, switches, timeline, needed)
    after = [commit.at for _, commit in commits if commit.lsn > base.consistent]
    if isinstance(until, Random) and after:
        moment = until.choice(after)
    problems = [*_clock_problems(commits, kept), *_moment_problems(commits, base, moment)]
    if problems:
        raise NotRestorable(problems)
    ends = commits[-1][1].at.isoformat() if commits else base.entry.at
    return Plan(base.entry.name, timeline, len(needed), ends, moment.isoformat() if moment else None)


# --- the base ---------------------------------------------------------------------------------------------------


def _base_of(archive: Archive, tools: Path, entries: Sequence[Entry], until: datetime | None) -> _Base:
    """The newest base backup, or the newest before a point in time, verified. Raises NotRestorable."""
    bases = [entry for entry in entries if entry.kind == "base"]
    if not bases:
        raise NotRestorable([Problem("base missing", "the archive has no base backup, and WAL alone cannot be restored")])
    before = [entry for entry in bases if until is None or entry.time <= until]
    if not before:
        why = f"the first base backup was complete at {bases[0].time:%H:%M:%S}, after {until:%H:%M:%S}"
        raise NotRestorable([Problem("moment before the first base", why)])
    entry = before[-1]
    folder = archive.bases / entry.name
    if not folder.is_dir():
        raise NotRestorable([Problem("base missing", f"base backup {entry.name} is in the journal, but not in the archive")])
    problems = list(_base_problems(folder, entry, tools))
    if problems:
        raise NotRestorable(problems)
    label = _START.search((folder / "backup_label").read_text())
    manifest = json.loads((folder / MANIFEST).read_text())
    wal = manifest["WAL-Ranges"][-1]
    system = (folder / "global" / "pg_control").read_bytes()
    if label is None:
        raise NotRestorable([Problem("base has no label", f"backup_label of {entry.name} names no WAL to start from")])
    size = _segment_size(tools, folder)
    found = int.from_bytes(system[:8], "little")
    if entry.system and found != int(entry.system):
        why = f"base backup {entry.name} is of the cluster {found}, and the journal has {entry.system}"
        raise NotRestorable([Problem("another cluster", why)])
    return _Base(entry, folder, lsn_of(label[1]), lsn_of(wal["End-LSN"]), int(wal["Timeline"]), size)


def _base_problems(folder: Path, entry: Entry, tools: Path) -> Iterator[Problem]:
    """Problems of a base backup by itself, by the hash of its manifest and by pg_verifybackup."""
    if not (folder / MANIFEST).exists():
        yield Problem("base has no manifest", f"{MANIFEST} of {entry.name} is missing, so its files cannot be verified")
        return
    if hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() != entry.sha256:
        yield Problem("base replaced", f"{MANIFEST} of {entry.name} is not the one that was archived")
        return
    if not (folder / "backup_label").exists():
        yield Problem("base has no label", f"backup_label of {entry.name} is missing: it would start from a wrong place")
    verify = [str(tools / "pg_verifybackup"), "--no-parse-wal", "--quiet", str(folder)]
    done = subprocess.run(
        verify, capture_output=True, text=True, timeout=_VERIFY_TIMEOUT_S, env={**os.environ, "LC_ALL": "C"}, check=False
    )
    if done.returncode != 0:
        said = [line.removeprefix("pg_verifybackup: error: ") for line in done.stderr.splitlines()]
        yield Problem("base damaged", f"{entry.name}: {'; '.join(said[:3])}")


def _segment_size(tools: Path, folder: Path) -> int:
    """From its control file. Raises NotRestorable if that cannot be read."""
    ask = [str(tools / "pg_controldata"), str(folder)]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=10.0, env={**os.environ, "LC_ALL": "C"}, check=False)
    size = re.search(r"Bytes per WAL segment: +(\d+)", done.stdout)
    if done.returncode != 0 or size is None:
        raise NotRestorable([Problem("base damaged", f"pg_control of {folder.name} cannot be read: {done.stderr.strip()}")])
    return int(size[1])


# --- WAL --------------------------------------------------------------------------------------------------------


def _history_of(archive: Archive, entries: Sequence[Entry], base: _Base) -> tuple[list[Switch], int]:
    """The timelines after that of the base, and the newest. Raises NotRestorable if its history is missing or does not fit."""
    wal = [entry for entry in entries if entry.kind == "wal"]
    timelines = {int(entry.name[:8], 16) for entry in wal}
    newest = max(timelines, default=base.timeline)
    if newest <= base.timeline:
        return [], base.timeline
    name = f"{newest:08X}.history"
    entry = next((entry for entry in wal if entry.name == name), None)
    path = archive.wal / name
    if entry is None or not path.exists():
        why = f"{name} is missing, so a restore would stay on timeline {base.timeline}, and lose what came after"
        raise NotRestorable([Problem("history missing", why)])
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise NotRestorable([Problem("history changed", f"{name} is not what was archived")])
    switches = switches_in(content.decode())
    after = [switch for switch in switches if switch.timeline >= base.timeline]
    if not after or after[0].timeline != base.timeline:
        why = f"timeline {newest} does not descend from timeline {base.timeline} of base backup {base.entry.name}"
        raise NotRestorable([Problem("wrong timeline", why)])
    if after[0].lsn < base.consistent:
        left = f"timeline {base.timeline} was left at {lsn_text(after[0].lsn)}"
        why = f"{left}, before base backup {base.entry.name} was complete"
        raise NotRestorable([Problem("wrong timeline", why)])
    for switch in after:
        beyond = [
            segment
            for entry in wal
            if NAME.fullmatch(entry.name)
            and (segment := Segment.named(entry.name, base.size)).timeline == switch.timeline
            and segment.begin > switch.lsn
        ]
        if beyond:
            left = f"timeline {switch.timeline} was left at {lsn_text(switch.lsn)}"
            why = f"{left}, and continued to {max(beyond).name}: two nodes wrote at once"
            raise NotRestorable([Problem("wrong timeline", why)])
    return after, newest


def _needed(base: _Base, switches: Sequence[Switch], timeline: int, kept: dict[str, Entry]) -> list[Segment]:
    """Every segment from the base's start to the last one of the newest timeline."""
    needed: list[Segment] = []
    own, start = base.timeline, base.start
    for number, switch in enumerate(switches):
        needed += Segment.holding(own, start, base.size).until(switch.lsn // base.size)
        own, start = switches[number + 1].timeline if number + 1 < len(switches) else timeline, switch.lsn
    last = max((s.number for name in kept if (s := Segment.named(name, base.size)).timeline == timeline), default=-1)
    last = max(last, base.consistent // base.size)
    return needed + Segment.holding(own, start, base.size).until(last + 1)


def _segment_problems(archive: Archive, segment: Segment, entry: Entry | None, base: _Base) -> Iterator[Problem]:
    """Problems of one WAL file by itself."""
    name, path = segment.name, archive.wal / segment.name
    if entry is None:
        yield Problem("segment never archived", f"{name} is between others, but not in the journal: replay would end before it")
        return
    if not path.exists():
        yield Problem("segment missing", f"{name} is in the journal, but not in the archive: replay would end before it")
        return
    content = path.read_bytes()
    if len(content) != segment.size:
        yield Problem("segment cut short", f"{name} has {len(content)} of {segment.size} bytes")
        return
    header = header_of(content)
    if header is not None and base.entry.system and header.system != int(base.entry.system):
        yield Problem("another cluster", f"{name} is of the cluster {header.system}, and the base of {base.entry.system}")
    elif header is None or (header.address, header.size) != (segment.begin, segment.size):
        begins = "has no header" if header is None else f"begins at {lsn_text(header.address)}"
        yield Problem("segment misplaced", f"{name} {begins}, and should begin at {lsn_text(segment.begin)}")
    elif hashlib.sha256(content).hexdigest() != entry.sha256:
        yield Problem("segment changed", f"{name} is not what was archived: replay would end within it")


def _read_all(
    archive: Archive, tools: Path, base: _Base, switches: Sequence[Switch], timeline: int, needed: Sequence[Segment]
) -> list[tuple[Segment, Commit]]:
    """Every commit with the segment that contains it, in order. Raises NotRestorable if a record cannot be read."""
    found: list[tuple[Segment, Commit]] = []
    parts = [(switch.timeline, switch.lsn) for switch in switches] + [(timeline, None)]
    start = base.start
    for own, end in parts:
        segments = [segment for segment in needed if segment.timeline == own]
        if not segments:
            continue
        begin, after = max(start, segments[0].begin), segments[-1].begin + base.size
        dumped = dump(tools / "pg_waldump", archive.wal, own, begin, after)
        if dumped.broken:
            raise NotRestorable([Problem("WAL unreadable", f"replay would end there, on timeline {own}: {dumped.broken}")])
        within = [commit for commit in dumped.commits if end is None or commit.lsn < end]
        found += [(Segment.holding(own, commit.lsn, base.size), commit) for commit in within]
        start = end or start
    return found


# --- times ------------------------------------------------------------------------------------------------------


def _clock_problems(commits: Sequence[tuple[Segment, Commit]], kept: dict[str, Entry]) -> Iterator[Problem]:
    """Whether the clocks of the archive and of the database agree: only then does a point in time mean anything.

    A late segment shows nothing about clocks, unless all of them are late: an unreachable archive gets them later.
    """
    last = {segment.name: commit.at for segment, commit in commits if segment.name in kept}
    late = {name: kept[name].time - at for name, at in last.items()}
    if late and not -EARLY_MAX <= (least := min(late.values())) <= LATE_MAX:
        name = min(late, key=late.__getitem__)
        how = f"{abs(least.total_seconds()):.0f} s {'after' if least > timedelta(0) else 'before'}"
        yield Problem("clocks differ", f"{name} was archived {how} its last transaction was committed")
    times = [commit.at for _, commit in commits]
    for earlier, later in pairwise(times):
        if earlier - later > LATE_MAX:
            yield Problem("clocks differ", f"the database's clock went back from {earlier:%H:%M:%S} to {later:%H:%M:%S}")


def _moment_problems(commits: Sequence[tuple[Segment, Commit]], base: _Base, until: datetime | None) -> Iterator[Problem]:
    """Whether the archive reaches the requested point in time, with at least one transaction after it."""
    if until is not None and (not commits or commits[-1][1].at < until):
        ends = commits[-1][1].at if commits else base.entry.time
        yield Problem("moment after the end", f"the archive ends at {ends:%H:%M:%S}, before {until:%H:%M:%S}")
