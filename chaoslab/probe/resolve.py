"""Names to addresses, without a look-up in the way of each slot."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from chaoslab.clock import NS_PER_S, Clock

REFRESH_NS = NS_PER_S
Addresses = list[tuple[str, int]]


class Resolver:
    """The addresses of one host, looked up at most once a second and never by two at a time.

    While a look-up hangs the last addresses serve; when one fails, so does connecting, as it would for a user.
    """

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        self._host, self._port, self._clock = host, port, clock
        self._known: Addresses | OSError | None = [(host, port)] if _is_address(host) else None
        self._literal = self._known is not None
        self._stamp_ns = 0
        self._running: asyncio.Task[None] | None = None

    async def addresses(self) -> Addresses:
        """In the system's order of preference. Raises OSError when the name does not resolve."""
        if not self._literal:
            await self._refresh()
        if isinstance(self._known, list):
            return self._known
        raise self._known or OSError(f"{self._host} does not resolve")

    async def _refresh(self) -> None:
        stale = self._known is None or self._clock.now_ns() - self._stamp_ns > REFRESH_NS
        if stale and (self._running is None or self._running.done()):
            self._running = asyncio.create_task(self._look_up())
        if self._known is None and self._running is not None:
            await asyncio.shield(self._running)

    async def _look_up(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._known = [(str(address[0]), int(address[1])) for *_, address in found]
        except OSError as why:
            self._known = why
        except UnicodeError as why:  # a label that IDNA cannot encode
            self._known = OSError(str(why))
        self._stamp_ns = self._clock.now_ns()


def is_loopback(address: str) -> bool:
    """Whether a numeric address is this machine's own."""
    return ipaddress.ip_address(address).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
