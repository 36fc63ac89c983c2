"""Listening sockets of the relay, on loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import socket
from collections.abc import Callable

_BACKLOG = 1024
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_WHEN_EXHAUSTED_S = 0.1

Accept = Callable[[socket.socket], None]


@functools.lru_cache(256)
def split_address(address: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:80" or "[::1]:80". Raises ValueError with a sentence when it is neither."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"address {address}: write host:port, with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host:
        raise ValueError(f"address {address}: too many colons in address; write [{host}]:{port}")
    return host, int(port)


@functools.lru_cache(256)
def numeric(host: str) -> socket.AddressFamily | None:
    """The family of a numeric address; None for a name."""
    try:
        return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return None


def loopback(listen: str) -> tuple[str, int]:
    """Where to listen: no host means 127.0.0.1. Raises ValueError for everything that is not loopback."""
    host, port = split_address(listen or "127.0.0.1:0")
    host = {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host)
    if numeric(host) is None or not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"listen {listen}: the relay listens on loopback only; write 127.0.0.1:{port}")
    return host, port


class Listener:
    """Accepts on one address and hands each new socket, non-blocking, to `accept`.

    Raises ValueError for an address that cannot be, OSError for one that cannot be had.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, listen: str, accept: Accept) -> None:
        host, port = loopback(listen)
        self._loop = loop
        self._accept = accept
        self._socket = socket.create_server((host, port), family=numeric(host) or socket.AF_INET, backlog=_BACKLOG)
        self._socket.setblocking(False)
        self.address = _show(self._socket)
        self._watch()

    def _watch(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._ready)

    def _ready(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError as broken:
            if broken.errno in _EXHAUSTED:
                self._loop.remove_reader(self._socket.fileno())
                self._loop.call_later(_PAUSE_WHEN_EXHAUSTED_S, self._watch)
            return
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accept(client)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()


def _show(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
