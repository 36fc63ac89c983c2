"""Connections to one endpoint: names looked up, addresses tried in turn, certificates checked."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from typing import Self

from chaoslab.clock import Clock
from chaoslab.errors import SpecError
from chaoslab.probe.connection import open_socket
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.resolve import Resolver


class _Named(ssl.SSLContext):
    """Wants a certificate to name the server, whatever address a driver has connected to."""

    def __new__(cls, _: str) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, name: str) -> None:
        self._name = name

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self._name, session)


class Dialer:
    """Opens connections to one endpoint. `tls` is None where its scheme is not https."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        """Raises SpecError when the endpoint's certificates cannot be read."""
        self.host = endpoint.host
        self.server_name = endpoint.server_name or endpoint.host
        self._resolver = Resolver(endpoint.host, endpoint.port, clock)
        self.tls: ssl.SSLContext | None = None
        if endpoint.scheme == "https":
            self.tls = _Named(self.server_name)
            try:
                if endpoint.ca is not None:
                    self.tls.load_verify_locations(endpoint.ca)
                else:
                    self.tls.load_default_certs()
            except OSError as error:
                raise SpecError(f"tls: ca: {endpoint.ca}: {error}") from error

    async def connect(self, *, handshake: bool = True) -> tuple[socket.socket, bool]:
        """A connected, non-blocking socket, and whether its peer is on this machine. Without `handshake`, TLS is not begun.

        Raises the last address's OSError when none of the host's addresses can be reached.
        """
        last = OSError(f"{self.host} has no address")
        for address in await self._resolver.addresses():
            try:
                sock = await open_socket(address, self.tls if handshake else None, self.server_name)
                return sock, ipaddress.ip_address(address[0]).is_loopback
            except TimeoutError:
                raise
            except OSError as error:
                last = error
        raise last


def in_words(error: OSError, *, sent: bool) -> str:
    """Why an exchange ended. `sent`: a byte of it may have left."""
    if isinstance(error, TimeoutError):
        return "timeout: no answer" if sent else "timeout: no connection"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionResetError):
        return "reset"
    return str(error) if sent else f"no connection: {error}"
