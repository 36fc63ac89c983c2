"""What all services have in common: an aiohttp server at LISTEN, /live and /ready, and truthful statuses for failures."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol

from aiohttp import web

from connections import NotExecuted, Pool, Unknown
from postgres import HANDOVER_S, Database, Node

Ready = Callable[[str], bool]  # "read" or "write" -> whether this replica can serve it now
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NOT_EXECUTED = 429  # nothing was executed
UNKNOWN = 503  # may have been executed


class Companion(Protocol):
    """Something that works in the background while the service runs."""

    def start(self) -> None: ...

    async def stop(self) -> None: ...


def database() -> Database:
    """DATABASE: host:port of each node, separated by commas, the own site's first. DATABASE_PASSWORD: of the role `app`.

    HANDOVER_S: how long requests wait while the leader hands over to another node; 0: they do not wait.
    """
    password = os.environ["DATABASE_PASSWORD"]
    addresses = os.environ["DATABASE"].split(",")
    nodes = [Node(Pool(address, user="app", password=password, database="app")) for address in addresses]
    return Database(nodes, float(os.environ.get("HANDOVER_S", HANDOVER_S)))


def json_answer(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def application(name: str, ready: Ready, routes: Iterable[web.RouteDef], companions: Iterable[Companion]) -> web.Application:
    """An application that serves `routes`, and starts and stops the companions with itself."""

    async def is_ready(request: web.Request) -> web.Response:
        return web.Response(status=200 if ready(request.query.get("for", "write")) else 503)

    async def is_live(_: web.Request) -> web.Response:
        return web.Response()

    async def lifespan(_: web.Application) -> AsyncIterator[None]:
        for companion in companions:
            companion.start()
        yield
        for companion in companions:
            await companion.stop()

    app = web.Application(middlewares=[_failures_as_statuses], client_max_size=64 * 1024)
    app.cleanup_ctx.append(lifespan)
    app.router.add_get("/live", is_live)
    app.router.add_get("/ready", is_ready)
    app.router.add_get(f"/{name}/ready", is_ready)
    app.router.add_routes(routes)
    return app


@web.middleware
async def _failures_as_statuses(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn failures into statuses that show whether the request may have been executed."""
    try:
        return await handler(request)
    except NotExecuted as why:
        return json_answer(json.dumps({"error": str(why)}).encode(), NOT_EXECUTED)
    except Unknown as why:
        return json_answer(json.dumps({"error": str(why)}).encode(), UNKNOWN)


def serve(make: Callable[[], web.Application]) -> None:
    """Run the application at LISTEN (host:port) until a signal ends it."""
    host, _, port = os.environ["LISTEN"].rpartition(":")

    async def build() -> web.Application:
        return make()

    loop = asyncio.new_event_loop()
    web.run_app(build(), host=host, port=int(port), access_log=None, print=None, shutdown_timeout=1.0, loop=loop)
