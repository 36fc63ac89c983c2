"""pay: a ledger that must not lose a cent. Reads and writes go only to the leader."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from login import KnownVisitors, Login
from postgres import Database
from records import Ledger, parse, refuse
from web_service import Companion, application, database, json_answer, serve

CUSTOMERS = 64
AMOUNT_MAX = 1_000_000
TRANSFER_COLUMNS = ("debit", "credit", "amount")
_BALANCE = """
SELECT coalesce((SELECT sum(amount) FROM entries WHERE credit = $1), 0)::bigint
     - coalesce((SELECT sum(amount) FROM entries WHERE debit = $1), 0)::bigint
"""


def entries_in(nodes: Database) -> Ledger:
    """The ledger of transfers."""
    return Ledger(nodes, "entries", extra=TRANSFER_COLUMNS)


def has_leader(nodes: Database) -> bool:
    """Whether a database node leads or is about to; every transfer and every balance needs one."""
    return nodes.takes_writes


def pay(
    open_ledger: Callable[[Database], Ledger] = entries_in,
    open_database: Callable[[], Database] = database,
    takes_transfers: Callable[[Database], bool] = has_leader,
    companions: Iterable[Companion] = (),
) -> web.Application:
    """The service as an application. Needs DATABASE, DATABASE_PASSWORD and AUTH_URL."""
    nodes = open_database()
    ledger = open_ledger(nodes)
    login = Login()
    visitors = KnownVisitors(login)

    def ready(purpose: str) -> bool:
        return has_leader(nodes) if purpose == "read" else takes_transfers(nodes)

    async def transfer(request: web.Request) -> web.Response:
        await visitors.admit(request)
        record, fields = parse(await request.read())
        await ledger.store(record, *_terms(record.id, fields))
        return json_answer(record.answer, 201)

    async def read_back(request: web.Request) -> web.Response:
        await visitors.admit(request)
        return json_answer(await ledger.read(request.query))

    async def balance(request: web.Request) -> web.Response:
        await visitors.admit(request)
        account = request.query.get("account", "customer-0").replace("\0", "")
        row = await nodes.on_leader(_BALANCE, account)
        return json_answer(json.dumps({"account": account, "balance": row[0] if row else 0}).encode())

    routes = [
        web.post("/pay/entries", transfer),
        web.get("/pay/entries", read_back),
        web.get("/pay/balance", balance),
    ]
    return application("pay", ready, routes, [nodes, login, *companions])


def _terms(identity: str, fields: dict[str, Any]) -> tuple[str, str, int]:
    """Payer, payee and amount. Without a payer, the id selects one of a few customers."""
    amount = fields.get("amount", 1)
    debit = fields.get("from", f"customer-{zlib.crc32(identity.encode()) % CUSTOMERS}")
    credit = fields.get("to", "merchant")
    if type(amount) is not int or not 1 <= amount <= AMOUNT_MAX:
        raise refuse(f"amount is not a whole number from 1 to {AMOUNT_MAX}")
    if not all(isinstance(name, str) and 0 < len(name) <= 64 and "\0" not in name for name in (debit, credit)):
        raise refuse("from and to are not texts of 1 to 64 characters")
    if debit == credit:
        raise refuse("from and to are the same account")
    return debit, credit, amount


if __name__ == "__main__":
    serve(pay)
