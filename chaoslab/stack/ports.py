"""Free local ports that two runs side by side never share.

Ports lie below every common ephemeral range, so that no outgoing connection takes one between planning and listening.
A run claims a block by keeping its first port bound; the kernel gives the block back when the run ends, however it ends.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

from chaoslab.errors import EnvironmentFault

FIRST, LAST, BLOCK = 18_000, 31_900, 200
LOOPBACK = "127.0.0.1"


class PortBlock:
    """A claimed block of ports on 127.0.0.1. `take` hands out one that is free now."""

    def __init__(self) -> None:
        self._claim, first = _claim_block()
        self._ports: Iterator[int] = iter(range(first + 1, first + BLOCK))

    def take(self) -> int:
        """Raises EnvironmentFault when the block is used up."""
        for port in self._ports:
            if _is_free(port):
                return port
        raise EnvironmentFault(f"this stack needs more than {BLOCK} ports on {LOOPBACK}")

    def release(self) -> None:
        """Give the block back. Idempotent."""
        self._claim.close()


def _claim_block() -> tuple[socket.socket, int]:
    firsts = list(range(FIRST, LAST, BLOCK))
    random.shuffle(firsts)
    for first in firsts:
        claim = socket.socket()
        try:
            claim.bind((LOOPBACK, first))
            claim.listen(1)
        except OSError:
            claim.close()
            continue
        return claim, first
    raise EnvironmentFault(
        f"no free block of {BLOCK} ports between {FIRST} and {LAST} on {LOOPBACK}",
        cure="end other runs (chaoslab heal --all) or whatever listens there",
    )


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
