"""pay with a defect: a replica that cannot reach the database accepts transfers into a local ledger.

Not part of the stack; an overlay replaces pay with it, to prove that ledgers that diverged are detected.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from connections import NotExecuted, Unknown
from pay import TRANSFER_COLUMNS, pay
from postgres import Database
from records import Ledger, Record
from web_service import serve


class LocalLedger(Ledger):
    """A ledger that accepts every transfer. Those it stores locally are never applied to the database."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "entries", extra=TRANSFER_COLUMNS)
        self._local: list[Record] = []

    async def store(self, record: Record, *extra: Any) -> None:
        try:
            await super().store(record, *extra)
        except (NotExecuted, Unknown):
            self._local.append(record)

    async def read(self, query: Any) -> bytes:
        entries = json.loads(await super().read(query))["entries"]
        there = {entry["id"] for entry in entries}
        after = int(query.get("after", "-1"))
        own = [one for one in self._local if one.writer == query["writer"] and one.seq > after and one.id not in there]
        return json.dumps({"entries": [*entries, *(json.loads(one.answer) for one in own)]}).encode()


def pay_two_writers() -> web.Application:
    return pay(LocalLedger)


if __name__ == "__main__":
    serve(pay_two_writers)
