"""The shop: takes orders, and puts each into a stream of Valkey, from which the workers of both sites take them.

An order is acknowledged once the primary has it. Replication is asynchronous: what the replica has not received yet is lost
with the primary's site, which is the RPO of this stack.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from passage import Address, address_of
from primary import Primary, sentinels
from store import Fixed, Store
from web_app import application, serve

ORDERS, HANDLED = "orders", "handled"
TEXT_MAX = 4096
SHOWN = 20


class Discovery(Protocol):
    """Finds the primary in the background."""

    @property
    def address(self) -> Address | None: ...

    def start(self) -> None: ...

    async def stop(self) -> None: ...


def shop(discover: Callable[[], Discovery] = lambda: Primary(sentinels())) -> web.Application:
    """The service as an application. Needs SENTINELS, and LOCAL: the Valkey of the own site."""
    primary = discover()
    store, local = Store(primary), Store(Fixed(address_of(os.environ["LOCAL"])))

    async def order(request: web.Request) -> web.Response:
        id_, payload = _texts(await request.read(), "id", "payload")
        digest = hashlib.sha256(payload.encode()).hexdigest()
        await store.command("XADD", ORDERS, "*", "id", id_, "hash", digest)
        return web.json_response({"id": id_, "hash": digest}, status=201)

    async def latest(_: web.Request) -> web.Response:
        """From the own site's node, which may lag behind."""
        entries = await local.command("XREVRANGE", ORDERS, "+", "-", "COUNT", SHOWN)
        return web.json_response({"orders": [fields[1] for _, fields in entries]})

    async def handled(request: web.Request) -> web.Response:
        digest = await store.command("HGET", HANDLED, request.match_info["id"])
        return web.json_response({"hash": digest}, status=200 if digest else 404)

    routes = [web.post("/orders", order), web.get("/orders", latest), web.get("/handled/{id}", handled)]
    return application(lambda: primary.address is not None, routes, [primary])


def _texts(body: bytes, *names: str) -> list[str]:
    """Fields of a JSON object. Raises HTTPBadRequest where one is not a text of 1 to TEXT_MAX characters."""
    try:
        fields = json.loads(body)
        texts = [fields[name] for name in names]
    except (ValueError, LookupError, TypeError):
        raise web.HTTPBadRequest(text=f"not an object with {', '.join(names)}") from None
    if not all(isinstance(text, str) and 0 < len(text) <= TEXT_MAX for text in texts):
        raise web.HTTPBadRequest(text=f"not texts of 1 to {TEXT_MAX} characters: {', '.join(names)}")
    return texts


if __name__ == "__main__":
    serve(shop)
