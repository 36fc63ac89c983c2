"""What the harness asks of the stack and of Docker goes straight there, and carries no password of the user's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from chaoslab.engine.conditions import Conditions
from chaoslab.spec.stackfile.condition import BringAbout, ConditionSpec
from chaoslab.spec.stackfile.topology import Address
from chaoslab.stack.compose.engine import connect
from chaoslab.stack.toxiproxy.driver import ToxiproxyDriver

ANSWERS = {"/version": {"version": "2.12.0", "Version": "99.0", "ApiVersion": "1.41"}, "/health": {"ok": True}}


class Server(ThreadingHTTPServer):
    """Answers everything, and keeps what it was asked with which password."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((f"{self.command} {self.path}", self.headers.get("Authorization")))
        body = json.dumps(ANSWERS.get(self.path, {})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        yield one
        one.shutdown()


@pytest.fixture(autouse=True)
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The environment names a proxy for everything, and a .netrc with a password for this machine."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\ndefault login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as one:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{one.address}")
        yield one
        one.shutdown()
        assert one.asked == []


def conditions(server: Server) -> Conditions:
    spec = ConditionSpec(
        get="http://app:80/health", expect="ok", bring_about=BringAbout(post="http://app:80/go", body={"to": 1})
    )
    host, _, port = server.address.partition(":")
    topology = SimpleNamespace(spec=SimpleNamespace(conditions={"well": spec}))
    stack = SimpleNamespace(topology=topology, address=lambda name, number: Address(host, int(port)))
    return Conditions(stack, ["well"])  # type: ignore[arg-type]


def test_conditions_are_looked_at_and_brought_about_directly(server: Server) -> None:
    asked = conditions(server)
    (row,) = asked.look("steady")
    assert row.holds, row.observed
    assert asked.bring_about("well") is not None
    assert server.asked == [("GET /health", None), ("POST /go", None)]


def test_links_are_driven_directly(server: Server) -> None:
    driver = ToxiproxyDriver(server.address)
    assert driver.call("get", "/version", dict[str, str])["version"] == "2.12.0"
    for verb in ("post", "put", "delete"):
        driver.call(verb, "/chaoslab/fence", None)
    assert [password for _, password in server.asked] == [None] * 4


def test_docker_is_asked_directly(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{server.address}")
    monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
    engine = connect()
    assert engine.version == "99.0"
    engine.client.api.version()
    assert len(server.asked) == 2
    assert {password for _, password in server.asked} == {None}
