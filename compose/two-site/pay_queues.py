"""pay with a degraded mode: while no database node leads, transfers are queued in their own site and answered with 202.

QUEUE: a file on a volume of the replica. A transfer is in it, and synced to the disk, before it is acknowledged; it leaves the
file once the database has it. It is applied under its own id, so that applying it twice moves the money once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from connections import NotExecuted, Unknown
from pay import TRANSFER_COLUMNS, pay
from postgres import Database
from records import Ledger, Record
from web_service import database, serve

DIRECT_S = 0.3  # time limit for the database; a transfer that takes longer is queued, so that its client gets an answer in time
RETRY_S = 0.3  # pause between attempts to apply what is queued
_SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (
    id      text PRIMARY KEY,
    terms   text NOT NULL,
    refused text
)
"""


class Queue(Protocol):
    """Transfers that were acknowledged and are not applied yet. One is a list: the fields of its record, then its terms."""

    def put(self, identity: str, terms: list[Any]) -> bool:
        """Store one; returns once it is durable. False if another transfer has this id."""
        ...

    def first(self) -> list[Any] | None:
        """The oldest."""
        ...

    def remove(self, identity: str) -> None: ...

    def refuse(self, identity: str, why: str) -> None:
        """Set one aside, for people to look at: it was acknowledged and cannot be applied."""
        ...


class DurableQueue:
    """In a file of SQLite, which syncs each change before it returns."""

    def __init__(self, file: Path) -> None:
        self._file = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = FULL")
        self._file.execute(_SCHEMA)

    def put(self, identity: str, terms: list[Any]) -> bool:
        text = json.dumps(terms)
        self._file.execute("INSERT INTO queue (id, terms) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", (identity, text))
        kept = self._file.execute("SELECT terms FROM queue WHERE id = ?", (identity,)).fetchone()
        return bool(kept[0] == text)

    def first(self) -> list[Any] | None:
        found = self._file.execute("SELECT terms FROM queue WHERE refused IS NULL ORDER BY rowid LIMIT 1").fetchone()
        return None if found is None else list(json.loads(found[0]))

    def remove(self, identity: str) -> None:
        self._file.execute("DELETE FROM queue WHERE id = ?", (identity,))

    def refuse(self, identity: str, why: str) -> None:
        self._file.execute("UPDATE queue SET refused = ? WHERE id = ?", (why, identity))


class QueueingLedger(Ledger):
    """A ledger that accepts transfers while the database does not, and applies them once it does again.

    While anything waits, new transfers queue behind it: they are applied in the order in which they were acknowledged.
    """

    def __init__(self, nodes: Database, queue: Queue) -> None:
        super().__init__(nodes, "entries", extra=TRANSFER_COLUMNS)
        self._queue = queue
        self._one_at_a_time = asyncio.Lock()
        self._waiting = True  # until the queue was seen to be empty
        self._applying: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._applying = asyncio.create_task(self._keep_applying())

    async def stop(self) -> None:
        if self._applying is not None:
            self._applying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._applying

    async def store(self, record: Record, *extra: Any) -> None:
        """Raises HTTPAccepted for a transfer that is queued."""
        if not self._waiting:
            with contextlib.suppress(NotExecuted, Unknown, TimeoutError):  # applied or not: the queue applies it once
                async with asyncio.timeout(DIRECT_S):
                    return await super().store(record, *extra)
        terms = [record.id, record.writer, record.seq, record.payload, *extra]
        async with self._one_at_a_time:
            self._waiting = True
            kept = await asyncio.to_thread(self._queue.put, record.id, terms)
        if not kept:
            raise web.HTTPConflict(text='{"error": "this id is taken by another record"}', content_type="application/json")
        raise web.HTTPAccepted(text=record.answer.decode(), content_type="application/json")

    async def _keep_applying(self) -> None:
        while True:
            async with self._one_at_a_time:
                terms = await asyncio.to_thread(self._queue.first)
                self._waiting = terms is not None
            if terms is None or not await self._apply(terms):
                await asyncio.sleep(RETRY_S)

    async def _apply(self, terms: list[Any]) -> bool:
        """Whether the oldest transfer has left the queue."""
        identity, writer, seq, payload, *extra = terms
        try:
            await super().store(Record(identity, writer, seq, payload), *extra)
        except (NotExecuted, Unknown):
            return False
        except web.HTTPConflict as taken:
            sys.stderr.write(f"{identity} was acknowledged and cannot be applied: {taken.text}\n")
            async with self._one_at_a_time:
                await asyncio.to_thread(self._queue.refuse, identity, taken.text or "")
            return True
        async with self._one_at_a_time:
            await asyncio.to_thread(self._queue.remove, identity)
        return True


def pay_queues(queue: Queue) -> web.Application:
    """The service with a queue. Needs what pay needs."""
    nodes = database()
    ledger = QueueingLedger(nodes, queue)
    return pay(lambda _: ledger, lambda: nodes, takes_transfers=lambda _: True, companions=[ledger])


if __name__ == "__main__":
    serve(lambda: pay_queues(DurableQueue(Path(os.environ["QUEUE"]))))
