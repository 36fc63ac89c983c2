"""What forwards connections to the entry: bytes and ends as they are, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest

from chaoslab.errors import EnvironmentFault
from chaoslab.load.published import forward, listen_at


@contextlib.asynccontextmanager
async def forwarded(entry: tuple[str, int]):
    """Where a caller connects."""
    listening = listen_at("127.0.0.1", 0)
    at = listening.getsockname()
    task = asyncio.create_task(forward(listening, entry))
    try:
        yield at
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def entry_that(does):
    server = await asyncio.start_server(does, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()


async def echo(reader, writer):
    while chunk := await reader.read(1000):
        writer.write(chunk)
    writer.write(b"!")
    writer.close()


async def reset(reader, writer):
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()


async def test_bytes_go_both_ways_and_an_end_of_one_way_leaves_the_other():
    """A caller that has sent everything still gets the answer."""
    async with entry_that(echo) as entry, forwarded(entry) as at:
        reader, writer = await asyncio.open_connection(*at)
        sent = bytes(range(256)) * 4000
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 10) == sent + b"!"
        writer.close()


@pytest.mark.parametrize("away", [True, False])
async def test_an_entry_that_is_away_or_resets_is_a_reset(away):
    """Never an answer that was not given, and never a hang."""
    async with entry_that(reset) as entry, forwarded(("127.0.0.1", 1) if away else entry) as at:
        reader, writer = await asyncio.open_connection(*at)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(-1), 10) == b"never"
        writer.close()


def test_an_address_in_use_is_an_error_with_a_cure():
    """Another run that listens at the same address."""
    with listen_at("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=rf"127\.0\.0\.1:{port}: Address already in use\n.*cure: end what listens"):
            listen_at("127.0.0.1", port)
