"""A database node with a defect: a standby that does not hear the other node promotes itself, whatever the quorum says.

PEER            host:port of the other node's PostgreSQL; the rest as for `database`
PEER_ANSWERS_S  seconds in which the other node has to answer (1)

Not part of the stack; an overlay replaces a node with it, to prove that an unsafe promotion is detected. Once the other node
answers again, Patroni takes over again, and what was written here without its lease is lost.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time

from database_defect import Ha, run

PATIENCE_S = 5.0
_POLL_EVERY_S = 0.5
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL answers it with one byte, before any login


class Peer:
    """The other node, polled by a thread. An answer that takes longer than `answers_s` is none."""

    def __init__(self, address: str, answers_s: float) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._answers_s = answers_s
        self._answered_at: float | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def silent(self) -> bool:
        """Whether it answered once, and has not for too long."""
        return self._answered_at is not None and time.monotonic() - self._answered_at > PATIENCE_S

    def _watch(self) -> None:
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(self._address, timeout=self._answers_s) as connection,
            ):
                connection.sendall(_SSL_REQUEST)
                if connection.recv(1):
                    self._answered_at = time.monotonic()
            time.sleep(_POLL_EVERY_S)


class PromotesItself(Ha):  # type: ignore[misc]  # Patroni has no types
    """Leads whenever the other node is silent."""

    def __init__(self, patroni: object) -> None:
        super().__init__(patroni)
        self._peer = Peer(os.environ["PEER"], float(os.environ.get("PEER_ANSWERS_S", "1")))

    def _run_cycle(self) -> str:
        if not self._peer.silent or not self.state_handler.is_running():
            return str(super()._run_cycle())
        self.state_handler.reset_cluster_info_state(None)
        if not self.state_handler.is_primary():
            self.state_handler.pg_ctl("promote", "-W")
        return "leading without the lock, because the other node does not answer"


if __name__ == "__main__":
    run(PromotesItself)
