"""auth: sessions. Checks are answered by the database node of the same site, so they survive the loss of the leader."""

from __future__ import annotations

import json

from aiohttp import web

from records import Ledger, parse
from web_service import application, database, json_answer, serve

_CHECK = "SELECT writer FROM sessions WHERE id = $1"


def auth() -> web.Application:
    """The service as an application. Needs DATABASE and DATABASE_PASSWORD."""
    nodes = database()
    ledger = Ledger(nodes, "sessions")

    def ready(purpose: str) -> bool:
        return nodes.answers if purpose == "read" else nodes.takes_writes

    async def log_in(request: web.Request) -> web.Response:
        record, _ = parse(await request.read())
        await ledger.store(record)
        return json_answer(record.answer, 201)

    async def check(request: web.Request) -> web.Response:
        token = request.match_info["id"]
        row = None if "\0" in token else await nodes.anywhere(_CHECK, token)
        if row is None:
            raise web.HTTPNotFound(text='{"error": "no such session"}', content_type="application/json")
        return json_answer(json.dumps({"id": token, "writer": row[0]}).encode())

    async def read_back(request: web.Request) -> web.Response:
        return json_answer(await ledger.read(request.query))

    routes = [
        web.post("/auth/sessions", log_in),
        web.get("/auth/sessions", read_back),
        web.get("/auth/sessions/{id}", check),
    ]
    return application("auth", ready, routes, [nodes])


if __name__ == "__main__":
    serve(auth)
