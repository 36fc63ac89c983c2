"""Connections of TCP, or TLS over it, as streams."""

from __future__ import annotations

import asyncio
import socket

from chaoslab.probe.connection import RESET_ON_CLOSE
from chaoslab.probe.dialer import Dialer

ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Stream:
    """One connection. On the loopback it is reset once it was answered: probe/connection.py says why."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, loopback: bool) -> None:
        self.reader, self.writer, self._loopback = reader, writer, loopback

    @classmethod
    async def open(cls, dialer: Dialer) -> Stream:
        """Raises OSError."""
        sock, loopback = await dialer.connect(handshake=False)
        try:
            name = dialer.server_name if dialer.tls is not None else None
            reader, writer = await asyncio.open_connection(
                sock=sock, limit=ANSWER_BYTES_MAX, ssl=dialer.tls, server_hostname=name
            )
        except BaseException:
            sock.close()
            raise
        return cls(reader, writer, loopback=loopback)

    @property
    def closed(self) -> bool:
        return self.writer.is_closing() or self.reader.at_eof()

    def close(self, *, answered: bool) -> None:
        if self._loopback and answered and (sock := self.writer.get_extra_info("socket")) is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.writer.transport.abort()
