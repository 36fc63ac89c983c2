"""pay with a defect: its ledger is read from the nearest database node, which may be a standby that lags.

Not part of the stack; an overlay replaces pay with it, to prove that stale reads are detected.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from pay import TRANSFER_COLUMNS, pay
from postgres import Database
from records import Ledger
from web_service import serve


class StaleLedger(Ledger):
    """A ledger that is read from its own site's node, leader or not."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "entries", extra=TRANSFER_COLUMNS)

    async def read(self, query: Any) -> bytes:
        return await super().read({**query, "local": "1"})


def pay_stale_reads() -> web.Application:
    return pay(StaleLedger)


if __name__ == "__main__":
    serve(pay_stale_reads)
