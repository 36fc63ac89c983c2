"""What our row per request costs Locust: CPU per request with the listener and without it, in turns inside one Locust.

Turns of a third of a second in the same process hurt both alike on a busy machine. Target: at least 0.95 of the bare rate.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

from chaoslab.process import end_group, spawn

TURNS = 30
TURN_S = 0.3
USERS = 10
TARGET = 0.95

LOCUSTFILE = f"""
import json, os, time
from pathlib import Path

import gevent
from locust import FastHttpUser, constant, events, task

from chaoslab.load.locust_plugin import request_listener

requests = 0


class FlatOut(FastHttpUser):
    wait_time = constant(0)

    @task
    def get(self):
        global requests
        self.client.get("/")
        requests += 1


def cpu_us_per_request():
    cpu_s, before = time.process_time(), requests
    gevent.sleep({TURN_S})
    return (time.process_time() - cpu_s) / (requests - before) * 1e6


def compare():
    listener = request_listener(os.open("rows.tsv", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    gevent.sleep(1.5)
    for turn in range({TURNS}):
        bare_us = cpu_us_per_request()
        events.request.add_listener(listener)
        rows_us = cpu_us_per_request()
        events.request.remove_listener(listener)
        with Path("figures.json").open("a") as figures:
            print(json.dumps([bare_us, rows_us]), file=figures)
    os._exit(0)


events.init.add_listener(lambda **_: gevent.spawn(compare) and None)
"""


class Quick(asyncio.Protocol):
    """Answers every request with the same few bytes; several times as fast as Locust asks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * data.count(b"\r\n\r\n"))


async def compare(folder: Path) -> list[list[float]]:
    """CPU microseconds per request, (bare, with rows), for each turn."""
    (folder / "flat_out.py").write_text(LOCUSTFILE)
    server = await asyncio.get_running_loop().create_server(Quick, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname())
    argv = [*(sys.executable, "-m", "locust", "-f", "flat_out.py", "--host", url, "--headless", "--only-summary")]
    child = spawn([*argv, "--users", str(USERS), "--spawn-rate", "100"], log=folder / "locust.log", cwd=folder)
    try:
        await asyncio.wait_for(asyncio.to_thread(child.wait), timeout=TURNS * TURN_S * 2 + 20)
    finally:
        await asyncio.to_thread(end_group, child, grace_s=0.0)
        server.close()
    return [json.loads(line) for line in (folder / "figures.json").read_text().splitlines()]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as folder:
        turns = asyncio.run(compare(Path(folder)))
    bare_us = statistics.median(bare for bare, _ in turns)
    rows_us = statistics.median(rows for _, rows in turns)
    ratio = statistics.median(bare / rows for bare, rows in turns)
    print(f"load.request_cpu_us        bare {bare_us:.1f}  with rows {rows_us:.1f}  ({len(turns)} pairs of turns)")
    print(f"load.rate_of_bare_locust   {ratio:.3f}  (target >= {TARGET})  {'met' if ratio >= TARGET else 'MISSED'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
