"""The classes that compose/JOURNEYS.md shows, as they stand there, against real servers."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from real_servers import free_port

from chaoslab.clock import Deadline
from chaoslab.history.rows import Probe
from chaoslab.probe.final_read import read_all_sites
from chaoslab.probe.journey_class import Place
from chaoslab.probe.plan import Python, Target
from chaoslab.spec.stackfile.journey import Journey

DOCS = Path(__file__).parents[2] / "compose" / "JOURNEYS.md"
AMQP_READY_S = 60.0


def documented(name: str, folder: Path) -> Python:
    """A class of the docs, in a module in a folder, as a journey names it."""
    snippets = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    [text] = [text for text in snippets if f"class {name}(" in text]
    module = f"documented_{name.lower()}"
    (folder / f"{module}.py").write_text(text)
    return Python(name=f"{module}:{name}", folder=str(folder), settings={"queue": "orders"})


# --- gRPC

SERVER = """
import asyncio, sys
import grpc

async def main():
    server = grpc.aio.server()
    async def check(request, context):
        return b"\\x08" + (b"\\x01" if sys.argv[2] == "serving" else b"\\x02")
    method = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})])
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    print("up", flush=True)
    await server.wait_for_termination()

asyncio.run(main())
"""


@contextmanager
def grpc_server(port: int, state: str = "serving") -> Iterator[subprocess.Popen[bytes]]:
    """A server of grpcio with a health service."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port), state], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"up\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def probed(probe: Any, url: str, how: Python, meanwhile: Any = lambda: time.sleep(0.6), **changes: Any) -> list[Probe]:
    """The slots of the class, in the order in which they were due."""
    target = Target(**{"name": "own", "service": "s", "op": "read", "how": how, "timeout_s": 0.3, "within_s": 0.25} | changes)
    running = probe(url, target)
    running.started()
    meanwhile()
    assert running.stop() == 0
    return sorted((slot for slot in running.slots if slot.journey == "own"), key=lambda slot: slot.due_ns)


def test_grpc_is_good_while_it_serves(probe, tmp_path):
    port = free_port()
    with grpc_server(port):
        slots = probed(probe, f"http://127.0.0.1:{port}", documented("Health", tmp_path))
    assert len(slots) >= 20
    assert {(slot.outcome, slot.error) for slot in slots} == {("ok", None)}


def test_grpc_that_does_not_serve_is_bad(probe, tmp_path):
    """Known bad: it answers, and says so."""
    port = free_port()
    with grpc_server(port, "not serving"):
        slots = probed(probe, f"http://127.0.0.1:{port}", documented("Health", tmp_path))
    assert {(slot.good, slot.outcome, slot.error) for slot in slots} == {(False, "bad", "not serving")}


def test_a_grpc_server_that_comes_back_is_seen_at_once(probe, tmp_path):
    """With the delays of its channel as the docs set them; by default the client would wait for a second and longer."""
    port = free_port()
    back: list[int] = []

    def restart() -> None:
        with grpc_server(port):
            time.sleep(0.3)
        time.sleep(0.5)
        with grpc_server(port):
            back.append(time.monotonic_ns())
            time.sleep(0.8)

    slots = probed(probe, f"http://127.0.0.1:{port}", documented("Health", tmp_path), restart)
    assert any(not slot.good for slot in slots)
    first = next(slot for slot in slots if slot.good and slot.due_ns > back[0] - 50_000_000)
    assert (first.end_ns - back[0]) / 1e9 < 0.5


# --- AMQP


@pytest.fixture(scope="module")
def rabbit(engine) -> Iterator[int]:
    """The port of RabbitMQ in a container, with a queue."""
    port = free_port()
    given = ["--publish", f"127.0.0.1:{port}:5672", "--hostname", "rabbit", "--rm", "--detach"]
    started = subprocess.run(["docker", "run", *given, "rabbitmq:3"], capture_output=True, text=True, check=True)
    try:
        asyncio.run(_with_queue(port))
        yield port
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", started.stdout.strip()], capture_output=True, check=True)


async def _with_queue(port: int) -> None:
    import aio_pika

    end = time.monotonic() + AMQP_READY_S
    while True:
        try:
            connection = await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{port}/", timeout=2)
            break
        except (OSError, TimeoutError, aio_pika.exceptions.AMQPError):
            assert time.monotonic() < end, "RabbitMQ did not come up"
            await asyncio.sleep(0.3)
    async with connection:
        await (await connection.channel()).declare_queue("orders", durable=True)


@pytest.mark.docker
@pytest.mark.timeout(180)
@pytest.mark.parametrize("whose", ["of the docs", "of compose/queue"])
def test_messages_that_rabbitmq_confirms_are_in_its_queue(whose, rabbit, probe, tmp_path):
    """All that were acknowledged are read back from each site, and are there again for the next who reads.

    Known bad: what the reader of one site had got, that of the other did not see, so half of all writes were lost in each.
    """
    folder = DOCS.parent / "queue" / "rabbitmq"
    own = Python(name="orders_queue:Publish", folder=str(folder), settings={"queue": "its own"})
    how = own if whose == "of compose/queue" else documented("Publish", tmp_path)
    slots = probed(probe, f"http://127.0.0.1:{rabbit}", how, op="write", timeout_s=2.0, within_s=1.0)
    assert {slot.outcome for slot in slots} == {"acked"}
    python = {"class": how.name, "folder": how.folder, "with": how.settings}
    journey = Journey(service="s", python=python, writes=True, ledger={})
    here = {"s": f"http://127.0.0.1:{rabbit}"}
    rows = read_all_sites({"own": journey}, {"a": here, "b": here}, "w", Deadline.after(10))
    assert [(row.site, row.ok, row.error) for row in rows] == [("a", True, None), ("b", True, None)]
    assert all({slot.id for slot in slots} <= {id for id, _ in row.items} for row in rows)


@pytest.mark.docker
async def test_what_rabbitmq_refuses_is_no_write(rabbit, tmp_path, monkeypatch):
    """Known bad: a queue that is not there, for which RabbitMQ confirms; and nobody at the port, so nothing was executed."""
    how = documented("Publish", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__(how.name.partition(":")[0])
    import aio_pika

    nowhere = module.Publish(Place("127.0.0.1", rabbit), {"queue": "nobody has this"})
    with pytest.raises(aio_pika.exceptions.DeliveryError):
        await nowhere.attempt("w-1")
    outcome, why = await module.Publish(Place("127.0.0.1", free_port()), {"queue": "orders"}).attempt("w-1")
    assert outcome == "rejected" and "failed" in why
