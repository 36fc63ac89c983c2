"""The state of a relay, and the operations of its API on it. No HTTP here."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from chaoslab.clock import SYSTEM
from chaoslab.stack.ports import LOOPBACK
from chaoslab.stack.relay.asks import Asks
from chaoslab.stack.relay.client_sites import ClientSites
from chaoslab.stack.relay.listener import split_address
from chaoslab.stack.relay.proxy import Held, Proxy, Toxic
from chaoslab.stack.relay.router import Router
from chaoslab.stack.toxiproxy.wire import (
    ATTRIBUTES,
    Direction,
    Fence,
    ProxyInput,
    ProxyPatch,
    RelayState,
    RouterInput,
    ToxicInput,
    ToxicPatch,
    UnansweredCount,
    Vacant,
    attributes_of,
)

_DIRECTIONS: dict[str, Direction] = {"upstream": "upstream", "downstream": "downstream"}


class Refusal(Exception):
    """An answer that is not 2xx, as Toxiproxy words it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ProxyRegistry:
    """The proxies, the routers and the fence. Every method is one step of the event loop: no request sees it half done."""

    def __init__(self, loop: asyncio.AbstractEventLoop, run: str | None, *, watch_asks: bool = False) -> None:
        self._loop = loop
        self._started_ns = SYSTEM.now_ns()
        self._client_sites = ClientSites(run)
        self._lookups = ThreadPoolExecutor(1, thread_name_prefix="client-sites")
        self._asks = Asks(loop, self._client_sites, self._lookups) if watch_asks else None
        self._held: Held = frozenset()
        self._vacant: frozenset[str] = frozenset()
        self._routers: dict[str, Router] = {}
        self.proxies: dict[str, Proxy] = {}

    def close(self) -> None:
        for each in self._all():
            each.close()
        if self._asks is not None:
            self._asks.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _all(self) -> list[Router | Proxy]:
        return [*self._routers.values(), *self.proxies.values()]

    # --- proxies

    def proxy(self, name: str) -> Proxy:
        if name not in self.proxies:
            raise Refusal(404, "proxy not found")
        return self.proxies[name]

    def create_proxy(self, wanted: ProxyInput) -> Proxy:
        _require_fields(wanted)
        if wanted.name in self.proxies:
            raise Refusal(409, "proxy already exists")
        proxy = Proxy(self._loop, wanted.name, wanted.listen, wanted.upstream, wanted.link, self._asks)
        if wanted.enabled:
            _start(proxy)
        proxy.set_fence(self._held)
        self.proxies[wanted.name] = proxy
        return proxy

    def populate(self, wanted: list[ProxyInput], done: list[Proxy]) -> None:
        """Create or replace, in order, into `done`, so that a refusal half way shows what was done before it."""
        for number, each in enumerate(wanted, 1):
            _require_fields(each, f" at proxy {number}")
        for each in wanted:
            existing = self.proxies.get(each.name)
            if existing is None or _differs(existing, each.listen, each.upstream):
                if existing is not None:
                    self.delete_proxy(each.name)
                existing = self.create_proxy(each)
            done.append(existing)

    def change_proxy(self, name: str, wanted: ProxyPatch) -> Proxy:
        proxy = self.proxy(name)
        enabled = proxy.enabled if wanted.enabled is None else wanted.enabled
        listen = proxy.listen if wanted.listen is None else wanted.listen
        upstream = proxy.upstream if wanted.upstream is None else wanted.upstream
        if _differs(proxy, listen, upstream):
            proxy.move(listen, upstream)
        if enabled:
            _start(proxy)
        elif proxy.enabled:
            proxy.stop()
        return proxy

    def delete_proxy(self, name: str) -> None:
        self.proxy(name).close()
        del self.proxies[name]
        self._update_routers()

    def reset(self) -> None:
        """Enable every proxy and remove every toxic. The fence stays: it is not Toxiproxy's."""
        for proxy in self.proxies.values():
            _start(proxy)
            proxy.remove_toxics()

    # --- toxics

    def toxic(self, proxy: str, name: str) -> Toxic:
        found = self.proxy(proxy).toxic(name)
        if found is None:
            raise Refusal(404, "toxic not found")
        return found

    def add_toxic(self, proxy_name: str, wanted: ToxicInput) -> Toxic:
        proxy = self.proxy(proxy_name)
        direction = _DIRECTIONS.get(wanted.stream.lower())
        if direction is None:
            raise Refusal(400, "stream was invalid, can be either upstream or downstream")
        name = wanted.name or f"{wanted.type}_{wanted.stream}"
        if wanted.type not in ATTRIBUTES:
            raise Refusal(400, "invalid toxic type")
        if proxy.toxic(name) is not None:
            raise Refusal(409, "toxic already exists")
        attributes = attributes_of(wanted.type, wanted.attributes)
        toxic = Toxic(name, wanted.type, wanted.stream, direction, wanted.toxicity, attributes)
        proxy.add_toxic(toxic)
        return toxic

    def change_toxic(self, proxy_name: str, name: str, wanted: ToxicPatch) -> Toxic:
        toxic = self.toxic(proxy_name, name)
        attributes = attributes_of(toxic.type, wanted.attributes, toxic.attributes)
        toxicity = toxic.toxicity if wanted.toxicity is None else wanted.toxicity
        self.proxy(proxy_name).change_toxic(toxic, attributes, toxicity)
        return toxic

    def remove_toxic(self, proxy_name: str, name: str) -> None:
        self.proxy(proxy_name).remove_toxic(self.toxic(proxy_name, name))

    # --- what Toxiproxy does not have

    def set_fence(self, wanted: Fence) -> Fence:
        """Replace the whole fence."""
        self._held = frozenset(wanted.hold)
        let_in = {name: proxy.let_in for name, proxy in self.proxies.items() if proxy.let_in}
        for proxy in self.proxies.values():
            proxy.set_fence(self._held)
        self._update_routers()
        ended = {name: count for name, count in let_in.items() if not self.proxies[name].fenced}
        return Fence(sorted(self._held), ended)

    def fence(self) -> Fence:
        return Fence(sorted(self._held))

    def set_vacant(self, wanted: Vacant) -> Vacant:
        """Replace the list of places without a living process; a router that only they would use may stall connects."""
        self._vacant = frozenset(wanted.places)
        self._update_routers()
        return Vacant(sorted(self._vacant))

    def _update_routers(self) -> None:
        for router in self._routers.values():
            router.update_listener(self._vacant)

    def create_router(self, wanted: RouterInput) -> Router:
        if wanted.name in self._routers:
            raise Refusal(409, "router already exists")
        missing = sorted(set(wanted.routes.values()) - self.proxies.keys())
        if missing:
            raise Refusal(404, f"proxy not found: {', '.join(missing)}")
        try:
            router = Router(self._loop, wanted, self.proxies.get, self._client_sites, self._lookups, self._asks)
        except (OSError, ValueError) as broken:
            raise Refusal(500, f"listen tcp {wanted.listen}: {broken}") from broken
        router.update_listener(self._vacant)
        self._routers[wanted.name] = router
        return router

    def routers(self) -> list[Router]:
        return [*self._routers.values()]

    def delete_router(self, name: str) -> None:
        if name not in self._routers:
            raise Refusal(404, "router not found")
        self._routers.pop(name).close()

    async def asks(self) -> list[UnansweredCount]:
        """What got no answer since the last call; nothing where that is not watched."""
        if self._asks is None:
            return []
        return await self._asks.take({split_address(each.listen)[1]: each.name for each in self._all()})

    def state(self) -> RelayState:
        counted = {each.name: each.open_connections for each in self._all()}
        return RelayState(os.getpid(), self._started_ns, sorted(self._held), counted)


def _require_fields(wanted: ProxyInput, where: str = "") -> None:
    for field in ("name", "upstream"):
        if not getattr(wanted, field):
            raise Refusal(400, f"missing required field: {field}{where}")


def _start(proxy: Proxy) -> None:
    try:
        proxy.start()
    except (OSError, ValueError) as broken:
        raise Refusal(500, f"listen tcp {proxy.listen}: {broken}") from broken


def _differs(proxy: Proxy, listen: str, upstream: str) -> bool:
    try:
        split_address(listen or f"{LOOPBACK}:0")
    except ValueError as broken:
        raise Refusal(500, str(broken)) from broken
    return (proxy.listen, proxy.upstream) != (listen, upstream)
