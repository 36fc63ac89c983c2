"""The entry of a stack on an address that other machines reach, for their Locust workers: `load.listen`.

`python -m chaoslab.published HOST:PORT` takes a listening socket as its standard input and carries each connection to the
entry on the loopback. When the entry cannot be had, the caller's connection is reset. It ends with whoever started it.
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
_PIECE = 64 * 1024
_LOOK_EVERY_S = 0.25
_AT_ONCE = struct.pack("ii", 1, 0)  # linger for no time: the end is a reset


def is_published(host: str) -> bool:
    """Whether an address is for other machines; what listens on the loopback is for this one alone."""
    return not ipaddress.ip_address(host).is_loopback


def listen_at(host: str, port: int) -> socket.socket:
    """A socket for this one address and no other. Raises EnvironmentFault where it cannot be had."""
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


async def carry(listening: socket.socket, entry: tuple[str, int]) -> None:
    """Carry connections to the entry until the process that started this one is gone."""

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
            await asyncio.sleep(_LOOK_EVERY_S)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One way of a connection. Its end is passed on as it came: a FIN as a FIN, all else as a reset."""
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
    except OSError:
        _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closing alone would say FIN: an end in good order, which it was not."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()


def main(arguments: list[str]) -> int:
    host, _, port = arguments[0].rpartition(":")
    asyncio.run(carry(socket.socket(fileno=0), (host, int(port))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
