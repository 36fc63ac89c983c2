"""pay with a defect: it acknowledges a transfer once it is in a file that it never syncs, and writes it to the database later.

Not part of the stack; an overlay replaces pay with it, to prove that what a power cut loses is detected. A replica that was
killed continues from its file, so killing it loses nothing.

TRANSFERS    folder that survives the process
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from connections import NotExecuted, Unknown
from pay import TRANSFER_COLUMNS, pay
from postgres import Database
from records import Ledger, Record
from web_service import serve

BEHIND_S = 2.0  # how long a transfer is only in the file, at least


class UnsyncedLedger(Ledger):
    """A ledger whose `store` returns once the transfer is in the file. A line is a transfer, or the id of a stored one."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "entries", extra=TRANSFER_COLUMNS)
        path = Path(os.environ["TRANSFERS"]) / "transfers"
        *lines, cut_short = path.read_text().split("\n") if path.exists() else [""]
        self._open = path.open("a")
        if cut_short:
            self._open.write("\n")
        self._pending: set[asyncio.Task[None]] = set()
        waiting: dict[str, list[Any]] = {}
        for line in lines:
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, list):
                    waiting[entry[0]] = entry
                else:
                    waiting.pop(entry, None)
        for entry in waiting.values():
            self._persist_later(Record(*entry[:4]), *entry[4:])

    async def store(self, record: Record, *extra: Any) -> None:
        self._write([record.id, record.writer, record.seq, record.payload, *extra])
        self._persist_later(record, *extra)

    def _write(self, entry: object) -> None:
        self._open.write(f"{json.dumps(entry)}\n")
        self._open.flush()

    def _persist_later(self, record: Record, *extra: Any) -> None:
        task = asyncio.create_task(self._persist(record, *extra))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _persist(self, record: Record, *extra: Any) -> None:
        while True:
            await asyncio.sleep(BEHIND_S)
            try:
                await super().store(record, *extra)
            except (NotExecuted, Unknown):
                continue
            except web.HTTPConflict:
                pass  # the client had its acknowledgement long ago
            return self._write(record.id)


def pay_never_syncs() -> web.Application:
    return pay(UnsyncedLedger)


if __name__ == "__main__":
    serve(pay_never_syncs)
