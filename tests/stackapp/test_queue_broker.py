"""The entry for AMQP leads to the first node that answers, and away from one that no longer does."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path

QUEUE = Path(__file__).resolve().parents[2] / "compose" / "queue"
sys.path.insert(0, str(QUEUE))


def load():
    spec = importlib.util.spec_from_file_location("broker_front", QUEUE / "rabbitmq" / "front.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.asynccontextmanager
async def node(name: bytes) -> AsyncIterator[tuple[str, int]]:
    """Says its name once it was greeted, and then nothing, until it ends."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(8)
            writer.write(name)
            await reader.read()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def ask(port: int) -> tuple[bytes, asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"AMQP\x00\x00\x09\x01")
    async with asyncio.timeout(2):
        return await heard(reader), reader


async def heard(reader: asyncio.StreamReader) -> bytes:
    """What it says next; nothing where it closes, which is a reset where it had not read all."""
    with contextlib.suppress(ConnectionResetError):
        return await reader.read(1)
    return b""


async def test_it_leads_to_the_first_that_answers_and_then_to_the_next() -> None:
    """Connections to the first are closed. Without any node a client is closed at once."""
    broker = load()
    async with node(b"2") as second, contextlib.AsyncExitStack() as first_lives:
        first = await first_lives.enter_async_context(node(b"1"))
        front = broker.Front([first, second])
        server = await asyncio.start_server(front.passage.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        assert (await ask(port))[0] == b"", "nobody has been looked for yet"
        following = asyncio.create_task(front.follow())
        try:
            async with asyncio.timeout(5):
                while front.node is None:
                    await asyncio.sleep(0.01)
                said, line = await ask(port)
                assert said == b"1"
                await first_lives.aclose()
                assert await heard(line) == b""
                while front.node != second:
                    await asyncio.sleep(0.01)
            assert (await ask(port))[0] == b"2"
        finally:
            following.cancel()
            server.close()
