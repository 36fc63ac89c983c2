"""The entry for what speaks Valkey's own protocol: a port that leads to the primary. LISTEN and SENTINELS.

When the primary changes, connections to the old one are closed: their clients come again, and reach the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from primary import Address, Primary, address_of, sentinels

CONNECT_S = 0.5
LOOK_EVERY_S = 0.1
CHUNK = 65536


class Gateway:
    """Connects each client to the primary."""

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._open: dict[asyncio.StreamWriter, Address] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until either side ends. Without a primary it is closed at once."""
        address = self._primary.address
        with contextlib.suppress(OSError, TimeoutError), contextlib.closing(writer):
            if address is None:
                return
            async with asyncio.timeout(CONNECT_S):
                from_primary, to_primary = await asyncio.open_connection(*address)
            self._open[writer] = address
            try:
                with contextlib.closing(to_primary):
                    ways = [asyncio.create_task(_pipe(reader, to_primary)), asyncio.create_task(_pipe(from_primary, writer))]
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    for way in ways:
                        way.cancel()
            finally:
                del self._open[writer]

    async def follow(self) -> None:
        """Close what leads elsewhere than to the primary."""
        while True:
            for writer, address in self._open.items():
                if address != self._primary.address:
                    writer.transport.abort()
            await asyncio.sleep(LOOK_EVERY_S)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()


async def main() -> None:
    primary = Primary(sentinels())
    primary.start()
    gateway = Gateway(primary)
    host, port = address_of(os.environ["LISTEN"])
    server = await asyncio.start_server(gateway.serve, host, port)
    async with server:
        await gateway.follow()


if __name__ == "__main__":
    asyncio.run(main())
