"""pay that acknowledges before it syncs: killing it loses nothing, and what its file has lost is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import pay_never_syncs
from connections import NotExecuted
from records import Record


class Table:
    """A database that keeps rows in memory; `down`: no node leads."""

    def __init__(self, down: bool = False) -> None:
        self.rows: dict[str, tuple[Any, ...]] = {}
        self.down = down

    async def on_leader(self, _: str, *row: Any) -> tuple[Any, ...]:
        if self.down:
            raise NotExecuted("no database node leads")
        return self.rows.setdefault(row[0], row)


@pytest.fixture(autouse=True)
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRANSFERS", str(tmp_path))
    monkeypatch.setattr(pay_never_syncs, "BEHIND_S", 0.01)
    return tmp_path / "transfers"


def record(number: int) -> Record:
    return Record(f"id-{number}", "w", number, "p")


async def stored_by(table: Table, *new: Record) -> list[str]:
    """What is in the database once a replica has taken these, and has run for a moment."""
    ledger = pay_never_syncs.UnsyncedLedger(table)  # type: ignore[arg-type]
    for one in new:
        await ledger.store(one, "from", "to", 1)
    await asyncio.sleep(0.1)
    for task in ledger._pending:
        task.cancel()
    return sorted(table.rows)


async def test_a_replica_that_was_killed_takes_up_its_file(book: Path) -> None:
    """What was acknowledged while no node led is stored by the next process; what was stored is not stored again."""
    assert await stored_by(Table(down=True), record(1), record(2)) == []
    assert await stored_by(Table()) == ["id-1", "id-2"]
    assert await stored_by(Table()) == []


async def test_what_the_file_has_lost_is_lost(book: Path) -> None:
    """As after a power cut: a line that was cut short is none."""
    await stored_by(Table(down=True), record(1), record(2))
    first, second = book.read_bytes().splitlines(keepends=True)
    book.write_bytes(first + second[:7])
    assert await stored_by(Table()) == ["id-1"]
