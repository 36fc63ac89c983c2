"""One connection: a non-blocking socket on the event loop, and the HTTP responses that httptools (llhttp) reads off it.

asyncio's transports take nine turns of the loop for an exchange on a fresh connection, and this takes four: at hundreds of
slots a second that is half of the prober's CPU time, and the prober shares its machine with the stack that it measures.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import struct
from typing import Final, NamedTuple

import httptools

from chaoslab.clock import Clock

RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024
_RECEIVE_BYTES: Final = 65536
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends a reset and leaves no TIME_WAIT
_WOULD_BLOCK: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class IncompleteResponse(ConnectionError):
    """The peer ended the connection before the response was complete, or what came is not HTTP."""


class Response(NamedTuple):
    """A response read to its end. `end_ns`: monotonic. `reusable`: the connection may carry another exchange.

    `cookies`: the values of its Set-Cookie headers.
    """

    status: int
    body: bytes
    end_ns: int
    reusable: bool
    cookies: tuple[str, ...] = ()


class Connection:
    """Carries one exchange at a time.

    On the loopback, where no packet of an old connection can be late, a connection that was answered is reset when it is
    closed: otherwise the kernel would track each of thousands for two minutes, and Docker reads them all whenever a
    container ends. A connection that is closed without an answer ends with a FIN, as any caller's does.
    """

    def __init__(self, sock: socket.socket, clock: Clock, *, loopback: bool = False) -> None:
        """`sock` is connected and non-blocking; `loopback`: the peer is on this machine. Needs a running event loop."""
        self._sock, self._clock, self._loopback = sock, clock, loopback
        self._loop = asyncio.get_running_loop()
        self._parser = _ResponseParser()
        self._waiting: asyncio.Future[Response] | None = None
        self._unsent = b""
        self._send_blocked = False
        self._answered = False
        self.closed = False
        self._fd = sock.fileno()  # the loop prints a socket object at each registration, which costs more than the rest
        self._loop.add_reader(self._fd, self._receive)

    async def request(self, request: bytes, *, head: bool) -> Response:
        """Send `request` and read the whole response; `head`: it is a HEAD request.

        Raises IncompleteResponse, or another OSError, when the connection ends first.
        """
        if self.closed:
            raise IncompleteResponse("closed by the peer")
        self._waiting = self._loop.create_future()
        self._parser.expect(head=head)
        self._unsent, self._answered = request, False
        self._send()
        return await self._waiting

    def close(self) -> None:
        """Idempotent."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._fd)
            if self._send_blocked:
                self._loop.remove_writer(self._fd)
            if self._loopback and self._answered:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._sock.close()

    def _send(self) -> None:
        """Send what is left, now and whenever the socket takes more."""
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except _WOULD_BLOCK:
            pass
        except OSError as error:
            self._fail(error)
            return
        if self._unsent:
            self._send_blocked = True
            self._loop.add_writer(self._fd, self._send)
        elif self._send_blocked:
            self._send_blocked = False
            self._loop.remove_writer(self._fd)

    def _receive(self) -> None:
        """Parse what has come, and hand over the response once it is complete."""
        more = True
        try:
            while more:
                data = self._sock.recv(_RECEIVE_BYTES)
                waiting = self._waiting
                if waiting is None:
                    raise IncompleteResponse("closed by the peer" if not data else "sent more than an answer")
                complete = self._parser.feed(data) if data else self._parser.end()
                if complete:
                    self._waiting, self._answered = None, True
                    if not waiting.done():
                        parsed = self._parser
                        end_ns = self._clock.now_ns()
                        waiting.set_result(Response(parsed.status, parsed.body, end_ns, parsed.reusable, parsed.cookies))
                # What TLS has decrypted already never makes the socket readable again.
                more = bool(data) and not complete and isinstance(self._sock, ssl.SSLSocket)
        except _WOULD_BLOCK:
            return
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        waiting, self._waiting = self._waiting, None
        self.close()
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


class _ResponseParser:
    """Collects one response after another; interim responses (1xx) are skipped."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.expect(head=False)

    def expect(self, *, head: bool) -> None:
        """The next response is to a new request; a response to HEAD has no body, whatever its headers say."""
        self._head = head
        self._parts: list[bytes] = []
        self._bytes = 0
        self._framed = self._headers_done = self._done = False
        self.status, self.reusable = 0, False
        self.cookies: tuple[str, ...] = ()

    def feed(self, data: bytes) -> bool:
        """Whether the response is complete. Raises IncompleteResponse when it is not HTTP, or above RESPONSE_BYTES_MAX."""
        self._bytes += len(data)
        if self._bytes > RESPONSE_BYTES_MAX:
            raise IncompleteResponse(f"answer above {RESPONSE_BYTES_MAX} bytes")
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._done:  # bytes after a complete response do not change it
                self.reusable = False
                return True
            raise IncompleteResponse(f"not an HTTP answer: {error}") from error
        return self._done

    def end(self) -> bool:
        """The peer closed, which ends a body without a stated length. Raises IncompleteResponse when it ends nothing else."""
        if not self._headers_done or self._framed:
            raise IncompleteResponse("closed by the peer")
        return True

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
        elif name == b"set-cookie":
            self.cookies = (*self.cookies, value.decode("latin-1"))

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._headers_done = True
            self._done = self._head

    def on_message_complete(self) -> None:
        if self.status >= 200:
            self._done = True
            self.reusable = self._parser.should_keep_alive()  # the parser forgets it after this call


async def open_socket(address: tuple[str, int], tls: ssl.SSLContext | None, server_name: str) -> socket.socket:
    """A connected, non-blocking socket, after the handshake where there is TLS.

    `address`: a numeric host and its port. Raises OSError (ssl.SSLError included). Closes what it opened when cancelled.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS, errno.EINTR):
            raise OSError(code, os.strerror(code))
        while not _is_connected(sock):  # a peer on the loopback has answered by now; others are waited for
            await _ready(sock, write=True)
        if tls is not None:
            # A connection that is cut must raise, not look like the end of a body: hence no suppressed ragged EOFs.
            sock = tls.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False, suppress_ragged_eofs=False)
            while True:
                try:
                    sock.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await _ready(sock, write=False)
                except ssl.SSLWantWriteError:
                    await _ready(sock, write=True)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_connected(sock: socket.socket) -> bool:
    """Raises the OSError with which connecting failed."""
    try:
        peer = sock.getpeername()
    except OSError as not_yet:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from not_yet
        return False
    if peer == sock.getsockname():  # the kernel may give our own end a port that nothing listens on
        raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    return True


async def _ready(sock: socket.socket, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready, fd = loop.create_future(), sock.fileno()
    (loop.add_writer if write else loop.add_reader)(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        (loop.remove_writer if write else loop.remove_reader)(fd)
