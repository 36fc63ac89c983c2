"""A runtime of another package, whole: the tests install a copy of this file beside a `.dist-info` folder of its own.

Its stacks are in memory, but for one HTTP server of this process that answers at every address.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fake_stack import FakeStack

from chaoslab.clock import Deadline
from chaoslab.run.runtimes import Finding, Runtime
from chaoslab.spec.stackfile.compose import ComposeFile
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Address, Topology
from chaoslab.stack.protocol import OnProgress


class Answers(BaseHTTPRequestHandler):
    """200 and a site, whatever is asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"site": "east"}'
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


class ToyStack(FakeStack):
    """Replicas that live and die in memory, behind a server that always answers."""

    def __init__(self, topology: Topology) -> None:
        super().__init__(topology)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.server.daemon_threads = True

    def up(self, deadline: Deadline, on_progress: OnProgress) -> None:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        on_progress("the toy is wound up")
        super().up(deadline, on_progress)

    def down(self) -> list[str]:
        self.server.shutdown()
        self.server.server_close()
        return super().down()

    def address(self, replica: str, port: int, *, seen_from: str = OUTSIDE) -> Address:
        return Address("127.0.0.1", self.server.server_address[1])


class ToyRuntime(Runtime):
    name = "toy"
    abilities = ToyStack
    limits = ("A toy has no network: what its links do is nobody's experience.",)

    def make(self, compose: ComposeFile, run_id: str, data: Path, logs: Path) -> ToyStack:
        return ToyStack(compose.topology())

    def looks(self) -> Sequence[Callable[[], Finding]]:
        return (spring,)


def spring() -> Finding:
    """The spring of the toy."""
    return Finding("spring", True, "wound up", needed_by=("toy",))
