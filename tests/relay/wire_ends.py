"""Real servers and real sockets: a relay process, Toxiproxy itself, upstreams to talk to, and what ends say."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import requests

TIMEOUT_S = 5.0
QUIET_S = 0.25  # how long silence must last to count


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Api:
    """The HTTP API of one server, raw: answers as they come."""

    def __init__(self, address: str, kind: str) -> None:
        self.address = address
        self.kind = kind
        self.session = requests.Session()
        self.session.trust_env = False

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.session.request(method, f"http://{self.address}{path}", json=body, timeout=TIMEOUT_S, **options)

    def proxy(self, upstream: str, name: str = "p", **more: Any) -> tuple[str, int]:
        """Create a proxy on a free port; where it listens."""
        answer = self("POST", "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, **more})
        assert answer.status_code == 201, answer.text
        host, _, port = answer.json()["listen"].rpartition(":")
        return host, int(port)

    def toxic(self, kind: str, stream: str = "downstream", proxy: str = "p", toxicity: float = 1.0, **attributes: int) -> str:
        """Add a toxic; its name."""
        body = {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        answer = self("POST", f"/proxies/{proxy}/toxics", body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["name"])

    def cure(self, toxic: str, proxy: str = "p") -> None:
        assert self("DELETE", f"/proxies/{proxy}/toxics/{toxic}").status_code == 204

    def clear(self) -> None:
        for name in self("GET", "/proxies").json():
            self("DELETE", f"/proxies/{name}")


class Upstream:
    """Something to dial: hands out each connection that arrives."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(TIMEOUT_S)
        self.address = "{}:{}".format(*self.listening.getsockname())

    def accept(self) -> socket.socket:
        served, _ = self.listening.accept()
        served.settimeout(TIMEOUT_S)
        return served

    def nobody_came(self, within_s: float = QUIET_S) -> bool:
        return not select.select([self.listening], [], [], within_s)[0]


def dial(address: tuple[str, int]) -> socket.socket:
    client = socket.create_connection(address, timeout=TIMEOUT_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


class ConnectAttempt:
    """A connect() that does not wait for its handshake. The kernel repeats its SYN until it is accepted."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.line = socket.socket()
        self.line.setblocking(False)
        self.line.connect_ex(address)

    def __enter__(self) -> ConnectAttempt:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def hangs(self, for_s: float = QUIET_S) -> bool:
        return not select.select([], [self.line], [], for_s)[1]

    def outcome(self, within_s: float = TIMEOUT_S) -> str:
        """connected, refused, or nothing yet; a connected line blocks from then on."""
        if self.hangs(within_s):
            return "nothing"
        if self.line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED:
            return "refused"
        self.line.settimeout(TIMEOUT_S)
        return "connected"


def silent(end: socket.socket, for_s: float = QUIET_S) -> bool:
    """Nothing arrives: no byte, no FIN, no RST."""
    return not select.select([end], [], [], for_s)[0]


def read(end: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, or fewer if the end comes first."""
    got = b""
    while len(got) < count and (data := end.recv(count - len(got))):
        got += data
    return got


def last_word(end: socket.socket) -> str:
    """What the other side ended with: FIN, RST, or the bytes that came instead."""
    try:
        data = end.recv(65536)
    except ConnectionError:
        return "RST"
    except TimeoutError:
        return "nothing"
    return "FIN" if not data else f"data {data[:20]!r}"


def wait_for(holds: Callable[[], bool]) -> bool:
    """Whether it holds within TIMEOUT_S."""
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def relay_process(*options: str, ends_with: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A relay, and its address. Whatever it did, it must end cleanly and have nothing to complain about."""
    command = [sys.executable, "-m", "chaoslab.stack.relay", "--api", "127.0.0.1:0", *options]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip().removeprefix("listening on http://")
        finally:
            process.terminate()
            assert process.wait(TIMEOUT_S) == ends_with
            complaints.seek(0)
            output = complaints.read()
            assert not output, output


@contextlib.contextmanager
def toxiproxy_process(binary: str) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [binary, "-host", "127.0.0.1", "-port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + TIMEOUT_S
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < until:
            time.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
