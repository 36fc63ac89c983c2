"""A member of etcd that lost its disk tries until the others have forgotten it, and forgets only without a quorum."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from real_servers import free_port

from chaoslab.clock import Deadline, wait_until

APP = Path(__file__).parents[2] / "compose" / "two-site"
ETCD = """#!{python}
import pathlib, sys, time
data = pathlib.Path({data!r})
with (data / "starts").open("a") as starts:
    starts.write("x")
if (data / "known").exists() and not list((data / "member" / "wal").glob("*.wal")):
    sys.exit("member has already been bootstrapped")
(data / "member" / "wal").mkdir(parents=True, exist_ok=True)
(data / "member" / "wal" / "0.wal").touch()
time.sleep(60)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The member's folder, with a program `etcd` beside it that is refused as long as the file `known` is there."""
    folder = tmp_path / "data"
    folder.mkdir()
    program = tmp_path / "bin" / "etcd"
    program.parent.mkdir()
    program.write_text(ETCD.format(python=sys.executable, data=str(folder)))
    program.chmod(0o755)
    return folder


def environment(data: Path, client: str) -> dict[str, str]:
    path = f"{data.parent / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "ETCD_DATA_DIR": str(data), "ETCD_LISTEN_CLIENT_URLS": f"http://{client}"}


@pytest.fixture
def member(data: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "etcd_node"]
        started.append(subprocess.Popen(command, cwd=APP, env=environment(data, "127.0.0.1:9"), start_new_session=True))
        return started[-1]

    yield start
    for child in started:
        os.killpg(child.pid, 9)
        child.wait()


def wait_for(what: str, seen: Callable[[], bool]) -> None:
    wait_until(what, lambda: (seen(), what), Deadline.after(10), poll_s=0.02)


def forget(data: Path, client: str) -> int:
    command = [sys.executable, "-m", "etcd_node", "--forget"]
    return subprocess.run(
        command, cwd=APP, env=environment(data, client), capture_output=True, timeout=20, check=False
    ).returncode


def test_a_member_that_is_refused_tries_again(data: Path, member: Callable[[], subprocess.Popen[bytes]]) -> None:
    """Until it is taken for a new one."""
    (data / "known").touch()
    member()
    wait_for("two starts", lambda: len((data / "starts").read_text() if (data / "starts").exists() else "") >= 2)
    assert not (data / "member").exists()
    (data / "known").unlink()
    wait_for("its data", (data / "member" / "wal" / "0.wal").exists)


def test_a_member_forgets_everything_once_it_is_asked(data: Path, member: Callable[[], subprocess.Popen[bytes]]) -> None:
    member()
    wait_for("its data", (data / "member" / "wal" / "0.wal").exists)
    (data / "member" / "wal" / "1.wal").touch()
    assert forget(data, f"127.0.0.1:{free_port()}") == 0
    wait_for("it to begin anew", (data / "member" / "wal" / "0.wal").exists)
    assert not (data / "member" / "wal" / "1.wal").exists()
    assert len((data / "starts").read_text()) == 2


def test_nothing_is_forgotten_while_there_is_a_quorum(data: Path) -> None:
    """Known bad: a runbook that is run against a cluster in good health."""

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"health": "true"}')

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    assert forget(data, f"127.0.0.1:{server.server_port}") == 1
    assert list(data.iterdir()) == []
    server.shutdown()
    server.server_close()
