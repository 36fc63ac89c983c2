"""Exchanges with one endpoint, never sent twice, with proof of how far each got.

General clients resend idempotent requests when a reused connection closes and hide whether a byte left. Nothing here
retries, redirects or looks at proxies.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final, NamedTuple

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.probe.connection import Connection, Reply, connect
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.resolve import Resolver, is_loopback

IDLE_NS_MAX: Final = 2 * NS_PER_S  # below every usual keep-alive, so that a reused connection is not one about to close


class Answer(NamedTuple):
    """How one exchange ended. `status` only when the answer was read whole; else `error` says why it was not.

    `sent` False is proof that no byte of the request left.
    """

    end_ns: int
    sent: bool
    pooled: bool = False
    status: int | None = None
    body: bytes = b""
    error: str | None = None


@dataclass(slots=True)
class _Attempt:
    """How far an exchange has got; read when it ends early."""

    connection: Connection | None = None
    sent: bool = False
    pooled: bool = False


class Wire:
    """All exchanges with one endpoint: fresh connections, and a pool of reused ones."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._clock = clock
        self._resolver = Resolver(endpoint.host, endpoint.port, clock)
        self._host = endpoint.host
        self._tls = ssl.create_default_context() if endpoint.scheme == "https" else None
        self._idle: list[Connection] = []

    async def exchange(self, request: bytes, *, timeout_s: float, fresh: bool, head: bool = False) -> Answer:
        """Send one request over a fresh or a reused connection; never raises for what the network does."""
        attempt = _Attempt()
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._carry(request, attempt, fresh=fresh, head=head)
            return Answer(reply.end_ns, True, attempt.pooled, reply.status, reply.body)
        except OSError as why:
            return Answer(self._clock.now_ns(), attempt.sent, attempt.pooled, error=_in_words(why, attempt))
        finally:
            if attempt.connection is not None:
                attempt.connection.close()

    async def touch(self, *, timeout_s: float) -> Answer:
        """Only connect, and close again."""
        try:
            async with asyncio.timeout(timeout_s):
                (await self._connect()).close()
            return Answer(self._clock.now_ns(), sent=False)
        except OSError as why:
            return Answer(self._clock.now_ns(), sent=False, error=_in_words(why, _Attempt()))

    def close(self) -> None:
        """Drop the pool."""
        while self._idle:
            self._idle.pop().close()

    async def _carry(self, request: bytes, attempt: _Attempt, *, fresh: bool, head: bool) -> Reply:
        attempt.connection = None if fresh else self._reuse()
        attempt.pooled = attempt.connection is not None
        if attempt.connection is None:
            attempt.connection = await self._connect()
        attempt.sent = True
        reply = await attempt.connection.ask(request, head=head)
        if reply.reusable and not fresh:
            self._keep(attempt.connection, reply.end_ns)
            attempt.connection = None
        return reply

    def _reuse(self) -> Connection | None:
        """The connection used last, if it is still good; older ones wait until they are too old and are dropped."""
        oldest_ns = self._clock.now_ns() - IDLE_NS_MAX
        while self._idle and (self._idle[0].closed or self._idle[0].idle_since_ns < oldest_ns):
            self._idle.pop(0).close()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    def _keep(self, connection: Connection, now_ns: int) -> None:
        connection.idle_since_ns = now_ns
        self._idle.append(connection)

    async def _connect(self) -> Connection:
        """Raises the last address's OSError when none of the host's addresses can be reached."""
        last = OSError(f"{self._host} has no address")
        for address in await self._resolver.addresses():
            try:
                sock = await connect(address, self._tls, self._host)
                return Connection(sock, self._clock, near=is_loopback(address[0]))
            except TimeoutError:
                raise
            except OSError as why:
                last = why
        raise last


def _in_words(why: OSError, attempt: _Attempt) -> str:
    if isinstance(why, TimeoutError):
        return "timeout: no answer" if attempt.sent else "timeout: no connection"
    if isinstance(why, ConnectionRefusedError):
        return "refused"
    if isinstance(why, ConnectionResetError):
        return "reset"
    return str(why) if attempt.sent else f"no connection: {why}"
