"""The entry of a stack on an address that other machines reach, for their Locust workers: `load.listen`.

`python -m chaoslab.load.published HOST:PORT` takes a listening socket as its standard input and forwards each connection to the
entry at that address, on the loopback. When the entry cannot be reached, the caller's connection is reset. It ends with its
parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import struct
import sys

from chaoslab.errors import EnvironmentFault

_BACKLOG = 1024
_CHUNK_BYTES = 64 * 1024
_PARENT_CHECK_S = 0.25
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: the end is a reset


def listen_at(host: str, port: int) -> socket.socket:
    """A socket that listens on this numeric address alone; port 0 picks a free one.

    Raises EnvironmentFault, with a cure where one is known, and ValueError on a name.
    """
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as refused:
        cures = {
            errno.EADDRNOTAVAIL: "name in load.listen an address of this machine: ip address",
            errno.EADDRINUSE: f"end what listens there: ss -ltnp 'sport = :{port}'",
            errno.EACCES: f"let users listen there: sysctl net.ipv4.ip_unprivileged_port_start={port}",
        }
        raise EnvironmentFault(
            f"load.listen: the entry cannot be published at {host}:{port}: {os.strerror(refused.errno or 0)}",
            cure=cures.get(refused.errno or 0),
        ) from refused


async def forward(listening: socket.socket, entry: tuple[str, int]) -> None:
    """Forward connections to the entry, host and port, until the parent of this process is gone."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            entry_reader, entry_writer = await asyncio.open_connection(*entry)
        except OSError:
            _reset(writer)
            return
        await asyncio.gather(_pump(reader, entry_writer), _pump(entry_reader, writer))
        for end in (writer, entry_writer):
            end.close()

    parent = os.getppid()
    async with await asyncio.start_server(connected, sock=listening):
        while os.getppid() == parent:
            await asyncio.sleep(_PARENT_CHECK_S)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction of a connection. Its end is passed on as it came: a FIN as a FIN, all else as a reset."""
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
    except OSError:
        _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a reset: closing alone would send a FIN, as at an orderly end."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def main(arguments: list[str]) -> int:
    host, _, port = arguments[0].rpartition(":")
    asyncio.run(forward(socket.socket(fileno=0), (host, int(port))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
