"""Requests wait while the leader of the database hands over to another node; not when it is lost, or nobody could follow."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from auth import auth
from partner import partner
from postgres import HANDOVER_S
from web_service import database

if TYPE_CHECKING:
    from conftest import Server

DEMO = {"Authorization": "Bearer demo"}
CHECK = "/auth/sessions/demo"


@pytest.fixture
async def restarted(leader: Server) -> AsyncIterator[Callable[[], None]]:
    """Start the leader again, which a test has stopped; done at its end in any case."""

    def start() -> None:
        if leader.process is not None and leader.process.poll() is not None:
            leader.start()

    yield start
    start()


@pytest.fixture
async def client(leader: Server, standby: Server, nodes, monkeypatch) -> AsyncIterator[TestClient]:
    """Sessions that know a leader, and a standby that might follow it."""
    nodes(leader.address, standby.address)
    known = database()
    monkeypatch.setattr("auth.database", lambda: known)
    async for made in served(auth):
        while any(node.role is None for node in known.nodes):
            await asyncio.sleep(0.02)
        yield made


async def served(make: Callable[[], web.Application]) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(make()), headers=DEMO) as made:
        while (await made.get("/ready?for=write")).status != 200:
            await asyncio.sleep(0.02)
        yield made


def record(id_: str) -> dict[str, object]:
    return {"id": id_, "writer": f"{id_}-writer", "seq": 1, "payload": "Grüße"}


async def post(client: TestClient, wanted: dict[str, object]) -> int:
    async with client.post("/auth/sessions", json=wanted) as answer:
        return answer.status


async def test_writes_wait_for_the_node_that_follows(client, leader, restarted) -> None:
    """The leader shuts down and comes back; meanwhile the replica stays ready. Known bad: the write was refused at once."""
    await asyncio.to_thread(leader.stop)
    writing = asyncio.ensure_future(post(client, record("waits")))
    await asyncio.sleep(0.7)  # until the leader's end is known in any case
    assert not writing.done()
    assert (await client.get("/ready?for=write")).status == 200
    await asyncio.to_thread(restarted)
    assert await writing == 201


async def test_a_write_that_lost_its_answer_is_repeated_and_kept_once(client, leader, restarted) -> None:
    """It was under way when the leader shut down, so it may have been executed: its id says whether it was."""
    wanted = record("repeated")
    host, _, port = leader.address.rpartition(":")
    password = os.environ["DATABASE_PASSWORD"]
    blocker = await asyncpg.connect(host=host, port=int(port), user="app", password=password, database="app", ssl=False)
    await blocker.execute("BEGIN; LOCK TABLE sessions IN SHARE MODE")
    writing = asyncio.ensure_future(post(client, wanted))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(leader.stop)
    blocker.terminate()
    await asyncio.to_thread(restarted)
    assert await writing == 201
    async with client.get(f"/auth/sessions?writer={wanted['writer']}") as answer:
        assert [entry["id"] for entry in (await answer.json())["entries"]] == ["repeated"]


async def test_reads_go_on_at_the_standby(client, leader, restarted, monkeypatch) -> None:
    """A read does not wait for a leader that shut down. The time for one node is longer than any pause of a busy machine."""
    monkeypatch.setattr("postgres.ANYWHERE_S", 2.0)
    await asyncio.to_thread(leader.stop)
    begun = time.monotonic()
    assert (await client.get(CHECK)).status == 200
    assert time.monotonic() - begun < HANDOVER_S


async def test_a_question_that_auth_could_not_answer_is_asked_again(monkeypatch) -> None:
    """Asking changes nothing. Known bad: one answer that was lost with a database node failed a visitor of the partner."""
    answers = [429, 429, 200]

    async def check(_: web.Request) -> web.Response:
        return web.Response(status=answers.pop(0))

    login = web.Application()
    login.router.add_get("/auth/sessions/{id}", check)
    async with TestServer(login) as asked:
        monkeypatch.setenv("AUTH_URL", str(asked.make_url("")))
        async with TestClient(TestServer(partner()), headers=DEMO) as visitor:
            assert (await visitor.get("/partner/page")).status == 200
            answers += [429] * 9
            assert (await visitor.get("/partner/page")).status == 429


async def test_waiting_ends(leader, standby, nodes, restarted, monkeypatch) -> None:
    """Nobody follows: in the end the write is refused, with the proof that nothing was done, and the replica is not ready."""
    monkeypatch.setenv("HANDOVER_S", "0.5")
    nodes(leader.address, standby.address)
    async for made in served(auth):
        await asyncio.to_thread(leader.stop)
        begun = time.monotonic()
        assert await post(made, record("late")) == 429
        assert time.monotonic() - begun < 2.0
        while (await made.get("/ready?for=write")).status != 503:
            await asyncio.sleep(0.02)


async def test_who_is_told_not_to_wait_refuses_at_once(leader, standby, nodes, restarted, monkeypatch) -> None:
    """As in the known-bad stack."""
    monkeypatch.setenv("HANDOVER_S", "0")
    nodes(leader.address, standby.address)
    async for made in served(auth):
        await asyncio.to_thread(leader.stop)
        begun = time.monotonic()
        assert await post(made, record("refused")) in (429, 503)
        assert time.monotonic() - begun < 1.0


async def test_nobody_waits_for_a_leader_that_is_lost(client, leader) -> None:
    """It is silent, as after a fire: a write ends as ever, unknown or not tried, and the replica is soon not ready."""
    leader.signal_all(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert await post(client, record("lost")) == 503
        assert time.monotonic() - begun < 1.5
        while (await client.get("/ready?for=write")).status == 200:
            await asyncio.sleep(0.05)
        begun = time.monotonic()
        assert await post(client, record("lost-too")) == 429
        assert time.monotonic() - begun < 0.5
    finally:
        leader.signal_all(signal.SIGCONT)


async def test_a_leader_that_nobody_could_follow_is_not_waited_for(leader, nodes, restarted) -> None:
    """With no other node in sight there is no handover."""
    nodes(leader.address)
    async for made in served(auth):
        await asyncio.to_thread(leader.stop)
        begun = time.monotonic()
        assert await post(made, record("alone")) in (429, 503)
        assert time.monotonic() - begun < 1.5
