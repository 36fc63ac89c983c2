"""The control: an idle server beside the stack. How long it keeps a caller waiting is due to the machine, not the stack.

`GET /read` is answered from memory, `POST /fsync` after a few bytes have reached the disk. It needs nothing but Python's
library, because it also runs in a separate container: `python3 control.py 0.0.0.0 8080 /volume/control`.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

_BLOCK = b"control " * 64
_FILE_MAX = 1 << 20


class Handler(BaseHTTPRequestHandler):
    """Each connection has its own thread, so that a slow disk keeps no read waiting."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    file: ClassVar[int] = -1

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        if os.lseek(self.file, 0, os.SEEK_END) > _FILE_MAX:
            os.ftruncate(self.file, 0)
        os.write(self.file, _BLOCK)
        os.fsync(self.file)
        self._answer()

    def _answer(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Server(ThreadingHTTPServer):
    """Accepts many connections at once: after a stall, all waiting ones arrive together."""

    request_queue_size = 1024
    daemon_threads = True


def main(host: str, port: str, path: str) -> None:
    """Serve until the process is ended."""
    Handler.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    Server((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
