"""talk: messages. The latest are read from the nearest node, leader or not; logged-in users can continue without auth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from aiohttp import web

from login import KnownVisitors, Login
from postgres import Database
from records import Ledger, parse, refuse
from web_service import Companion, application, database, json_answer, serve

PAGE_MAX = 100
LATEST = """
SELECT coalesce(json_agg(json_build_object('id', id, 'writer', writer, 'payload', payload)), '[]')::text
FROM (SELECT id, writer, payload FROM messages ORDER BY arrival DESC LIMIT $1) AS latest
"""


class Pages(Protocol):
    """The latest messages, as JSON."""

    async def page(self, reader: str, limit: int) -> bytes:
        """As `reader` sees them, at most `limit`. Raises NotExecuted or Unknown."""
        ...


class StoredPages:
    """Read from the database for each request; every reader sees the same."""

    def __init__(self, nodes: Database) -> None:
        self._nodes = nodes

    async def page(self, reader: str, limit: int) -> bytes:
        row = await self._nodes.anywhere(LATEST, limit)
        return row[0].encode() if row else b"[]"


def talk(open_pages: Callable[[Database], Pages] = StoredPages, companions: Iterable[Companion] = ()) -> web.Application:
    """The service as an application. Needs DATABASE, DATABASE_PASSWORD and AUTH_URL."""
    nodes = database()
    ledger = Ledger(nodes, "messages")
    pages = open_pages(nodes)
    login = Login()
    visitors = KnownVisitors(login)

    def ready(purpose: str) -> bool:
        return nodes.answers if purpose == "read" else nodes.takes_writes

    async def send(request: web.Request) -> web.Response:
        await visitors.admit(request)
        record, _ = parse(await request.read())
        await ledger.store(record)
        return json_answer(record.answer, 201)

    async def read(request: web.Request) -> web.Response:
        await visitors.admit(request)
        if "writer" in request.query:
            return json_answer(await ledger.read(request.query))
        limit = _limit(request.query.get("limit", "20"))
        page = await pages.page(request.query.get("reader", ""), limit)
        return json_answer(b'{"messages": ' + page + b"}")

    routes = [web.post("/talk/messages", send), web.get("/talk/messages", read)]
    return application("talk", ready, routes, [nodes, login, *companions])


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= PAGE_MAX:
        raise refuse(f"limit is not a whole number from 1 to {PAGE_MAX}")
    return int(text)


if __name__ == "__main__":
    serve(talk)
