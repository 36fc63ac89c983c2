"""What answers on the entry's published port is asked for its paths, and can neither hold up nor mislead the guesses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
from adopting import init, loaded, no_docker, write

from chaoslab.adopt.entry import Served
from chaoslab.adopt.read import openapi_document
from chaoslab.clock import SYSTEM

DOCUMENT = {"openapi": "3.1.0", "paths": {"/items": {"get": {}}, "/orders": {"post": {}}}}


class Api(BaseHTTPRequestHandler):
    """An application with an OpenAPI document, whose first page redirects."""

    def do_GET(self) -> None:
        body = json.dumps(DOCUMENT).encode() if self.path == "/openapi.json" else b""
        self.send_response(302 if self.path == "/" else 200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Endless(BaseHTTPRequestHandler):
    """A stream of events, which has no end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(600):
            try:
                self.wfile.write(b"x" * 100)
            except OSError:
                return
            SYSTEM.sleep(0.05)

    def log_message(self, *_: object) -> None: ...


class Database(BaseRequestHandler):
    """Something that does not speak HTTP."""

    def handle(self) -> None:
        self.request.sendall(b"\x00\x01 who are you?\n")


@contextmanager
def serving(handler: type) -> Iterator[int]:
    kind = ThreadingHTTPServer if issubclass(handler, BaseHTTPRequestHandler) else ThreadingTCPServer
    with kind(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_an_application_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its documented paths are the journeys; a proxy of the environment is not asked."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with serving(Api) as port, no_docker():
        text = f"services: {{web: {{image: shop, ports: ['{port}:8000']}}, api: {{image: api}}}}"
        monkeypatch.chdir(write(tmp_path, {"compose.yaml": text}))
        assert f"GET /items is 200  (GET in http://127.0.0.1:{port}/openapi.json)" in init("--yes")
        assert openapi_document(port, tmp_path).statuses == {"/": 302}
    assert [journey.request.path for journey in loaded().compose.spec.journeys.values()] == ["/items"]


def test_a_document_in_the_folder(tmp_path: Path) -> None:
    """A file counts without any server; a broken one is passed over."""
    write(tmp_path, {"openapi.json": "{", "openapi.yaml": "paths: {/things: {get: {}}}"})
    assert openapi_document(None, tmp_path) == Served({"paths": {"/things": {"get": {}}}}, "openapi.yaml")


@pytest.mark.parametrize("handler", [Endless, Database])
def test_what_is_no_application(handler: type, tmp_path: Path) -> None:
    """Known bad: a stream without an end, which would be read for ever."""
    began_ns = SYSTEM.now_ns()
    with serving(handler) as port:
        assert openapi_document(port, tmp_path).openapi == {}
    assert (SYSTEM.now_ns() - began_ns) / 1e9 < 5


def test_nobody_answers(tmp_path: Path) -> None:
    with serving(Api) as port:
        pass
    assert openapi_document(port, tmp_path).statuses == {}
