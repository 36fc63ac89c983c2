"""One advertised address for every consumer: callers are told apart by the process that owns their end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor

from chaoslab.links.callers import Callers
from chaoslab.links.listener import Listener
from chaoslab.links.proxy import Proxy, gone, reset
from chaoslab.links.wire import FrontInput


class Front:
    """Hands each connection to the proxy of its caller's site, or straight to `upstream`.

    All callers share one listening socket. So its door is shut only while nobody may come in: a fence stands on every
    route, and in the upstream's own place, whose callers go straight, nobody lives.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wanted: FrontInput,
        find: Callable[[str], Proxy | None],
        callers: Callers,
        lookups: Executor,
    ) -> None:
        self._loop = loop
        self._find = find
        self._callers = callers
        self._lookups = lookups
        self._straight = Proxy(loop, wanted.name, wanted.listen, wanted.upstream)
        self._straight.start_without_listening()
        self._tasks: set[asyncio.Task[None]] = set()
        self.name = wanted.name
        self.upstream = wanted.upstream
        self.routes: Mapping[str, str] = wanted.routes
        self._listener = Listener(loop, wanted.listen, self._accepted)
        self.listen = self._listener.address

    def view(self) -> FrontInput:
        return FrontInput(self.name, self.listen, self.upstream, dict(self.routes))

    @property
    def open_connections(self) -> int:
        """Those that went straight; the others count at their proxy."""
        return len(self._tasks) + self._straight.open_connections

    def set_door(self, vacant: Collection[str]) -> None:
        """Shut or open it, according to the fence and to the places in which nobody lives."""
        ways = [proxy for proxy in map(self._find, self.routes.values()) if proxy is not None]
        homes = {proxy.link.to for proxy in ways if proxy.link is not None}
        if len(ways) == len(self.routes) > 0 and all(proxy.held for proxy in ways) and homes <= set(vacant):
            for client in self._listener.shut():
                self._accepted(client)
        else:
            self._listener.open()

    def _accepted(self, client: socket.socket) -> None:
        task = self._loop.create_task(self._dispatch(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dispatch(self, client: socket.socket) -> None:
        try:
            ends = client.getpeername()[:2], client.getsockname()[:2]
        except OSError:
            return client.close()
        site = await self._loop.run_in_executor(self._lookups, self._callers.site_of, *ends)
        if site is None and self.routes and gone([client]):
            return client.close()  # left before we knew whose it was: it must not slip past a fence
        if site is None or site not in self.routes:
            return self._straight.adopt(client)
        proxy = self._find(self.routes[site])
        return proxy.adopt(client) if proxy is not None else reset(client)

    def close(self) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        self._straight.close()
