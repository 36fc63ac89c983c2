"""talk: messages. The latest are read from the nearest node, leader or not; logged-in users can continue without auth."""

from __future__ import annotations

from aiohttp import web

from login import KnownVisitors, Login
from records import Ledger, parse, refuse
from web_service import application, database, json_answer, serve

PAGE_MAX = 100
_LATEST = """
SELECT coalesce(json_agg(json_build_object('id', id, 'writer', writer, 'payload', payload)), '[]')::text
FROM (SELECT id, writer, payload FROM messages ORDER BY arrival DESC LIMIT $1) AS latest
"""


def talk() -> web.Application:
    """The service as an application. Needs DATABASE, DATABASE_PASSWORD and AUTH_URL."""
    nodes = database()
    ledger = Ledger(nodes, "messages")
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
        row = await nodes.anywhere(_LATEST, _limit(request.query.get("limit", "20")))
        return json_answer(b'{"messages": ' + (row[0].encode() if row else b"[]") + b"}")

    return application("talk", ready, [web.post("/talk/messages", send), web.get("/talk/messages", read)], [nodes, login])


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= PAGE_MAX:
        raise refuse(f"limit is not a whole number from 1 to {PAGE_MAX}")
    return int(text)


if __name__ == "__main__":
    serve(talk)
