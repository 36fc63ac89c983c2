"""One HTTP exchange, never sent twice, with proof of how far it got.

General clients resend idempotent requests when a reused connection closes, hide whether a byte left, and cost two to
three times as much at this rate. So asyncio's transports carry the bytes, httptools (llhttp) reads them, and nothing
here retries, redirects or looks at proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httptools

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.errors import SpecError
from chaoslab.probe.resolve import Resolver

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
IDLE_NS_MAX: Final = 2 * NS_PER_S  # below every usual keep-alive, so that a reused connection is not one about to close


@dataclass(frozen=True, slots=True)
class Answer:
    """How one exchange ended. `status` only when the answer was read whole; else `error` says why it was not.

    `sent` False is proof that no byte of the request left.
    """

    end_ns: int
    sent: bool
    pooled: bool = False
    status: int | None = None
    body: bytes = b""
    error: str | None = None


class Endpoint(NamedTuple):
    """Where a URL leads. `prefix` is its path and query."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Raises SpecError unless this is http://, https:// or tcp://host:port."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as wrong:
            raise SpecError(f"{url!r} is not a URL: {wrong}") from None
        if parts.scheme not in _PORTS:
            raise SpecError(f"{url!r} is not a URL that can be probed", cure="start it with http://, https:// or tcp://")
        if not parts.hostname or not port:
            raise SpecError(f"{url!r} does not say where to connect", cure="write it as tcp://host:port or http://host/path")
        if parts.username is not None:
            raise SpecError(f"{url!r} holds a user name or password, which would end up in reports")
        prefix = parts.path + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname, port, prefix)


_PORTS: Final = {"http": 80, "https": 443, "tcp": 0}


class _Cut(ConnectionError):
    """The peer ended the connection before the answer was whole, or what came is no HTTP."""


class _Reply(NamedTuple):
    status: int
    body: bytes
    end_ns: int
    reusable: bool


class _Connection(asyncio.Protocol):
    """One connection that carries one exchange at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._waiting: asyncio.Future[_Reply] | None = None
        self._head = self._framed = self._headers_done = False
        self._body: list[bytes] = []
        self._bytes = 0
        self.closed = False
        self.idle_since_ns = 0

    async def ask(self, request: bytes, *, head: bool) -> _Reply:
        """Send and read the whole answer. Raises OSError when the connection ends first."""
        if self.closed:
            raise _Cut("closed by the peer")
        self._waiting = asyncio.get_running_loop().create_future()
        self._head, self._body, self._bytes = head, [], 0
        self._framed = self._headers_done = False
        self._transport.write(request)
        return await self._waiting

    def abort(self) -> None:
        self._waiting = None
        self.closed = True
        self._transport.abort()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._waiting is None or self._bytes > ANSWER_BYTES_MAX:
            return self._fail(_Cut("sent more than an answer"))
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as wrong:
            self._fail(_Cut(f"not an HTTP answer: {wrong}"))
        return None

    def eof_received(self) -> None:
        if self._headers_done and not self._framed:
            self._finish(reusable=False)  # a body without a length ends with the connection

    def connection_lost(self, why: Exception | None) -> None:
        self._fail(why or _Cut("closed by the peer"))

    # httptools' callbacks

    def on_header(self, name: bytes, _value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return
        self._headers_done = True
        if self._head:  # the parser would wait for a body that never comes
            self._finish(reusable=False)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._finish(reusable=self._parser.should_keep_alive())

    def _finish(self, *, reusable: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            end_ns = self._clock.now_ns()
            waiting.set_result(_Reply(self._parser.get_status_code(), b"".join(self._body), end_ns, reusable))

    def _fail(self, why: Exception) -> None:
        self.closed = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(why)
        self._transport.abort()


@dataclass(slots=True)
class _Attempt:
    """How far an exchange has got; read when it ends early."""

    connection: _Connection | None = None
    sent: bool = False
    pooled: bool = False


class Wire:
    """All exchanges with one endpoint: fresh connections, and a pool of reused ones."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._clock = clock
        self._resolver = Resolver(endpoint.host, endpoint.port, clock)
        self._server_name = endpoint.host
        self._tls = ssl.create_default_context() if endpoint.scheme == "https" else None
        self._idle: list[_Connection] = []

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
                attempt.connection.abort()

    async def touch(self, *, timeout_s: float) -> Answer:
        """Only connect, and close again."""
        attempt = _Attempt()
        try:
            async with asyncio.timeout(timeout_s):
                attempt.connection = await self._connect()
            return Answer(self._clock.now_ns(), False)
        except OSError as why:
            return Answer(self._clock.now_ns(), False, error=_in_words(why, attempt))
        finally:
            if attempt.connection is not None:
                attempt.connection.abort()

    def close(self) -> None:
        """Drop the pool."""
        while self._idle:
            self._idle.pop().abort()

    async def _carry(self, request: bytes, attempt: _Attempt, *, fresh: bool, head: bool) -> _Reply:
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

    def _reuse(self) -> _Connection | None:
        """The connection used last, if it is still good; older ones wait until they are too old and are dropped."""
        oldest_ns = self._clock.now_ns() - IDLE_NS_MAX
        while self._idle and (self._idle[0].closed or self._idle[0].idle_since_ns < oldest_ns):
            self._idle.pop(0).abort()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    def _keep(self, connection: _Connection, now_ns: int) -> None:
        connection.idle_since_ns = now_ns
        self._idle.append(connection)

    async def _connect(self) -> _Connection:
        """Raises the last address's OSError when none of the host's addresses can be reached."""
        loop = asyncio.get_running_loop()
        last: OSError = OSError(f"{self._server_name} has no address")
        for host, port in await self._resolver.addresses():
            try:
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._clock),
                    host,
                    port,
                    ssl=self._tls,
                    server_hostname=self._server_name if self._tls else None,
                )
            except OSError as why:
                last = why
            else:
                return connection
        raise last


def _in_words(why: OSError, attempt: _Attempt) -> str:
    if isinstance(why, TimeoutError):
        return "timeout: no answer" if attempt.sent else "timeout: no connection"
    if isinstance(why, ConnectionRefusedError):
        return "refused"
    if isinstance(why, ConnectionResetError):
        return "reset"
    with contextlib.suppress(TypeError):
        return str(why) if attempt.sent else f"no connection: {why}"
    return type(why).__name__
