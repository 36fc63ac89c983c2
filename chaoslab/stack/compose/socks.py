"""Connections from within a place, through its gate: a SOCKS 5 server in that place's network, for the harness alone."""

from __future__ import annotations

import socket
import struct
from typing import Literal

from chaoslab.clock import Deadline
from chaoslab.spec.stackfile.topology import Address

Outcome = Literal["answered", "connected", "refused", "silent"]
_GREETING = b"\x05\x01\x00"  # version 5, one method: no authentication
_CONNECT_BY_NAME = b"\x05\x01\x00\x03"
_REPLY_LENGTH = 10
_SUCCEEDED, _REFUSED = 0, 5


class RefusedThere(ConnectionRefusedError):
    """The target refused the connection; not the gate."""


def call_through(gate: Address, target: Address, timeout_s: float, *, speak: bool = True) -> Outcome:
    """What a client beside the gate gets from `target`, a name and port as known there, within `timeout_s` in all.

    answered: a byte came back for a request. connected: the connection was accepted, and nothing came back.
    """
    deadline = Deadline.after(timeout_s)
    outcome: Outcome = "silent"
    try:
        with connect_through(gate, target, timeout_s) as connection:
            outcome = "connected"
            if speak:
                _send(connection, b"GET / HTTP/1.0\r\n\r\n", deadline)
                outcome = "answered" if _receive(connection, 1, deadline) else "connected"
    except RefusedThere:
        return "refused"
    except OSError:
        return outcome
    return outcome


def connect_through(gate: Address, target: Address, timeout_s: float) -> socket.socket:
    """A connection to `target`, a name and port as known beside the gate, opened there. Raises OSError."""
    deadline = Deadline.after(timeout_s)
    connection = socket.create_connection(gate, timeout=timeout_s)
    try:
        name = target.host.encode()
        _send(connection, _GREETING, deadline)
        _receive(connection, 2, deadline)
        _send(connection, _CONNECT_BY_NAME + bytes([len(name)]) + name + struct.pack(">H", target.port), deadline)
        reply = _receive(connection, _REPLY_LENGTH, deadline)
        if len(reply) < 2 or reply[1] != _SUCCEEDED:
            refused = reply[1:2] == bytes([_REFUSED])
            raise RefusedThere(str(target)) if refused else TimeoutError(f"{target} cannot be reached")
        connection.settimeout(max(deadline.left_s, 0.001))
    except OSError:
        connection.close()
        raise
    return connection


def _send(connection: socket.socket, data: bytes, deadline: Deadline) -> None:
    connection.settimeout(max(deadline.left_s, 0.001))
    connection.sendall(data)


def _receive(connection: socket.socket, length: int, deadline: Deadline) -> bytes:
    """So many bytes, or fewer when the peer closes."""
    received = b""
    while len(received) < length:
        connection.settimeout(max(deadline.left_s, 0.001))
        piece = connection.recv(length - len(received))
        if not piece:
            break
        received += piece
    return received
