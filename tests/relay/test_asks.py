"""Who connects to whom and gets no answer: the relay knows the replica by the process that owns the client's socket."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from wire_ends import Api, Upstream, free_port, relay_process, wait_for

LINK = {"from": "anyang", "to": "pangyo"}
ENDED = ("FIN", "ConnectionResetError")  # as its hello was read or not
ASKING = """
import socket, sys
sys.stdin.readline()
try:
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
    client.sendall(b"hello")
    print(client.recv(100) or "FIN", flush=True)
except OSError as broken:
    print(type(broken).__name__, flush=True)
"""


@pytest.fixture(scope="module")
def watching() -> Iterator[Api]:
    with relay_process("--run", "tests", "--watch-asks") as (_, address):
        yield Api(address, "relay")


@pytest.fixture(autouse=True)
def clear(watching: Api) -> Iterator[None]:
    watching("GET", "/chaoslab/asks")
    yield
    watching("PUT", "/chaoslab/fence", {"hold": []})
    watching.clear()


@contextmanager
def asking(port: int, replica: str | None = "talk-anyang") -> Iterator[subprocess.Popen[str]]:
    """A replica that connects once it is told to, says hello, and prints what it hears."""
    marks = {"CHAOSLAB_RUN": "tests", "CHAOSLAB_SITE": "anyang", "CHAOSLAB_REPLICA": f"tests/{replica}"} if replica else {}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", ASKING, str(port)], env={**os.environ, **marks}, **pipes) as process:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        yield process


def asks(watching: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = watching("GET", "/chaoslab/asks").json()
    return found


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_who_is_refused_behind_a_proxy_is_counted_once_and_told(watching: Api) -> None:
    """The connection ends all the same."""
    _, port = watching.proxy(f"127.0.0.1:{free_port()}", link=LINK)
    with asking(port) as process:
        assert said(process) in ENDED
    assert asks(watching) == [{"client": "talk-anyang", "proxy": "p", "how": "refused", "times": 1}]
    assert asks(watching) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere connects cannot be stalled")
def test_who_hangs_in_connect_is_counted_while_it_hangs(watching: Api, upstream: Upstream) -> None:
    """Once, however often the relay is asked. It never reaches the relay itself, whose listener is stalled."""
    _, port = watching.proxy(upstream.address, link=LINK)
    watching("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"]]})
    found: list[dict[str, Any]] = []
    with asking(port) as process:
        assert wait_for(lambda: bool(found.extend(asks(watching)) or found))
        assert asks(watching) == []
        process.kill()
    assert found == [{"client": "talk-anyang", "proxy": "p", "how": "silent", "times": 1}]


def test_who_is_answered_and_strangers_are_not_counted(watching: Api, upstream: Upstream) -> None:
    """Known bad would be a harness that counts itself."""
    _, port = watching.proxy(upstream.address, link=LINK)
    with asking(port) as process, upstream.accept() as served:
        served.sendall(b"hi")
        assert said(process) == "b'hi'"
    _, other = watching.proxy(f"127.0.0.1:{free_port()}", name="q", link=LINK)
    with asking(other, replica=None) as process:
        assert said(process) in ENDED
    assert asks(watching) == []


def test_a_relay_that_does_not_watch_counts_nothing(relay: Api) -> None:
    """As in every run without such an objective."""
    _, port = relay.proxy(f"127.0.0.1:{free_port()}", link=LINK)
    with asking(port) as process:
        assert said(process) in ENDED
    assert relay("GET", "/chaoslab/asks").json() == []
