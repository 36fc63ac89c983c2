"""One advertised address for all clients; the site of each is that of the process that owns its socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor

from chaoslab.stack.relay.asks import Asks
from chaoslab.stack.relay.client_sites import ClientSites
from chaoslab.stack.relay.listener import Listener
from chaoslab.stack.relay.proxy import Proxy, closed_by_peer, reset
from chaoslab.stack.toxiproxy.wire import RouterInput


class Router:
    """Hands each connection to the proxy of its client's site, or straight to `upstream`.

    All clients share one listening socket. So connects are stalled only while no client may get through: every route is
    fenced, and no process is alive in the upstream's own place, whose clients go straight.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wanted: RouterInput,
        find: Callable[[str], Proxy | None],
        client_sites: ClientSites,
        lookups: Executor,
        asks: Asks | None = None,
    ) -> None:
        self._loop = loop
        self._find = find
        self._client_sites = client_sites
        self._lookups = lookups
        self._straight = Proxy(loop, wanted.name, wanted.listen, wanted.upstream, asks=asks)
        self._straight.start_without_listening()
        self._tasks: set[asyncio.Task[None]] = set()
        self.name = wanted.name
        self.upstream = wanted.upstream
        self.routes: Mapping[str, str] = wanted.routes
        self._listener = Listener(loop, wanted.listen, self._accepted)
        self.listen = self._listener.address

    def view(self) -> RouterInput:
        return RouterInput(self.name, self.listen, self.upstream, dict(self.routes))

    @property
    def open_connections(self) -> int:
        """Those that went straight; the others count at their proxy."""
        return len(self._tasks) + self._straight.open_connections

    def update_listener(self, vacant: Collection[str]) -> None:
        """Stall or accept connects, according to the fence and to the places without a living process."""
        proxies = [proxy for proxy in map(self._find, self.routes.values()) if proxy is not None]
        homes = {proxy.link.to for proxy in proxies if proxy.link is not None}
        if len(proxies) == len(self.routes) > 0 and all(proxy.fenced for proxy in proxies) and homes <= set(vacant):
            for client in self._listener.stall():
                self._accepted(client)
        else:
            self._listener.resume()

    def _accepted(self, client: socket.socket) -> None:
        task = self._loop.create_task(self._route(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _route(self, client: socket.socket) -> None:
        try:
            peer, here = client.getpeername()[:2], client.getsockname()[:2]
        except OSError:
            return client.close()
        site = await self._loop.run_in_executor(self._lookups, self._client_sites.site_of, peer, here)
        if site is None and self.routes and closed_by_peer([client]):
            return client.close()  # it left before its site was known: it must not slip past a fence
        if site is None or site not in self.routes:
            return self._straight.adopt(client)
        proxy = self._find(self.routes[site])
        return proxy.adopt(client) if proxy is not None else reset(client)

    def close(self) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        self._straight.close()
