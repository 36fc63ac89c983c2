"""Opens connections to upstreams without blocking and without a queue: a dial that hangs delays no other."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from chaoslab.stack.relay.listener import numeric, split_address

_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK, errno.EINTR)
_CONNECTED = (0, errno.EISCONN)


class Dial:
    """One attempt to connect. `on_done` gets the connected socket, or None when it failed; never called after `cancel`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: str, on_done: Callable[[socket.socket | None], None]) -> None:
        self._loop = loop
        self._on_done = on_done
        self._socket: socket.socket | None = None
        self._lookup: asyncio.Task[None] | None = None
        self._waiting = False
        self._upstream = upstream

    def start(self) -> None:
        try:
            host, port = split_address(self._upstream)
        except ValueError:
            return self._done(None)
        family = numeric(host)
        if family is None:
            self._lookup = self._loop.create_task(self._resolve(host, port))
            return None
        return self._connect(family, (host, port))

    async def _resolve(self, host: str, port: int) -> None:
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return self._done(None)
        family, _, _, _, address = found[0]
        return self._connect(family, address)

    def _connect(self, family: int, address: tuple[object, ...]) -> None:
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = self._socket.connect_ex(address)
            if code in _UNDER_WAY:
                code = self._socket.connect_ex(address)  # on loopback it is established by now: saves a turn of the event loop
        except OSError:
            return self._done(None)
        if code in _CONNECTED:
            return self._done(self._socket)
        if code in _UNDER_WAY:
            self._waiting = True
            self._loop.add_writer(self._socket.fileno(), self._on_writable)
            return None
        return self._done(None)

    def _on_writable(self) -> None:
        assert self._socket is not None  # noqa: S101
        self._unwatch()
        failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._done(None if failed else self._socket)

    def _done(self, connected: socket.socket | None) -> None:
        if connected is None and self._socket is not None:
            self._socket.close()
        self._on_done(connected)

    def _unwatch(self) -> None:
        if self._waiting and self._socket is not None:
            self._waiting = False
            self._loop.remove_writer(self._socket.fileno())

    def cancel(self) -> None:
        self._unwatch()
        if self._lookup is not None:
            self._lookup.cancel()
        if self._socket is not None:
            self._socket.close()
