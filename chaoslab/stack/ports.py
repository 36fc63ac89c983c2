"""Free local ports that concurrent runs never share.

Ports lie below every common ephemeral range, so that no outgoing connection takes one between planning and listening.
A run claims a block by keeping its first port bound; the kernel releases the block when the run ends, however it ends.
"""

from __future__ import annotations

import contextlib
import random
import socket

from chaoslab.errors import EnvironmentFault

FIRST, LAST, BLOCK = 18_000, 31_900, 200
LOOPBACK = "127.0.0.1"


class PortBlock:
    """A claimed block of ports on the loopback. `take` hands out a port that is free now.

    Raises EnvironmentFault when no block is free.
    """

    def __init__(self) -> None:
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
            self._claim, self._ports = claim, iter(range(first + 1, first + BLOCK))
            return
        raise EnvironmentFault(
            f"no free block of {BLOCK} ports between {FIRST} and {LAST} on {LOOPBACK}",
            cure="end other runs (chaoslab heal --all) or the programs that listen there",
        )

    def take(self) -> int:
        """The next port that is free. Raises EnvironmentFault when the block is used up."""
        for port in self._ports:
            with contextlib.suppress(OSError), socket.socket() as attempt:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                attempt.bind((LOOPBACK, port))
                return port
        raise EnvironmentFault(f"this stack needs more than {BLOCK} ports on {LOOPBACK}")

    def release(self) -> None:
        """Give the block back. Idempotent."""
        self._claim.close()
