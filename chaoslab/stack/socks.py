"""Stand among the callers of a place: connections through its gate, a SOCKS 5 server."""

from __future__ import annotations

import socket
import struct
from typing import Literal

from chaoslab.clock import Deadline
from chaoslab.stack.topology import Address

Outcome = Literal["answered", "connected", "refused", "silent"]
_GREETING = b"\x05\x01\x00"  # version 5, one method: no authentication
_CONNECT_BY_NAME = b"\x05\x01\x00\x03"
_REPLY_LENGTH = 10
_SUCCEEDED, _REFUSED = 0, 5


def call_through(gate: Address, target: Address, timeout_s: float, *, speak: bool = True) -> Outcome:
    """What a caller beside the gate gets from `target`, a name and port as known there, within `timeout_s` in all.

    answered: said a byte when spoken to. connected: took the connection and said nothing.
    """
    deadline = Deadline.after(timeout_s)
    try:
        with socket.create_connection(gate, timeout=timeout_s) as connection:
            return _converse(connection, target, deadline, speak)
    except OSError:
        return "silent"


def _converse(connection: socket.socket, target: Address, deadline: Deadline, speak: bool) -> Outcome:
    name = target.host.encode()
    _say(connection, _GREETING, deadline)
    _hear(connection, 2, deadline)
    _say(connection, _CONNECT_BY_NAME + bytes([len(name)]) + name + struct.pack(">H", target.port), deadline)
    reply = _hear(connection, _REPLY_LENGTH, deadline)
    if len(reply) < 2 or reply[1] != _SUCCEEDED:
        return "refused" if reply[1:2] == bytes([_REFUSED]) else "silent"
    if not speak:
        return "connected"
    try:
        _say(connection, b"GET / HTTP/1.0\r\n\r\n", deadline)
        return "answered" if _hear(connection, 1, deadline) else "connected"
    except OSError:
        return "connected"


def _say(connection: socket.socket, words: bytes, deadline: Deadline) -> None:
    connection.settimeout(max(deadline.left_s, 0.001))
    connection.sendall(words)


def _hear(connection: socket.socket, length: int, deadline: Deadline) -> bytes:
    heard = b""
    while len(heard) < length:
        connection.settimeout(max(deadline.left_s, 0.001))
        piece = connection.recv(length - len(heard))
        if not piece:
            break
        heard += piece
    return heard
