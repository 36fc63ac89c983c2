"""What a plan finds in single files of an archive, and in its times; whole archives are restored in tests/bench."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archive import Archive, Entry
from restore_plan import _Base, _clock_problems, _history_of, _moment_problems, _needed, _segment_problems
from wal import Commit, Segment, Switch, lsn_text

SIZE = 1 << 16
SYSTEM = 7001
BASE = _Base(Entry("base", "b1", 1, "", "2026-11-27T10:00:00+00:00", str(SYSTEM)), Path("b1"), 2 * SIZE + 40, 3 * SIZE, 1, SIZE)
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def content(segment: Segment, system: int = SYSTEM) -> bytes:
    head = struct.pack("<HHIQI4xQII", 0xD113, 2, segment.timeline, segment.begin, 0, system, SIZE, 8192)
    return head.ljust(SIZE, b"\x07")


def archived(folder: Path, *numbers: int, timeline: int = 1) -> Archive:
    archive = Archive(folder)
    for number in numbers:
        segment = Segment(timeline, number, SIZE)
        archive.put_wal(segment.name, content(segment))
    return archive


def kept(archive: Archive) -> dict[str, Entry]:
    return {entry.name: entry for entry in archive.entries()}


def found_in(archive: Archive, number: int) -> list[str]:
    segment = Segment(1, number, SIZE)
    return [problem.cause for problem in _segment_problems(archive, segment, kept(archive).get(segment.name), BASE)]


def test_a_segment_as_it_was_archived_is_sound(tmp_path: Path) -> None:
    assert found_in(archived(tmp_path, 2), 2) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda path: path.unlink(), "segment missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "segment cut short"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x08"), "segment changed"),
        (lambda path: path.write_bytes(content(Segment(1, 3, SIZE))), "segment misplaced"),
        (lambda path: path.write_bytes(b"\0" * SIZE), "segment misplaced"),
        (lambda path: path.write_bytes(content(Segment(1, 2, SIZE), system=1)), "another cluster"),
    ],
)
def test_what_is_wrong_with_a_segment_is_named(tmp_path: Path, change: Callable[[Path], None], cause: str) -> None:
    archive = archived(tmp_path, 2)
    change(archive.wal / Segment(1, 2, SIZE).name)
    assert found_in(archive, 2) == [cause]


def test_every_segment_from_the_base_on_is_needed(tmp_path: Path) -> None:
    """Also one that nobody archived; across a promotion, that in which the timelines part is needed of the later one."""
    archive = archived(tmp_path, 1, 2, 3, 6)
    needed = _needed(BASE, [], 1, kept(archive))
    assert [segment.number for segment in needed] == [2, 3, 4, 5, 6]
    assert found_in(archive, 5) == ["segment never archived"]
    later = archived(tmp_path, 5, 6, timeline=2)
    needed = _needed(BASE, [Switch(1, 5 * SIZE + 8)], 2, kept(later))
    assert [(segment.timeline, segment.number) for segment in needed] == [(1, 2), (1, 3), (1, 4), (2, 5), (2, 6)]


@pytest.mark.parametrize(
    ("history", "cause"),
    [
        (f"1\t{lsn_text(5 * SIZE + 8)}\tx\n", ""),
        (f"1\t{lsn_text(2 * SIZE)}\tx\n", "wrong timeline"),  # before the base was complete
        (f"1\t{lsn_text(3 * SIZE + 8)}\tx\n", "wrong timeline"),  # and timeline 1 went on to the segment 4
        (f"3\t{lsn_text(5 * SIZE + 8)}\tx\n", "wrong timeline"),  # of another branch
        ("", "history missing"),
    ],
)
def test_a_history_must_lead_from_the_base_to_the_end(tmp_path: Path, history: str, cause: str) -> None:
    archived(tmp_path, 2, 3, 4)
    archive = archived(tmp_path, 5, timeline=2)
    if history:
        archive.put_wal("00000002.history", history.encode())
    try:
        switches, newest = _history_of(archive, archive.entries(), BASE)
        assert (switches, newest, cause) == ([Switch(1, 5 * SIZE + 8)], 2, "")
    except Exception as refused:
        assert [problem.cause for problem in refused.problems] == [cause]  # type: ignore[attr-defined]


def test_clocks_that_differ_are_found(tmp_path: Path) -> None:
    """That of the archive, either way; and that of the database, which went back."""
    segment = Segment(1, 2, SIZE)
    entry = Entry("wal", segment.name, SIZE, "", NOON.isoformat())
    near = [(segment, Commit(1, NOON - timedelta(seconds=2)))]
    assert list(_clock_problems(near, {segment.name: entry})) == []
    for hours in (1, -1):
        skewed = replace(entry, at=(NOON + timedelta(hours=hours)).isoformat())
        assert [problem.cause for problem in _clock_problems(near, {segment.name: skewed})] == ["clocks differ"]
    later, late = Segment(1, 3, SIZE), replace(entry, at=(NOON + timedelta(hours=1)).isoformat())
    both = {segment.name: entry, later.name: late}
    assert list(_clock_problems([*near, (later, Commit(2, NOON))], both)) == []  # the archive could not be reached for a while
    back = [(segment, Commit(1, NOON + timedelta(hours=1))), (segment, Commit(2, NOON))]
    assert [problem.cause for problem in _clock_problems(back, {segment.name: entry})] == ["clocks differ"]


def test_a_moment_must_lie_in_the_archive() -> None:
    commits = [(Segment(1, 2, SIZE), Commit(1, NOON))]
    assert list(_moment_problems(commits, BASE, NOON)) == []
    assert [problem.cause for problem in _moment_problems(commits, BASE, NOON + timedelta(seconds=1))] == [
        "moment after the end"
    ]
