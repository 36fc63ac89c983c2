"""pay with a defect: a slow transfer is retried under another key, and both count.

Not part of the stack; an overlay replaces pay with it, to prove that money that moved twice is detected.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from aiohttp import web

from pay import TRANSFER_COLUMNS, pay
from postgres import Database
from records import Ledger, Record
from web_service import serve

PATIENCE_S = 0.1
_AGAIN = "#again"


class DoubleApplyLedger(Ledger):
    """A ledger that retries a transfer as if it were a new one."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "entries", extra=TRANSFER_COLUMNS)
        self._read = self._read.replace("'id', id", f"'id', replace(id, '{_AGAIN}', '')")

    async def store(self, record: Record, *extra: Any) -> None:
        first = asyncio.create_task(super().store(record, *extra))
        done, _ = await asyncio.wait({first}, timeout=PATIENCE_S)
        if not done:
            await super().store(replace(record, id=record.id + _AGAIN), *extra)
        await first


def pay_double_apply() -> web.Application:
    return pay(DoubleApplyLedger)


if __name__ == "__main__":
    serve(pay_double_apply)
