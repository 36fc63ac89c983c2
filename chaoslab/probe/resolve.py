"""Host names to addresses, without a look-up for each slot."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket

from chaoslab.clock import NS_PER_S, Clock

REFRESH_NS = NS_PER_S
Addresses = list[tuple[str, int]]


class Resolver:
    """The addresses of one host, looked up at most once a second, and by one look-up at a time.

    While a look-up hangs, the last addresses are used; when a look-up fails, so does connecting, as it would for a user.
    """

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        """`host`: a name, or a numeric address, which is never looked up."""
        self._host, self._port, self._clock = host, port, clock
        self._known: Addresses | OSError | None = None
        self._looked_up_ns = 0
        self._lookup: asyncio.Task[None] | None = None
        self._numeric = False
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(host)
            self._known, self._numeric = [(host, port)], True

    async def addresses(self) -> Addresses:
        """In the system's order of preference. Raises OSError when the name does not resolve."""
        idle = not self._numeric and (self._lookup is None or self._lookup.done())
        if idle and (self._known is None or self._clock.now_ns() - self._looked_up_ns > REFRESH_NS):
            self._lookup = asyncio.create_task(self._look_up())
        if self._known is None and self._lookup is not None:
            await asyncio.shield(self._lookup)
        if isinstance(self._known, list):
            return self._known
        raise self._known or OSError(f"{self._host} does not resolve")

    async def _look_up(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._known = [(str(address[0]), int(address[1])) for *_, address in found]
        except OSError as error:
            self._known = error
        except UnicodeError as error:  # a label that IDNA cannot encode
            self._known = OSError(str(error))
        self._looked_up_ns = self._clock.now_ns()
