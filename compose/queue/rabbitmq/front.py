"""The entry for AMQP: a port that leads to the first node that answers. LISTEN; NODES: host:port of each, by commas.

When a node no longer answers, connections to it are closed: their clients come again, and reach the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

ANSWER_S = 0.5
LOOK_EVERY_S = 0.3
CHUNK = 65536
HELLO = b"AMQP\x00\x00\x09\x01"

Address = tuple[str, int]


def address_of(text: str) -> Address:
    """The host and the port of `host:port`."""
    host, _, port = text.rpartition(":")
    return host, int(port)


class Front:
    """Connects each client to the node that `node` names; None while none answers."""

    def __init__(self, nodes: list[Address]) -> None:
        self._nodes = nodes
        self._open: dict[asyncio.StreamWriter, Address] = {}
        self.node: Address | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until either side ends. Where no node answers it is closed at once."""
        node = self.node
        with contextlib.suppress(OSError, TimeoutError), contextlib.closing(writer):
            if node is None:
                return
            async with asyncio.timeout(ANSWER_S):
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

    async def follow(self) -> None:
        """Look for the first node that answers, and close what leads to one that does not."""
        while True:
            answers = await asyncio.gather(*map(_answers, self._nodes))
            alive = [node for node, answered in zip(self._nodes, answers, strict=True) if answered]
            self.node = next(iter(alive), None)
            for writer, node in self._open.items():
                if node not in alive:
                    writer.transport.abort()
            await asyncio.sleep(LOOK_EVERY_S)


async def _answers(node: Address) -> bool:
    """Whether a node speaks AMQP."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(*node)
            with contextlib.closing(writer):
                writer.write(HELLO)
                return bool(await reader.read(1))
    return False


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()


async def main() -> None:
    front = Front([address_of(node) for node in os.environ["NODES"].split(",")])
    server = await asyncio.start_server(front.serve, *address_of(os.environ["LISTEN"]))
    async with server:
        await front.follow()


if __name__ == "__main__":
    asyncio.run(main())
