"""The worker: takes orders from the stream, notes each as handled, and takes over what another worker left undone."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from aiohttp import web
from valkey.exceptions import ResponseError

from passage import address_of
from primary import Primary, sentinels
from shop import HANDLED, ORDERS
from store import Fixed, NotExecuted, Store, Unknown
from web_app import application, serve

GROUP = "workers"
AT_ONCE = 50
WAIT_MS = 200  # for an order; below the time in which a command must be answered
LEFT_ALONE_MS = 3000  # after which an order counts as left undone by its worker
LOOK_FOR_LEFT_S = 1.0
PAUSE_S = 0.2


class Work:
    """Handles orders in the background, as the consumer `name`."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        steps = ((self._take, 0.0), (self._take_over, LOOK_FOR_LEFT_S))
        self._tasks = [asyncio.create_task(self._repeat(step, pause_s)) for step, pause_s in steps]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _repeat(self, step: Any, pause_s: float) -> None:
        """Again after every failure: an order that was handled twice is noted once."""
        while True:
            try:
                await step()
                await asyncio.sleep(pause_s)
            except (NotExecuted, Unknown):
                await asyncio.sleep(PAUSE_S)
            except ResponseError as refused:
                if not str(refused).startswith("NOGROUP"):
                    raise
                with contextlib.suppress(NotExecuted, Unknown, ResponseError):  # the other worker may have made it
                    await self._store.command("XGROUP", "CREATE", ORDERS, GROUP, "0", "MKSTREAM")

    async def _take(self) -> None:
        words = ("XREADGROUP", "GROUP", GROUP, self._name, "COUNT", AT_ONCE, "BLOCK", WAIT_MS, "STREAMS", ORDERS, ">")
        for _, entries in await self._store.command(*words) or ():
            await self._handle(entries)

    async def _take_over(self) -> None:
        words = ("XAUTOCLAIM", ORDERS, GROUP, self._name, LEFT_ALONE_MS, "0", "COUNT", AT_ONCE)
        _, entries, *_ = await self._store.command(*words)
        await self._handle(entries)

    async def _handle(self, entries: list[Any]) -> None:
        """Note the orders as handled, then tell the queue: the other way round, a failure between the two would lose them."""
        if not entries:
            return
        noted = [text for _, (_, id_, _, digest) in entries for text in (id_, digest)]
        await self._store.command("HSET", HANDLED, *noted)
        await self._store.command("XACK", ORDERS, GROUP, *(entry for entry, _ in entries))


def worker() -> web.Application:
    """The service as an application. Needs SENTINELS, LOCAL and NAME."""
    primary = Primary(sentinels())
    local = Store(Fixed(address_of(os.environ["LOCAL"])))

    async def handled(request: web.Request) -> web.Response:
        """The ids that the own site's node has of handled orders, as far as they begin with `prefix`."""
        prefix = request.query["prefix"]
        return web.json_response([id_ for id_ in await local.command("HKEYS", HANDLED) if id_.startswith(prefix)])

    work = Work(Store(primary), os.environ["NAME"])
    return application(lambda: primary.address is not None, [web.get("/handled", handled)], [primary, work])


if __name__ == "__main__":
    serve(worker)
