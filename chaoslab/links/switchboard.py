"""Everything a relay holds, and the verbs of its API on it. No HTTP here."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from chaoslab.clock import SYSTEM
from chaoslab.links.callers import Callers
from chaoslab.links.front import Front
from chaoslab.links.listener import split_address
from chaoslab.links.proxy import Hold, Proxy, Toxic
from chaoslab.links.wire import (
    ATTRIBUTES,
    Direction,
    Fence,
    FrontInput,
    ProxyInput,
    ProxyPatch,
    RelayState,
    ToxicInput,
    ToxicPatch,
    Vacant,
    attributes_of,
)


class Refusal(Exception):
    """An answer that is not 2xx, as Toxiproxy words it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Switchboard:
    """The proxies, the fronts and the fence. Every verb is one step of the event loop: nobody sees it half done."""

    def __init__(self, loop: asyncio.AbstractEventLoop, run: str | None) -> None:
        self._loop = loop
        self._started_ns = SYSTEM.now_ns()
        self._callers = Callers(run)
        self._lookups = ThreadPoolExecutor(1, thread_name_prefix="callers")
        self._held: Hold = frozenset()
        self._vacant: frozenset[str] = frozenset()
        self._fronts: dict[str, Front] = {}
        self.proxies: dict[str, Proxy] = {}

    def close(self) -> None:
        for each in self._all():
            each.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _all(self) -> list[Front | Proxy]:
        return [*self._fronts.values(), *self.proxies.values()]

    # --- proxies

    def proxy(self, name: str) -> Proxy:
        if name not in self.proxies:
            raise Refusal(404, "proxy not found")
        return self.proxies[name]

    def create(self, wanted: ProxyInput) -> Proxy:
        _need(wanted)
        if wanted.name in self.proxies:
            raise Refusal(409, "proxy already exists")
        proxy = Proxy(self._loop, wanted.name, wanted.listen, wanted.upstream, wanted.link)
        if wanted.enabled:
            _start(proxy)
        proxy.hold(self._held)
        self.proxies[wanted.name] = proxy
        return proxy

    def populate(self, wanted: list[ProxyInput], done: list[Proxy]) -> None:
        """Create or replace, in order, into `done`, so that a refusal half way shows what was done before it."""
        for number, each in enumerate(wanted, 1):
            _need(each, f" at proxy {number}")
        for each in wanted:
            existing = self.proxies.get(each.name)
            if existing is None or _differs(existing, each.listen, each.upstream):
                if existing is not None:
                    self.delete(each.name)
                existing = self.create(each)
            done.append(existing)

    def change(self, name: str, wanted: ProxyPatch) -> Proxy:
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

    def delete(self, name: str) -> None:
        self.proxy(name).close()
        del self.proxies[name]
        self._set_doors()

    def reset(self) -> None:
        """Enable every proxy and take every toxic away. The fence stays: it is not Toxiproxy's."""
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
        direction = _direction(wanted.stream)
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
            proxy.hold(self._held)
        self._set_doors()
        ended = {name: count for name, count in let_in.items() if not self.proxies[name].held}
        return Fence(sorted(self._held), ended)

    def fence(self) -> Fence:
        return Fence(sorted(self._held))

    def set_vacant(self, wanted: Vacant) -> Vacant:
        """Replace the list of places in which nobody lives: a front that nobody needs may be shut."""
        self._vacant = frozenset(wanted.places)
        self._set_doors()
        return Vacant(sorted(self._vacant))

    def _set_doors(self) -> None:
        for front in self._fronts.values():
            front.set_door(self._vacant)

    def create_front(self, wanted: FrontInput) -> Front:
        if wanted.name in self._fronts:
            raise Refusal(409, "front already exists")
        missing = sorted(set(wanted.routes.values()) - self.proxies.keys())
        if missing:
            raise Refusal(404, f"proxy not found: {', '.join(missing)}")
        try:
            front = Front(self._loop, wanted, self.proxies.get, self._callers, self._lookups)
        except (OSError, ValueError) as broken:
            raise Refusal(500, f"listen tcp {wanted.listen}: {broken}") from broken
        front.set_door(self._vacant)
        self._fronts[wanted.name] = front
        return front

    def fronts(self) -> list[Front]:
        return [*self._fronts.values()]

    def delete_front(self, name: str) -> None:
        if name not in self._fronts:
            raise Refusal(404, "front not found")
        self._fronts.pop(name).close()

    def state(self) -> RelayState:
        counted = {each.name: each.open_connections for each in self._all()}
        return RelayState(os.getpid(), self._started_ns, sorted(self._held), counted)


def _need(wanted: ProxyInput, where: str = "") -> None:
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
        split_address(listen or "127.0.0.1:0")
    except ValueError as broken:
        raise Refusal(500, str(broken)) from broken
    return (proxy.listen, proxy.upstream) != (listen, upstream)


def _direction(stream: str) -> Direction:
    match stream.lower():
        case "upstream":
            return "upstream"
        case "downstream":
            return "downstream"
    raise Refusal(400, "stream was invalid, can be either upstream or downstream")
