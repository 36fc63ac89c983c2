"""A port that leads each client to one node of several, and away from a node that it must not lead to any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

CONNECT_S = 0.5
CHUNK = 65536

Address = tuple[str, int]


def address_of(text: str) -> Address:
    """The host and the port of `host:port`."""
    host, _, port = text.rpartition(":")
    return host, int(port)


class Passage:
    """Connects each client to the node that `leads_to` names when it comes; None where there is none."""

    def __init__(self, leads_to: Callable[[], Address | None]) -> None:
        self._leads_to = leads_to
        self._open: dict[asyncio.StreamWriter, Address] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until either side ends. Without a node it is closed at once."""
        node = self._leads_to()
        with contextlib.suppress(OSError, TimeoutError), contextlib.closing(writer):
            if node is None:
                return
            async with asyncio.timeout(CONNECT_S):
                from_node, to_node = await asyncio.open_connection(*node)
            self._open[writer] = node
            try:
                with contextlib.closing(to_node):
                    ways = [asyncio.create_task(_pipe(reader, to_node)), asyncio.create_task(_pipe(from_node, writer))]
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    for way in ways:
                        way.cancel()
            finally:
                del self._open[writer]

    def close_others(self, nodes: Collection[Address | None]) -> None:
        """Close what leads to any other node than these: those clients come again."""
        for writer, node in self._open.items():
            if node not in nodes:
                writer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
