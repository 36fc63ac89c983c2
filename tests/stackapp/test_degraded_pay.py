"""pay with a queue, against a real leader and a real standby: what it acknowledges with 202 it applies, once."""

# ruff: noqa: F401, F811 - fixtures come from the tests of the services
from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from test_services import login, record, start

from pay_queues import DurableQueue, Queue, pay_queues
from pay_queues_in_memory import InMemoryQueue

ENTRIES = "/pay/entries"
MakeQueue = Callable[[], Queue]


@pytest.fixture
def durable(tmp_path: Path) -> MakeQueue:
    """The queue of one replica, opened again and again."""
    return lambda: DurableQueue(tmp_path / "queue.sqlite")


def service(make_queue: MakeQueue) -> Callable[[], web.Application]:
    return lambda: pay_queues(make_queue())


async def stored(client: TestClient, writer: object) -> list[str]:
    """The ids that the database has of a writer."""
    read = await (await client.get(f"{ENTRIES}?writer={writer}")).json()
    return [entry["id"] for entry in read["entries"]]


async def applied(client: TestClient, writer: object, count: int) -> list[str]:
    """Wait until the database has that many."""
    async with asyncio.timeout(10):
        while len(ids := await stored(client, writer)) < count:
            await asyncio.sleep(0.05)
    return ids


async def test_with_a_leader_nothing_is_queued(login, start, durable) -> None:
    """It answers as pay does."""
    client, wanted = await start(service(durable), wait_for="read"), record()
    await asyncio.sleep(0.5)  # until the queue was seen to be empty
    assert [(await client.post(ENTRIES, json=wanted)).status for _ in range(2)] == [201, 201]
    assert (await client.post(ENTRIES, json={**wanted, "payload": "other"})).status == 409
    assert durable().first() is None


async def test_without_a_leader_transfers_wait_on_disk_and_are_applied_once(
    login,
    start,
    durable,
    nodes,
    standby,
    leader,
) -> None:
    """Also over a restart in between, and where the client has asked twice. Nobody can take an id that waits."""
    nodes(standby.address)
    first = await start(service(durable))
    assert (await first.get("/ready?for=read")).status == 503  # balances are not read from what may be behind
    one = record(1)
    two = {**record(2), "writer": one["writer"]}
    assert [(await first.post(ENTRIES, json=wanted)).status for wanted in (one, one, two)] == [202, 202, 202]
    assert (await first.post(ENTRIES, json={**one, "payload": "other"})).status == 409
    await first.close()
    nodes(standby.address, leader.address)
    again = await start(service(durable), wait_for="read")
    assert await applied(again, one["writer"], 2) == [one["id"], two["id"]]
    assert durable().first() is None


@pytest.mark.parametrize(("payload", "set_aside"), [("Grüße", 0), ("other", 1)])
async def test_what_waits_and_was_applied_already_is_applied_once(
    login,
    start,
    durable,
    tmp_path,
    payload,
    set_aside,
) -> None:
    """As when the answer of the database was lost: it is applied again under its id. One whose id was taken is set aside."""
    client = await start(service(durable), wait_for="read")
    wanted = record(**{"from": "customer-1", "to": "merchant", "amount": 5})
    await asyncio.sleep(0.5)
    assert (await client.post(ENTRIES, json=wanted)).status == 201
    await client.close()
    terms: list[Any] = [wanted["id"], wanted["writer"], wanted["seq"], payload, "customer-1", "merchant", 5]
    assert durable().put(str(wanted["id"]), terms)
    again = await start(service(durable), wait_for="read")
    async with asyncio.timeout(10):
        while durable().first() is not None:
            await asyncio.sleep(0.05)
    assert await stored(again, wanted["writer"]) == [wanted["id"]]
    with sqlite3.connect(tmp_path / "queue.sqlite") as file:
        assert file.execute("SELECT count(*) FROM queue").fetchone() == (set_aside,)


async def test_a_queue_in_memory_forgets(login, start, nodes, standby, leader) -> None:
    """Known bad: a restart destroys what was acknowledged."""
    nodes(standby.address)
    first, wanted = await start(service(InMemoryQueue)), record()
    assert (await first.post(ENTRIES, json=wanted)).status == 202
    await first.close()
    nodes(standby.address, leader.address)
    again = await start(service(InMemoryQueue), wait_for="read")
    await asyncio.sleep(0.5)
    assert await stored(again, wanted["writer"]) == []
