"""A JSON server in a few lines, for the mini stack."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]
Handle = Callable[[str, str, bytes], Answer]  # method, path, body


def serve(handle: Handle) -> None:
    """Serve on $LISTEN until killed."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, said = handle(self.command, self.path, body)
            raw = json.dumps(said).encode()
            head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
            self.wfile.write(head.encode() + raw)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    host, _, port = os.environ["LISTEN"].rpartition(":")
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
