"""One connection: a non-blocking socket on the event loop, and the HTTP answers that httptools (llhttp) reads off it.

asyncio's transports take nine turns of the loop for a fresh exchange and this takes four: at hundreds of slots a second
that is half of what the prober costs, and it shares its machine with what it measures.
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

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
_RECEIVE_BYTES: Final = 65536
_FORGET: Final = struct.pack("ii", 1, 0)  # SO_LINGER for no time: closing leaves nothing behind
_LATER: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Cut(ConnectionError):
    """The peer ended the connection before the answer was whole, or what came is no HTTP."""


class Reply(NamedTuple):
    """An answer read whole. `reusable`: the connection may carry another."""

    status: int
    body: bytes
    end_ns: int
    reusable: bool


class Connection:
    """Carries one exchange at a time.

    On the loopback, where no packet of an old connection can be late, one whose answer was read is forgotten when it is
    closed: for two minutes the kernel would go on tracking each of thousands, and Docker reads them all at every end of a
    container. One that is given up ends as any caller's does.
    """

    def __init__(self, sock: socket.socket, clock: Clock, *, near: bool = False) -> None:
        """`near`: over the loopback."""
        self._sock, self._clock, self._near = sock, clock, near
        self._loop = asyncio.get_running_loop()
        self._answer = _AnswerParser()
        self._waiting: asyncio.Future[Reply] | None = None
        self._unsent = b""
        self._answered = False
        self.closed = False
        self.idle_since_ns = 0
        self._fd = sock.fileno()  # the loop prints a socket object at each registration, which costs more than the rest
        self._loop.add_reader(self._fd, self._readable)

    async def ask(self, request: bytes, *, head: bool) -> Reply:
        """Send and read the whole answer. Raises OSError when the connection ends first."""
        if self.closed:
            raise Cut("closed by the peer")
        self._waiting = self._loop.create_future()
        self._answer.expect(head=head)
        self._unsent, self._answered = request, False
        self._push()
        return await self._waiting

    def close(self) -> None:
        """Safe to call again."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._fd)
            if self._unsent:
                self._loop.remove_writer(self._fd)
            if self._near and self._answered:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET)
            self._sock.close()

    def _push(self) -> None:
        """Send what is left, now and whenever the socket takes more."""
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except _LATER:
            pass
        except OSError as why:
            return self._fail(why)
        if self._unsent:
            self._loop.add_writer(self._fd, self._push_on)
        return None

    def _push_on(self) -> None:
        self._loop.remove_writer(self._fd)
        self._push()

    def _readable(self) -> None:
        try:
            while self._take(self._sock.recv(_RECEIVE_BYTES)) and isinstance(self._sock, ssl.SSLSocket):
                pass  # what TLS has decrypted already never makes the socket readable again
        except _LATER:
            return
        except OSError as why:
            self._fail(why)

    def _take(self, data: bytes) -> bool:
        """Whether there may be more. Raises Cut."""
        if self._waiting is None:
            raise Cut("closed by the peer" if not data else "sent more than an answer")
        done = self._answer.feed(data) if data else self._answer.end()
        if done:
            waiting, self._waiting = self._waiting, None
            self._answered = True
            answer = self._answer
            if not waiting.done():
                waiting.set_result(Reply(answer.status, answer.body, self._clock.now_ns(), answer.reusable))
        return bool(data) and not done

    def _fail(self, why: OSError) -> None:
        waiting, self._waiting = self._waiting, None
        self.close()
        if waiting is not None and not waiting.done():
            waiting.set_exception(why)


class _AnswerParser:
    """Collects one answer after another; interim ones (1xx) are passed over."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.expect(head=False)

    def expect(self, *, head: bool) -> None:
        """The next answer is to a new request; one to HEAD has no body, whatever its headers say."""
        self._head = head
        self._parts: list[bytes] = []
        self._bytes = 0
        self._framed = self._headers_done = self._done = False
        self.status, self.reusable = 0, False

    def feed(self, data: bytes) -> bool:
        """Whether the answer is whole. Raises Cut when this is no HTTP, or too much of it."""
        self._bytes += len(data)
        if self._bytes > ANSWER_BYTES_MAX:
            raise Cut(f"answer above {ANSWER_BYTES_MAX} bytes")
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as wrong:
            if self._done:  # bytes after a whole answer say nothing about it
                self.reusable = False
                return True
            raise Cut(f"not an HTTP answer: {wrong}") from wrong
        return self._done

    def end(self) -> bool:
        """The peer closed; a body without a stated length ends so. Raises Cut when the answer is not whole."""
        if not self._headers_done or self._framed:
            raise Cut("closed by the peer")
        return True

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    # httptools' callbacks

    def on_header(self, name: bytes, _value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

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


async def connect(address: tuple[str, int], tls: ssl.SSLContext | None, server_name: str) -> socket.socket:
    """A connected socket, after the handshake when there is TLS. Raises OSError; closes what it opened when cancelled."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await _connected(sock, address)
        if tls is not None:
            # a cut is not an end: ragged ones are told
            sock = tls.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False, suppress_ragged_eofs=False)
            await _shake_hands(sock)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(sock: socket.socket, address: tuple[str, int]) -> None:
    code = sock.connect_ex(address)
    if code not in (0, errno.EINPROGRESS, errno.EINTR):
        raise OSError(code, os.strerror(code))
    while not _has_peer(sock):  # near peers have answered by now; the loop is for the others
        await _ready(sock, write=True)


def _has_peer(sock: socket.socket) -> bool:
    """Whether the connection stands. Raises the OSError that connecting came to."""
    try:
        peer = sock.getpeername()
    except OSError as not_yet:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from not_yet
        return False
    if peer == sock.getsockname():  # a port of ours that nobody listens on may be given to us as our own end
        raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    return True


async def _shake_hands(sock: ssl.SSLSocket) -> None:
    while True:
        try:
            return sock.do_handshake()
        except ssl.SSLWantReadError:
            await _ready(sock, write=False)
        except ssl.SSLWantWriteError:
            await _ready(sock, write=True)


async def _ready(sock: socket.socket, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready, fd = loop.create_future(), sock.fileno()
    (loop.add_writer if write else loop.add_reader)(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        (loop.remove_writer if write else loop.remove_reader)(fd)
