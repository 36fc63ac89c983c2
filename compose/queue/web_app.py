"""What the shop and the worker have in common: an aiohttp server at LISTEN, with truthful statuses for failures."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol

from aiohttp import web

from passage import address_of
from store import NotExecuted, Unknown

NOT_EXECUTED = 429  # nothing was executed
UNKNOWN = 503  # may have been executed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Companion(Protocol):
    """Something that works in the background while the service runs."""

    def start(self) -> None: ...

    async def stop(self) -> None: ...


def application(ready: Callable[[], bool], routes: Iterable[web.RouteDef], companions: Iterable[Companion]) -> web.Application:
    """An application that serves `routes`, and starts and stops the companions with itself."""

    async def is_ready(_: web.Request) -> web.Response:
        return web.Response(status=200 if ready() else 503)

    async def is_live(_: web.Request) -> web.Response:
        return web.Response()

    async def lifespan(_: web.Application) -> AsyncIterator[None]:
        for companion in companions:
            companion.start()
        yield
        for companion in companions:
            await companion.stop()

    app = web.Application(middlewares=[_truthful])
    app.cleanup_ctx.append(lifespan)
    app.router.add_routes([web.get("/live", is_live), web.get("/ready", is_ready), *routes])
    return app


@web.middleware
async def _truthful(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say which failures prove that nothing happened, and which do not."""
    try:
        return await handler(request)
    except NotExecuted as why:
        return web.json_response({"error": str(why)}, status=NOT_EXECUTED)
    except Unknown as why:
        return web.json_response({"error": str(why)}, status=UNKNOWN)


def serve(make: Callable[[], web.Application]) -> None:
    """Run the application at LISTEN (host:port) until a signal ends it."""
    host, port = address_of(os.environ["LISTEN"])

    async def build() -> web.Application:
        return make()

    web.run_app(build(), host=host, port=port, access_log=None, print=None, shutdown_timeout=1.0, loop=asyncio.new_event_loop())
