"""One question to a stack: what comes of it when the answer is none that a client expects."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from chaoslab.engine.asking import ask

_PIECES, _EVERY_S = 100, 0.1  # it ends at last, so that a client that waits for it fails, and does not hang


@contextlib.contextmanager
def trickling(head: bytes) -> Iterator[str]:
    """A server that goes on saying something for ten seconds: no wait for its next byte is ever long."""
    over = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client:
                client.sendall(head)
                for _ in range(_PIECES):
                    if over.wait(_EVERY_S):
                        return
                    client.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-A: "])
def test_an_answer_that_does_not_end_is_given_up(head: bytes) -> None:
    """Known bad: a stream of events kept `chaoslab runbook check` waiting for ever, since something always came."""
    with trickling(head) as url, pytest.raises(requests.Timeout, match=r"did not end within 0\.3 s"):
        ask("GET", url, 0.3)
