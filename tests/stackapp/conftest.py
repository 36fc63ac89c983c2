"""A real PostgreSQL leader and a real standby, shared by the tests of the services."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

APP = Path(__file__).resolve().parents[2] / "compose" / "two-site"
sys.path.insert(0, str(APP))

PASSWORD = "for-tests-only"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unprivileged(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", *command] if os.geteuid() == 0 else [*command]


@dataclass
class Server:
    """A PostgreSQL server of the test's own."""

    data: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        from database import TOOLS

        settings = [f"port={self.port}", "unix_socket_directories=", "fsync=off", "dynamic_shared_memory_type=mmap"]
        options = [word for setting in settings for word in ("-c", setting)]
        log = (self.data.parent / f"{self.data.name}.log").open("ab")
        command = unprivileged(str(TOOLS / "postgres"), "-D", str(self.data), *options)
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        ready = [str(TOOLS / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        end = time.monotonic() + 20
        while subprocess.run(ready, check=False).returncode != 0:
            assert time.monotonic() < end, f"no PostgreSQL at {self.address}"
            time.sleep(0.05)

    def signal_all(self, number: signal.Signals) -> None:
        """A signal to the server and all of its backends."""
        assert self.process is not None
        server = psutil.Process(self.process.pid)
        for one in [server, *server.children(recursive=True)]:
            one.send_signal(number)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """(leader, standby), with the stack's own schema. The standby is a copy that stays in recovery."""
    folder = tmp_path_factory.mktemp("pg")
    leader, standby = Server(folder / "leader"), Server(folder / "standby")
    create(leader.data)
    leader.start()
    load_schema(leader)
    leader.stop()
    shutil.copytree(leader.data, standby.data)
    (standby.data / "standby.signal").touch()
    leader.start()
    standby.start()
    yield leader, standby
    leader.stop()
    standby.stop()


def create(data: Path) -> None:
    from database import TOOLS

    secret = data.parent / "password"
    secret.write_text(PASSWORD)
    words = [str(TOOLS / "initdb"), "-D", str(data), "-U", "postgres", "-A", "scram-sha-256", "--no-sync"]
    command = unprivileged(*words, f"--pwfile={secret}")
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def load_schema(server: Server) -> None:
    from database import TOOLS

    command = [str(TOOLS / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-f", str(APP / "schema.sql")]
    env = {**os.environ, "PGPASSWORD": PASSWORD, "APP_PASSWORD": PASSWORD}
    url = f"postgresql://postgres@{server.address}/postgres"
    subprocess.run([*command, url], env=env, check=True, capture_output=True, timeout=30)


@pytest.fixture
def leader(servers: tuple[Server, Server]) -> Server:
    return servers[0]


@pytest.fixture
def standby(servers: tuple[Server, Server]) -> Server:
    return servers[1]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which database nodes the services of this test know, the own site's first."""

    def know(*addresses: str) -> None:
        monkeypatch.setenv("DATABASE", ",".join(addresses))
        monkeypatch.setenv("DATABASE_PASSWORD", PASSWORD)

    return know
