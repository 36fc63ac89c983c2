"""What a service does that has to fetch its password, or what it runs, before it starts: with the real stores, and without."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import APP, PASSWORD, Server, free_port

from connections import NotExecuted, Pool
from health import problem
from starts_with import fetch, fetched

PATIENCE_S = 60
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program of the stack's folder at a port; what it says is in `said`."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(*words: str, port: int, folder: Path = APP, **environment: str) -> subprocess.Popen[bytes]:
        env = {"PATH": os.environ["PATH"], "LISTEN": f"127.0.0.1:{port}", "APP_PASSWORD": PASSWORD, **environment}
        with (tmp_path / "said").open("ab") as said:
            process = subprocess.Popen([sys.executable, "-m", *words], cwd=folder, env=env, stdout=said, stderr=said)
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def is_refused(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("store", "needs", "password"), [("secrets", "SECRETS", ""), ("registry", "REGISTRY", PASSWORD)], ids=["secret", "release"]
)
def test_pay_does_not_start_without_what_it_fetches(
    start: Start, leader: Server, tmp_path: Path, store: str, needs: str, password: str
) -> None:
    """It stays alive, says what it lacks and is not reached; once the store answers it serves, its database included."""
    stored, port = free_port(), free_port()
    known = {"DATABASE": leader.address, "DATABASE_PASSWORD": password, "AUTH_URL": "http://127.0.0.1:9"}
    known |= {needs: f"127.0.0.1:9,127.0.0.1:{stored}", "RELEASE": str(tmp_path / "release.zip")}
    pay = start("starts_with", "pay", port=port, **known)
    until(lambda: b"it does not start before one of" in (tmp_path / "said").read_bytes(), "it does not say what it lacks")
    assert pay.poll() is None
    assert is_refused(port)

    start("tools", store, port=stored)
    until(lambda: problem(f"127.0.0.1:{port}/ready") is None, "it does not serve")
    assert pay.poll() is None


async def test_known_bad_the_database_refuses_who_has_no_password(leader: Server) -> None:
    """Or pay would start without the store of secrets, and the overlay would show nothing."""
    with pytest.raises(NotExecuted, match="password"):
        await Pool(leader.address, user="app", password="", database="app").open_one()


def test_a_registry_has_what_the_stack_runs(start: Start) -> None:
    """Every program of the folder, as it is there; and nothing else."""
    port = free_port()
    start("tools", "registry", port=port)
    with zipfile.ZipFile(io.BytesIO(fetch(f"127.0.0.1:{port}", "/release"))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            file.name: file.read_bytes() for file in APP.glob("*.py")
        }
    assert problem(f"127.0.0.1:{port}/live") is None
    assert problem(f"127.0.0.1:{port}/database-password") == f"127.0.0.1:{port}/database-password: status 404"


def test_a_registry_packs_files_of_any_age(start: Start, tmp_path: Path) -> None:
    """Known bad: files in an image are of 1970, which a zip cannot say, so the registry gave out nothing in containers."""
    for name in ("tools.py", "health.py"):
        shutil.copy(APP / name, tmp_path)
        os.utime(tmp_path / name, (0, 0))
    port = free_port()
    start("tools", "registry", port=port, folder=tmp_path)
    until(lambda: problem(f"127.0.0.1:{port}/live") is None, "it does not listen")
    assert problem(f"127.0.0.1:{port}/release") is None


def test_what_runs_is_the_release(start: Start, tmp_path: Path) -> None:
    """And not the program of the same name in the folder in which it starts."""
    with zipfile.ZipFile(tmp_path / "release", "w") as archive:
        archive.writestr("pay.py", "import sys; sys.exit(f'this is {__file__}')")
    port, own = free_port(), tmp_path / "fetched.zip"
    start("http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path), port=port)
    pay = start("starts_with", "pay", port=free_port(), REGISTRY=f"127.0.0.1:{port}", RELEASE=str(own))
    assert pay.wait(PATIENCE_S) == 1
    assert f"this is {own}/pay.py" in (tmp_path / "said").read_text()


def test_who_fetches_nothing_keeps_its_environment() -> None:
    assert fetched({"DATABASE_PASSWORD": "own"}) == {"DATABASE_PASSWORD": "own"}
