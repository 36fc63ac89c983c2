"""pay with a defect: it acknowledges a transfer when it is in memory, and persists it later.

Not part of the stack; an overlay replaces pay with it, to prove that lost money is detected.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from connections import NotExecuted, Unknown
from pay import TRANSFER_COLUMNS, pay
from postgres import Database
from records import Ledger, Record
from web_service import serve

BEHIND_S = 2.0  # how many seconds of transfers a power loss destroys, at least


class WriteBehind(Ledger):
    """A ledger whose `store` returns at once."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "entries", extra=TRANSFER_COLUMNS)
        self._pending: set[asyncio.Task[None]] = set()

    async def store(self, record: Record, *extra: Any) -> None:
        task = asyncio.create_task(self._persist(record, *extra))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _persist(self, record: Record, *extra: Any) -> None:
        while True:
            await asyncio.sleep(BEHIND_S)
            try:
                return await super().store(record, *extra)
            except (NotExecuted, Unknown):
                continue
            except web.HTTPConflict:
                return None  # the client had its acknowledgement long ago


def pay_ack_first() -> web.Application:
    return pay(WriteBehind)


if __name__ == "__main__":
    serve(pay_ack_first)
