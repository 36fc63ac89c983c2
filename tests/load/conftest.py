"""A small real HTTP server that can answer, fail or hang, and processes to look at."""

from __future__ import annotations

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest


class Server(ThreadingHTTPServer):
    """`mode`: answer, fail (503) or hang. `seen`: method and path of each request, with its body; `hosts`: its Host header."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode = "answer"
        self.seen: list[tuple[str, str, bytes]] = []
        self.at: list[float] = []
        self.hosts: list[str | None] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.at.append(time.monotonic())
        self.server.hosts.append(self.headers.get("Host"))
        self.server.seen.append((self.command, self.path, body))
        if self.server.mode == "hang":
            self.server.released.wait(30)
            self.close_connection = True
            return
        self.send_response(503 if self.server.mode == "fail" else 201 if self.command == "POST" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = answer

    def log_message(self, *args) -> None:
        """Say nothing."""


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def session_members():
    """Living processes of a session."""

    def of(sid: int) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                with_sid = process.status() != psutil.STATUS_ZOMBIE and os.getsid(process.pid) == sid
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
            if with_sid:
                found.append(process.pid)
        return found

    return of
