"""The relay's HTTP API: the routes of Toxiproxy 2.12, and our own under /chaoslab/."""

from __future__ import annotations

import http
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from chaoslab.stack.relay.proxy import Proxy, Toxic
from chaoslab.stack.relay.registry import ProxyRegistry, Refusal
from chaoslab.stack.toxiproxy.wire import Fence, ProxyInput, ProxyPatch, RelayState, RouterInput, ToxicInput, ToxicPatch, Vacant

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(registry: ProxyRegistry) -> web.Application:
    """The routes, bound to one registry."""
    app = web.Application(middlewares=[_answer_refusals])
    api = _Api(registry)
    app.add_routes(
        [
            web.get("/version", api.version),
            web.post("/reset", api.reset),
            web.get("/proxies", api.proxies),
            web.post("/proxies", api.create),
            web.post("/populate", api.populate),
            web.get("/proxies/{proxy}", api.show),
            web.post("/proxies/{proxy}", api.change),
            web.patch("/proxies/{proxy}", api.change),
            web.delete("/proxies/{proxy}", api.delete),
            web.get("/proxies/{proxy}/toxics", api.toxics),
            web.post("/proxies/{proxy}/toxics", api.add_toxic),
            web.get("/proxies/{proxy}/toxics/{toxic}", api.show_toxic),
            web.post("/proxies/{proxy}/toxics/{toxic}", api.change_toxic),
            web.patch("/proxies/{proxy}/toxics/{toxic}", api.change_toxic),
            web.delete("/proxies/{proxy}/toxics/{toxic}", api.remove_toxic),
            web.get("/chaoslab/state", api.state),
            web.get("/chaoslab/asks", api.asks),
            web.get("/chaoslab/fence", api.fence),
            web.put("/chaoslab/fence", api.set_fence),
            web.put("/chaoslab/vacant", api.set_vacant),
            web.get("/chaoslab/routers", api.routers),
            web.post("/chaoslab/routers", api.create_router),
            web.delete("/chaoslab/routers/{router}", api.delete_router),
        ]
    )
    return app


class _Api:
    def __init__(self, registry: ProxyRegistry) -> None:
        self._registry = registry

    async def version(self, _: web.Request) -> web.Response:
        return _json({"version": RelayState.VERSION})

    async def reset(self, _: web.Request) -> web.Response:
        self._registry.reset()
        return web.Response(status=204)

    async def proxies(self, _: web.Request) -> web.Response:
        return _json({name: proxy.view() for name, proxy in self._registry.proxies.items()})

    async def create(self, request: web.Request) -> web.Response:
        return _json(self._registry.create_proxy(await _body(request, ProxyInput)).view(), status=201)

    async def populate(self, request: web.Request) -> web.Response:
        done: list[Proxy] = []
        error: dict[str, Any] = {}
        try:
            self._registry.populate(await _body(request, list[ProxyInput]), done)
        except Refusal as refusal:
            error = _error(refusal)
        views = [proxy.view() for proxy in done] or None
        return _json({**error, "proxies": views}, status=error.get("status", 201))

    async def show(self, request: web.Request) -> web.Response:
        return _json(self._proxy(request).view())

    async def change(self, request: web.Request) -> web.Response:
        self._proxy(request)
        return _json(self._registry.change_proxy(request.match_info["proxy"], await _body(request, ProxyPatch)).view())

    async def delete(self, request: web.Request) -> web.Response:
        self._registry.delete_proxy(request.match_info["proxy"])
        return web.Response(status=204)

    async def toxics(self, request: web.Request) -> web.Response:
        return _json([toxic.view() for toxic in self._proxy(request).in_order()])

    async def add_toxic(self, request: web.Request) -> web.Response:
        self._proxy(request)
        return _json(self._registry.add_toxic(request.match_info["proxy"], await _body(request, ToxicInput)).view())

    async def show_toxic(self, request: web.Request) -> web.Response:
        return _json(self._toxic(request).view())

    async def change_toxic(self, request: web.Request) -> web.Response:
        self._toxic(request)
        at = request.match_info
        return _json(self._registry.change_toxic(at["proxy"], at["toxic"], await _body(request, ToxicPatch)).view())

    async def remove_toxic(self, request: web.Request) -> web.Response:
        self._registry.remove_toxic(request.match_info["proxy"], request.match_info["toxic"])
        return web.Response(status=204)

    async def state(self, _: web.Request) -> web.Response:
        return _json(self._registry.state())

    async def asks(self, _: web.Request) -> web.Response:
        return _json(await self._registry.asks())

    async def fence(self, _: web.Request) -> web.Response:
        return _json(self._registry.fence())

    async def set_fence(self, request: web.Request) -> web.Response:
        return _json(self._registry.set_fence(await _body(request, Fence)))

    async def set_vacant(self, request: web.Request) -> web.Response:
        return _json(self._registry.set_vacant(await _body(request, Vacant)))

    async def routers(self, _: web.Request) -> web.Response:
        return _json({router.name: router.view() for router in self._registry.routers()})

    async def create_router(self, request: web.Request) -> web.Response:
        return _json(self._registry.create_router(await _body(request, RouterInput)).view(), status=201)

    async def delete_router(self, request: web.Request) -> web.Response:
        self._registry.delete_router(request.match_info["router"])
        return web.Response(status=204)

    def _proxy(self, request: web.Request) -> Proxy:
        return self._registry.proxy(request.match_info["proxy"])

    def _toxic(self, request: web.Request) -> Toxic:
        return self._registry.toxic(request.match_info["proxy"], request.match_info["toxic"])


async def _body(request: web.Request, shape: type[T]) -> T:
    """The body in its shape. Raises Refusal, 400, for everything else."""
    try:
        return msgspec.json.decode(await request.read(), type=shape)
    except (ValueError, RecursionError) as broken:
        raise Refusal(400, f"bad request body: {broken}") from broken


@web.middleware
async def _answer_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A web page, too, is refused: it must not be able to reach this API through its reader's browser."""
    if request.headers.get("User-Agent", "").startswith("Mozilla/"):
        return web.Response(status=403, text="User agent not allowed\n")
    try:
        return await handler(request)
    except Refusal as refusal:
        return _json(_error(refusal), status=refusal.status)
    except (ValueError, RecursionError) as broken:
        return _json(_error(Refusal(400, f"bad request body: {broken}")), status=400)


def _error(refusal: Refusal) -> dict[str, Any]:
    return {"error": str(refusal) or http.HTTPStatus(refusal.status).phrase, "status": refusal.status}


def _json(payload: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(payload) + b"\n", status=status, content_type="application/json")
