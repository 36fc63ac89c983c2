"""Exchanges of HTTP with one endpoint, never sent twice, with a record of how far each got.

General HTTP clients resend idempotent requests when a reused connection closes, and do not show whether a byte was sent.
Nothing here retries, follows redirects or uses proxies.
"""

from __future__ import annotations

import asyncio

from chaoslab.clock import Clock
from chaoslab.probe.connection import Connection
from chaoslab.probe.dialer import Dialer, in_words
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.idle import IdleConnections


class Client:
    """All exchanges with one endpoint: over fresh connections, and over a pool of reused connections."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        """Raises SpecError when the endpoint's certificates cannot be read."""
        self._clock = clock
        self._dialer = Dialer(endpoint, clock)
        self._idle = IdleConnections(Connection.close, clock)

    async def exchange(self, request: bytes, *, timeout_s: float, fresh: bool, head: bool = False) -> Exchange:
        """Send one request over a fresh or a reused connection; never raises for what the network does.

        `timeout_s` covers all of it: look-up, connecting, request and response. `head`: it is a HEAD request.
        """
        connection: Connection | None = None
        sent = pooled = False
        try:
            async with asyncio.timeout(timeout_s):
                connection = None if fresh else self._idle.take()
                pooled = connection is not None
                if connection is None:
                    sock, loopback = await self._dialer.connect()
                    connection = Connection(sock, self._clock, loopback=loopback)
                sent = True
                response = await connection.request(request, head=head)
            if response.reusable and not fresh:
                self._idle.keep(connection, response.end_ns)
                connection = None
            return Exchange(response.end_ns, True, pooled, response.status, response.body, cookies=response.cookies)
        except OSError as error:
            return Exchange(self._clock.now_ns(), sent, pooled, error=in_words(error, sent=sent))
        finally:
            if connection is not None:
                connection.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._idle.close()
