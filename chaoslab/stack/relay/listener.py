"""Listening sockets of the relay, on loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import socket
import struct
import sys
from collections.abc import Callable, Iterator

from chaoslab.stack.ports import LOOPBACK

_BACKLOG = 1024
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_WHEN_EXHAUSTED_S = 0.1
_QUEUE_AT = 24  # in Linux's tcp_info of a listening socket: how many wait to be accepted, and how many may

Accept = Callable[[socket.socket], None]


@functools.lru_cache(256)
def split_address(address: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:80" or "[::1]:80". Raises ValueError with what would have been right."""
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
    """Where to listen: no host means the loopback. Raises ValueError for every address that is not loopback."""
    host, port = split_address(listen or f"{LOOPBACK}:0")
    host = LOOPBACK if host in ("", "localhost") else host
    if numeric(host) is None or not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"listen {listen}: the relay listens on loopback only; write {LOOPBACK}:{port}")
    return host, port


class Listener:
    """Accepts on one address and hands each new socket, non-blocking, to `accept`.

    Raises ValueError for an address that is not valid, OSError for one that is taken.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, listen: str, accept: Accept) -> None:
        host, port = loopback(listen)
        self._loop = loop
        self._accept = accept
        self._socket = socket.create_server((host, port), family=numeric(host) or socket.AF_INET, backlog=_BACKLOG)
        self._socket.setblocking(False)
        self._filler: socket.socket | None = None  # our own connection that fills the accept queue while connects are stalled
        self.address = show_address(*self._socket.getsockname()[:2])
        self._watch()

    def _watch(self) -> None:
        if self._socket.fileno() >= 0 and self._filler is None:
            self._loop.add_reader(self._socket.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        try:
            client, _ = self._next()
        except OSError as broken:
            if broken.errno in _EXHAUSTED:
                self._loop.remove_reader(self._socket.fileno())
                self._loop.call_later(_PAUSE_WHEN_EXHAUSTED_S, self._watch)
            return
        self._accept(client)

    def _next(self) -> tuple[socket.socket, object]:
        """The first connection in the accept queue, and its address. Raises OSError when the queue is empty."""
        client, peer = self._socket.accept()
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, peer

    def stall(self) -> list[socket.socket]:
        """Make connect() hang, as where SYNs are lost, until `resume`; returns the connections that were in the queue.

        Linux drops a SYN while the accept queue is full, so the queue is made as short as can be, and a connection of our
        own fills it. Where that does not fill it, on other platforms, nothing changes: connects succeed and are accepted.
        """
        if self._filler is not None or not sys.platform.startswith("linux"):
            return []
        self._socket.listen(0)
        before = [client for client, _ in self._waiting()]
        try:
            self._filler = socket.socket(self._socket.family)
            self._filler.setblocking(False)
            self._filler.connect_ex(self._socket.getsockname())
        except OSError:  # too many files are open
            self._socket.listen(_BACKLOG)
            return before
        self._loop.remove_reader(self._socket.fileno())
        if not _is_full(self._socket):
            self.resume()
        return before

    def resume(self) -> None:
        """Accept again; a client whose SYN was dropped gets in with its next one."""
        if self._filler is None:
            return
        filler, self._filler = self._filler, None
        self._socket.listen(_BACKLOG)
        for client, peer in self._waiting():
            if peer == filler.getsockname():
                client.close()
            else:
                self._accept(client)
        filler.close()
        self._watch()

    def _waiting(self) -> Iterator[tuple[socket.socket, object]]:
        with contextlib.suppress(OSError):
            while True:
                yield self._next()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        if self._filler is not None:
            self._filler.close()
            self._filler = None


def _is_full(listening: socket.socket) -> bool:
    """Whether the accept queue is full, according to the kernel."""
    info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE_AT + 8)
    waiting, at_most = struct.unpack_from("=II", info, _QUEUE_AT)
    return bool(waiting > at_most)


def show_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
