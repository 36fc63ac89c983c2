"""One exchange over a real socket: never sent twice, and it is known how far it got."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chaoslab.clock import SYSTEM
from chaoslab.probe.client import Client
from chaoslab.probe.connection import Connection, IncompleteResponse, open_socket
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Peer:
    """Plays a script: for each connection one list of answers, one for each request; `close` ends the connection."""

    def __init__(self, *scripts: list[bytes | str]) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        for step in script:
            if step != "close at once":
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
            if isinstance(step, bytes):
                writer.write(step)
                continue
            if step == "hang":
                await asyncio.sleep(5)
            break
        else:
            await reader.read()
        writer.close()


@asynccontextmanager
async def client_to(peer: Peer) -> AsyncIterator[Client]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    client = Client(Endpoint.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"), SYSTEM)
    try:
        yield client
    finally:
        client.close()
        server.close()


async def ask(client: Client, *, fresh: bool = False, timeout_s: float = 1.0, head: bool = False) -> Exchange:
    return await client.exchange(GET, timeout_s=timeout_s, fresh=fresh, head=head)


async def test_a_reused_connection_that_closes_is_not_tried_again():
    """General clients resend a GET here; a slot is one request, and its failure is a result."""
    peer = Peer([OK, "close"], [OK])
    async with client_to(peer) as client:
        first = await ask(client)
        second = await ask(client)
    assert (first.status, first.body) == (200, b"hi")
    assert (second.pooled, second.sent, second.error) == (True, True, "closed by the peer")
    assert len(peer.requests) == 2


async def test_fresh_exchanges_never_share_a_connection_and_reused_ones_do():
    peer = Peer([OK] * 9)
    async with client_to(peer) as client:
        pooled = [(await ask(client)).pooled for _ in range(3)]
        assert peer.connections == 1
        fresh = [(await ask(client, fresh=True)).pooled for _ in range(3)]
    assert pooled == [False, True, True]
    assert fresh == [False] * 3
    assert peer.connections == 4


async def test_refused_is_proof_that_no_byte_was_sent():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = Client(Endpoint.parse(f"http://127.0.0.1:{unused.getsockname()[1]}"), SYSTEM)
        answer = await ask(client)
    assert (answer.sent, answer.error) == (False, "refused")


async def test_a_connection_that_never_comes_is_proof_too():
    """A full accept queue lets SYNs hang, as a silent cut does."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        client = Client(Endpoint.parse(f"http://127.0.0.1:{deaf.getsockname()[1]}"), SYSTEM)
        answers = await asyncio.gather(*(ask(client, timeout_s=0.3) for _ in range(8)))
    unsent = [answer for answer in answers if not answer.sent]
    assert unsent
    assert {answer.error for answer in unsent} == {"timeout: no connection"}
    assert {answer.error for answer in answers if answer.sent} == {"timeout: no answer"}


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("hang", "timeout: no answer"),
        ("close", "closed by the peer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf", "timeout: no answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP answer"),
    ],
)
async def test_an_answer_not_read_whole_is_no_answer(step, error):
    """Whatever status its first half had."""
    async with client_to(Peer([step])) as client:
        answer = await ask(client, timeout_s=0.2)
    assert (answer.status, answer.sent) == (None, True)
    assert answer.error.startswith(error)


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200, b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (OK + b"and more than was asked for", 200, b"hi"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"hi"),
    ],
)
async def test_framing(raw, status, body):
    async with client_to(Peer([raw])) as client:
        answer = await ask(client)
    assert (answer.status, answer.body, answer.error) == (status, body, None)


async def test_a_body_without_a_length_ends_with_the_connection():
    class Closing(Peer):
        async def serve(self, reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nall there is")
            writer.close()

    async with client_to(Closing([])) as client:
        answer = await ask(client)
    assert (answer.status, answer.body) == (200, b"all there is")


async def test_head_has_no_body_whatever_its_length_says():
    async with client_to(Peer([OK[:-2]])) as client:
        answer = await ask(client, head=True)
    assert (answer.status, answer.body) == (200, b"")


async def test_a_connection_that_closed_while_idle_is_not_reused():
    peer = Peer([OK, "close at once"], [OK])
    async with client_to(peer) as client:
        await ask(client)
        await asyncio.sleep(0.05)
        answer = await ask(client)
    assert (answer.status, answer.pooled) == (200, False)


async def test_a_write_of_many_pieces_goes_out_whole():
    """A request above the socket's buffer waits for room and loses nothing."""
    size = 20_000_000
    got = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        got.set_result(len(await reader.readexactly(size)))
        writer.write(OK)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = Client(Endpoint.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), SYSTEM)
    answer = await client.exchange(b"x" * size, timeout_s=5, fresh=True)
    server.close()
    assert (await got, answer.status) == (size, 200)


@pytest.mark.parametrize("loopback", [True, False])
async def test_an_answered_connection_is_forgotten_on_the_loopback_alone(loopback):
    """The other end sees which: a reset for one that is forgotten, the end of the stream for one that is closed."""
    assert await _end_seen_by_the_peer(OK, loopback=loopback) == ("reset" if loopback else "closed")


async def test_a_connection_that_is_given_up_ends_as_any_callers_does():
    assert await _end_seen_by_the_peer(b"", loopback=True) == "closed"


async def _end_seen_by_the_peer(says: bytes, *, loopback: bool) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = Connection(await open_socket(listening.getsockname(), None, ""), SYSTEM, loopback=loopback)
        peer, _ = listening.accept()
    with peer:
        asking = asyncio.create_task(connection.request(GET, head=False))
        await asyncio.sleep(0)
        peer.recv(100)
        peer.sendall(says)
        await asyncio.wait([asking], timeout=0.05)
        asking.cancel()
        connection.close()
        try:
            return "closed" if peer.recv(100) == b"" else "spoke"
        except ConnectionResetError:
            return "reset"


async def test_what_nobody_asked_for_closes_the_connection():
    left, right = socket.socketpair()
    left.setblocking(False)
    connection = Connection(left, SYSTEM)
    right.sendall(OK)
    await asyncio.sleep(0.02)
    assert connection.closed
    with pytest.raises(IncompleteResponse):
        await connection.request(GET, head=False)
    right.close()
