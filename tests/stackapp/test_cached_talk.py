"""talk with a cache, against a real PostgreSQL and a real Valkey: what it builds and refuses, also without the cache."""

# ruff: noqa: F401, F811 - fixtures come from the tests of the services
from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from aiohttp.test_utils import TestClient
from conftest import APP, PASSWORD, Server, free_port
from test_services import login, record, start
from valkey import Valkey
from valkey.exceptions import ValkeyError

from talk_cached import talk_cached
from talk_unbounded import talk_unbounded

READ = "/talk/messages?limit=20&reader={}"


@pytest.fixture(scope="module")
def cache() -> Iterator[Valkey]:
    """A Valkey as the stack starts it."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "cache_node"], cwd=APP, env={"LISTEN": f"127.0.0.1:{port}"})
    client = Valkey(port=port)
    end = time.monotonic() + 20
    while not answers(client):
        assert time.monotonic() < end, "no Valkey"
        time.sleep(0.02)
    yield client
    client.close()
    server.terminate()
    server.wait(10)


def answers(client: Valkey) -> bool:
    try:
        return bool(client.ping())
    except (ValkeyError, OSError):
        return False


@pytest.fixture(autouse=True)
def costs(cache, monkeypatch) -> None:
    """An empty cache, and pages that cost nothing."""
    cache.flushall()
    monkeypatch.setenv("CACHE", f"127.0.0.1:{cache.connection_pool.connection_kwargs['port']}")
    monkeypatch.setenv("PAGE_DISK_MS", "0")
    monkeypatch.setenv("PAGE_CPU_MS", "0")
    monkeypatch.setenv("PAGES_AT_ONCE", "3")


@contextlib.asynccontextmanager
async def disks_in_use(servers: tuple[Server, Server]) -> AsyncIterator[None]:
    """Meanwhile no database node can build a page."""
    connections = [await asyncpg.connect(f"postgresql://postgres:{PASSWORD}@{server.address}/app") for server in servers]
    for connection in connections:
        await connection.execute("SELECT pg_advisory_lock(1)")
    yield
    for connection in connections:
        await connection.close()


async def statuses(client: TestClient, readers: list[str]) -> Counter[int]:
    """All of them ask at once."""
    answers = await asyncio.gather(*(client.get(READ.format(reader)) for reader in readers))
    return Counter(answer.status for answer in answers)


async def test_a_page_is_kept_for_its_reader_and_for_a_while(login, start, cache, nodes, leader) -> None:
    """What was written since is not on it; a reader who has none gets a new one."""
    nodes(leader.address)
    client, wanted = await start(talk_cached), record()
    before = await (await client.get(READ.format("a"))).json()
    assert (await client.post("/talk/messages", json=wanted)).status == 201
    assert await (await client.get(READ.format("a"))).json() == before
    [key] = cache.keys()
    assert 0 < cache.pttl(key) <= 600_000
    assert 10 < float(cache.get(key).split()[0]) - time.time() <= 45
    assert wanted["id"] in [message["id"] for message in (await (await client.get(READ.format("b"))).json())["messages"]]


async def test_who_would_be_refused_gets_the_page_as_it_was(login, start, cache, servers) -> None:
    """A page that is not fresh any more is built again; where that is not possible, an old page is better than none."""
    client = await start(talk_cached)
    cache.set("page:20:a", b'1.000 ["old"]')
    async with disks_in_use(servers):
        assert await (await client.get(READ.format("a"))).json() == {"messages": ["old"]}
    assert await (await client.get(READ.format("a"))).json() != {"messages": ["old"]}


async def test_many_who_want_one_page_have_it_built_once(login, start, cache, monkeypatch) -> None:
    """Forty at once; if each had it built, most would be refused."""
    monkeypatch.setenv("PAGE_DISK_MS", "50")
    client = await start(talk_cached)
    assert await statuses(client, ["everybody"] * 40) == {200: 40}


async def test_more_pages_than_can_be_built_are_refused_and_writes_are_not(login, start, servers) -> None:
    """A few wait for the disk, all others get 429, and a write is kept meanwhile."""
    client = await start(talk_cached)
    assert (await client.post("/talk/messages", json=record())).status == 201
    async with disks_in_use(servers):
        asked = asyncio.create_task(statuses(client, [f"reader-{number}" for number in range(40)]))
        written = (await client.post("/talk/messages", json=record())).status
        seen = await asked
    assert written == 201
    assert seen.keys() == {429, 503}
    assert seen[429] > seen[503]


async def test_without_limits_nobody_is_refused_and_nobody_is_served(login, start, cache, servers) -> None:
    """Known bad: what the database does not answer in time is a 503, and is not kept, so the cache stays as it was."""
    client = await start(talk_unbounded)
    async with disks_in_use(servers):
        assert await statuses(client, [f"reader-{number}" for number in range(40)]) == {503: 40}
    assert cache.dbsize() == 0


async def test_without_a_cache_pages_come_from_the_database(login, start, monkeypatch) -> None:
    """As with an empty one."""
    monkeypatch.setenv("CACHE", f"127.0.0.1:{free_port()}")
    client = await start(talk_cached)
    assert await statuses(client, ["a"]) == {200: 1}


async def test_a_page_costs_processor_time_as_declared(login, start, monkeypatch) -> None:
    """However fast the machine is."""
    monkeypatch.setenv("PAGE_CPU_MS", "200")
    client = await start(talk_cached)
    before_s = time.process_time()
    assert await statuses(client, ["a"]) == {200: 1}
    assert time.process_time() - before_s >= 0.2
    before_s = time.process_time()
    assert await statuses(client, ["a"]) == {200: 1}, "from the cache"
    assert time.process_time() - before_s < 0.2
