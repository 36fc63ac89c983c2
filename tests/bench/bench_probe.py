"""What the prober costs: share of one core and resident memory at eight and ten journeys of 50/s, ledgers watched.

The same slots through aiohttp's client are measured beside it, in turns, for a comparison on the same machine. Targets:
at most 10 % of a core at eight journeys, at most 80 MB.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import psutil

from chaoslab.probe.plan import Http, HttpCall, LedgerTarget, ProbePlan, Target, encode_plan
from chaoslab.process import end_group, spawn

SCRIPTED = Path(__file__).parent.parent / "probe" / "scripted.py"
BODY = {"id": "{id}", "writer": "{writer}", "seq": "{seq}", "payload": "{payload}"}
HEADERS = {"Authorization": "Bearer demo"}
CALL = HttpCall(path="/entries?writer={writer}&after={after}", headers=HEADERS)
LEDGER = LedgerTarget(site=CALL, entry=CALL, items="entries[].{id: id, hash: hash}")
WRITE = Http(call=HttpCall(method="POST", path="/entries", headers=HEADERS, body=BODY), statuses=(201,))
READ = Http(call=HttpCall(path="/x", headers=HEADERS))
WARM_S, MEASURE_S, RATE = 2.0, 6.0, 50.0


def targets(count: int) -> list[Target]:
    """Reads and writes in turn; three of the writes keep a ledger."""
    return [
        Target(
            name=f"s{i}.write", service=f"s{i}", op="write", how=WRITE, ledger=LEDGER if i < 6 else None,
        )
        if i % 2
        else Target(name=f"s{i}.read", service=f"s{i}", op="read", how=READ, expect="ok")
        for i in range(count)
    ]  # fmt: skip


def cost(command: Sequence[str], folder: Path, told: bytes = b"") -> tuple[float, float]:
    """Percent of a core and MB of a process at work."""
    child = spawn(command, log=folder / "log", stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(told)
    child.stdin.flush()
    try:
        process = psutil.Process(child.pid)
        time.sleep(WARM_S)
        before, began = process.cpu_times(), time.monotonic()
        time.sleep(MEASURE_S)
        after, took_s = process.cpu_times(), time.monotonic() - began
        memory_mb = process.memory_info().rss / 1024 / 1024
    finally:
        end_group(child)
    return 100 * (after.user + after.system - before.user - before.system) / took_s, memory_mb


def prober(url: str, count: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as name:
        folder = Path(name)
        plan = ProbePlan(base_url=url, history=str(folder / "history"), writer="b", targets=targets(count), rate=RATE)
        return cost([sys.executable, "-m", "chaoslab.probe"], folder, encode_plan(plan) + b"\n")


def with_aiohttp(url: str, count: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as name:
        return cost([sys.executable, __file__, url, str(count)], Path(name))


async def send_by_aiohttp(url: str, count: int) -> None:
    """The bare slots: no rows, no ledger, nothing judged; reads on fresh connections, since on reused ones they are resent."""
    quiet = {"cookie_jar": aiohttp.DummyCookieJar(), "timeout": aiohttp.ClientTimeout(total=2), "headers": HEADERS}
    fresh = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0), **quiet)
    pooled = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), **quiet)
    loop, tasks = asyncio.get_running_loop(), set()

    async def send(slot: int) -> None:
        write = slot % 2 == 1
        body = {"id": f"a-{slot}", "writer": "a", "seq": slot, "payload": "x" * 70} if write else None
        session = pooled if slot % 4 == 3 else fresh
        call = session.post(f"{url}/entries", json=body) if write else session.get(f"{url}/x")
        async with call as answer:
            await answer.read()

    t0 = loop.time()
    for slot in range(1_000_000):
        await asyncio.sleep(max(0.0, t0 + slot / RATE / count - loop.time()))
        tasks.add(task := loop.create_task(send(slot)))
        task.add_done_callback(tasks.discard)


def main() -> None:
    server = subprocess.Popen([sys.executable, str(SCRIPTED), "{}"], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        url = f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"
        for count in (8, 10):
            ours, theirs = prober(url, count), with_aiohttp(url, count)
            print(f"{count} journeys at {RATE:g}/s: {ours[0]:.1f} % of a core, {ours[1]:.0f} MB; ", end="")
            print(f"bare aiohttp {theirs[0]:.1f} %, {theirs[1]:.0f} MB; ratio {ours[0] / theirs[0]:.2f}")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    asyncio.run(send_by_aiohttp(sys.argv[1], int(sys.argv[2]))) if len(sys.argv) > 1 else main()
