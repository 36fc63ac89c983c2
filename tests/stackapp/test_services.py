"""The services against a real leader and a real standby: what they acknowledge is kept, what they cannot do they say."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import signal
import time
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from conftest import PASSWORD

from auth import auth
from connections import Pool
from partner import partner
from pay import pay
from pay_ack_first import pay_ack_first
from pay_retry_storm import pay_retry_storm
from pay_trusts_local_leader import LocalLeaderFirst
from pay_waits_for_login import pay_waits_for_login
from pay_waits_for_partner import pay_waits_for_partner
from postgres import Database, Node
from talk import talk

Start = Callable[..., "asyncio.Future[TestClient]"]
DEMO = {"Authorization": "Bearer demo"}
WRITERS = (f"writer{number}" for number in itertools.count())
GONE = "127.0.0.1:9"  # nobody listens there


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Serve an application on a free port; waits until it is ready, unless told not to."""
    clients: list[TestClient] = []

    async def serve(make: Callable[[], web.Application], *, wait_for: str | None = "write") -> TestClient:
        client: TestClient = TestClient(TestServer(make()), headers=DEMO)
        clients.append(client)
        await client.start_server()
        while wait_for and (await client.get(f"/ready?for={wait_for}")).status != 200:
            await asyncio.sleep(0.02)
        return client

    yield serve
    for client in reversed(clients):
        await client.close()


@pytest.fixture
async def login(start, leader, standby, nodes, monkeypatch) -> TestClient:
    """A running auth, which the services that are started next will ask."""
    nodes(standby.address, leader.address)
    client = await start(auth)
    monkeypatch.setenv("AUTH_URL", str(client.make_url("")))
    return client


def record(seq: int = 1, **changes: object) -> dict[str, object]:
    writer = next(WRITERS)
    return {"id": f"{writer}-{seq}", "writer": writer, "seq": seq, "payload": "Grüße", **changes}


@pytest.mark.parametrize(("make", "path"), [(auth, "/auth/sessions"), (talk, "/talk/messages"), (pay, "/pay/entries")])
async def test_a_write_is_kept_once_and_read_back_with_its_hash(login, start, make, path) -> None:
    """Asking twice with one id gives the same answer, one row, and the hash of what is stored."""
    client, wanted = await start(make), record()
    answers = [await client.post(path, json=wanted) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    read = await (await client.get(f"{path}?writer={wanted['writer']}&after=0")).json()
    digest = hashlib.sha256("Grüße".encode()).hexdigest()
    assert read == {"entries": [{"id": wanted["id"], "hash": digest}]}
    assert (await answers[1].json())["hash"] == digest
    assert await (await client.get(f"{path}?writer={wanted['writer']}&after=1")).json() == {"entries": []}


@pytest.mark.parametrize(("make", "path"), [(auth, "/auth/sessions"), (talk, "/talk/messages"), (pay, "/pay/entries")])
async def test_an_id_cannot_be_taken_twice(login, start, make, path) -> None:
    """Another payload under a known id is refused with 409, and what was stored stays."""
    client, wanted = await start(make), record()
    await client.post(path, json=wanted)
    assert (await client.post(path, json={**wanted, "payload": "other"})).status == 409
    read = await (await client.get(f"{path}?writer={wanted['writer']}")).json()
    assert read["entries"][0]["hash"] == hashlib.sha256("Grüße".encode()).hexdigest()


@pytest.mark.parametrize(
    "changes", [{"id": ""}, {"id": 7}, {"seq": "1"}, {"seq": -1}, {"seq": True}, {"payload": "a\0b"}, {"writer": "x" * 5000}]
)
async def test_nonsense_is_refused(login, changes) -> None:
    """A record that is none gets 400 before the database hears of it."""
    assert (await login.post("/auth/sessions", json=record(**changes))).status == 400


@pytest.mark.parametrize(
    "changes", [{"amount": 0}, {"amount": 1.5}, {"from": "a", "to": "a"}, {"to": ""}, {"from": ["a"]}, {"amount": 10**9}]
)
async def test_money_does_not_appear_from_nothing(login, start, changes) -> None:
    """A transfer of no whole, positive amount between two accounts is refused."""
    assert (await (await start(pay)).post("/pay/entries", json=record(**changes))).status == 400


async def test_the_books_balance(login, start) -> None:
    """What one account gives another receives, once, however often the transfer is asked for."""
    client, writer = await start(pay), next(WRITERS)
    transfer = record(**{"from": f"{writer}-a", "to": f"{writer}-b", "amount": 40})
    for _ in range(3):
        assert (await client.post("/pay/entries", json=transfer)).status == 201
    balances = [(await (await client.get(f"/pay/balance?account={writer}-{end}")).json())["balance"] for end in "ab"]
    assert balances == [-40, 40]


async def test_a_standby_is_not_written_to(start, standby, nodes) -> None:
    """With a standby alone, a write gets 429, which proves that nothing was done, and the replica is ready for reads only."""
    nodes(standby.address)
    client = await start(auth, wait_for="read")
    assert (await client.get("/ready?for=write")).status == 503
    assert (await client.post("/auth/sessions", json=record())).status == 429
    assert (await client.get("/auth/sessions/demo")).status == 200


async def test_the_own_sites_node_answers_local_reads(start, leader, standby, nodes) -> None:
    """`local=1` is answered by the first node and no other: this standby gets nothing new, so it shows nothing."""
    nodes(standby.address, leader.address)
    client, wanted = await start(auth), record()
    await client.post("/auth/sessions", json=wanted)
    url = f"/auth/sessions?writer={wanted['writer']}"
    assert len((await (await client.get(url)).json())["entries"]) == 1
    assert (await (await client.get(f"{url}&local=1")).json())["entries"] == []


async def test_a_frozen_leader_costs_a_bounded_time_and_no_false_promise(start, leader, nodes) -> None:
    """A write to a leader that hangs ends within its time, unknown or not tried; after it thaws, writes go through."""
    nodes(leader.address)
    client = await start(auth)
    await client.post("/auth/sessions", json=record())
    leader.signal_all(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert (await client.post("/auth/sessions", json=record())).status == 503
        assert time.monotonic() - begun < 1.5
        while (await client.get("/ready?for=write")).status == 200:
            await asyncio.sleep(0.05)
        assert (await client.post("/auth/sessions", json=record())).status == 429
    finally:
        leader.signal_all(signal.SIGCONT)
    while (await client.get("/ready?for=write")).status != 200:
        await asyncio.sleep(0.05)
    assert (await client.post("/auth/sessions", json=record())).status == 201


async def test_reads_go_on_at_another_node(start, leader, nodes) -> None:
    """A dead node of the own site does not keep a session from being checked."""
    nodes(GONE, leader.address)
    assert (await (await start(auth)).get("/auth/sessions/demo")).status == 200


@pytest.mark.parametrize(("make", "path"), [(talk, "/talk/messages"), (pay, "/pay/balance")])
async def test_strangers_stay_out(login, start, make, path) -> None:
    """Without a token, or with one that auth does not know, there is nothing to see."""
    client = await start(make)
    assert (await client.get(path, headers={"Authorization": "Bearer nobody"})).status == 401
    assert (await client.get(path, headers={"Authorization": "demo"})).status == 401
    assert (await client.get(path)).status == 200


@pytest.mark.parametrize(("make", "path"), [(talk, "/talk/messages"), (pay, "/pay/entries")])
async def test_who_is_logged_in_needs_no_auth(login, start, make, path) -> None:
    """With auth gone, whom it has confirmed before goes on writing; about a stranger nothing can be told."""
    client = await start(make)
    await client.get(f"{path}?writer=nobody")
    await login.close()
    assert (await client.post(path, json=record())).status == 201
    assert (await client.post(path, json=record(), headers={"Authorization": "Bearer nobody"})).status == 429


async def test_partner_goes_down_with_our_login(login, start) -> None:
    """partner asks auth every time, so without auth it signs nobody in, and says that it is not ready."""
    client = await start(partner)
    assert (await client.post("/partner/signins", json=record())).status == 201
    assert (await client.get("/partner/page")).status == 200
    assert (await client.get("/partner/page", headers={"Authorization": "Bearer nobody"})).status == 401
    await login.close()
    assert (await client.post("/partner/signins", json=record())).status == 429
    while (await client.get("/ready")).status == 200:
        await asyncio.sleep(0.05)


async def test_known_bad_pay_acknowledges_what_nobody_has_written(login, start, nodes) -> None:
    """The known-bad pay says 201 with no database at all; the real one never does."""
    nodes(GONE)
    bad, good = await start(pay_ack_first, wait_for=None), await start(pay, wait_for=None)
    assert (await bad.post("/pay/entries", json=record())).status == 201
    assert (await good.post("/pay/entries", json=record())).status == 429


async def test_known_bad_pay_does_not_give_up_soon(login, start, nodes) -> None:
    """Where the real pay says that it could not, the known-bad one is still asking."""
    nodes(GONE)
    bad, good = await start(pay_retry_storm, wait_for=None), await start(pay, wait_for=None)
    assert (await good.post("/pay/entries", json=record())).status == 429
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await bad.post("/pay/entries", json=record())


async def test_known_bad_pay_is_as_good_as_the_other_while_all_is_well(login, start) -> None:
    """Or its steady state would not hold, and nothing would be shown."""
    pay_client = await start(pay_retry_storm)
    assert (await pay_client.post("/pay/entries", json=record())).status == 201


async def test_known_bad_pay_fails_with_the_third_party(login, start, monkeypatch) -> None:
    """As good as the other while the partner can ask our login, and refused once it cannot."""
    partner_client = await start(partner)
    monkeypatch.setenv("PARTNER_URL", str(partner_client.make_url("")).rstrip("/"))
    bad, good = await start(pay_waits_for_partner), await start(pay)
    assert (await bad.post("/pay/entries", json=record())).status == 201
    assert (await good.post("/pay/entries", json=record())).status == 201  # both know the visitor now
    await login.close()
    assert (await bad.post("/pay/entries", json=record())).status == 429
    assert (await good.post("/pay/entries", json=record())).status == 201


async def test_known_bad_pay_fails_with_login(login, start) -> None:
    """As good as the other while login answers; then it refuses transfers of a visitor whom the other knows, and no reads."""
    bad, good = await start(pay_waits_for_login), await start(pay)
    assert (await bad.post("/pay/entries", json=record())).status == 201
    assert (await good.post("/pay/entries", json=record())).status == 201  # both know the visitor now
    await login.close()
    assert (await bad.post("/pay/entries", json=record())).status == 429
    assert (await bad.get("/pay/balance")).status == 200
    assert (await good.post("/pay/entries", json=record())).status == 201


def test_known_bad_pay_believes_a_leader_of_the_past() -> None:
    """Of two that claim to lead, the real one takes the one that was promoted later."""
    near, far = (Node(Pool(GONE, user="app", password=PASSWORD, database="app")) for _ in range(2))
    near.role, far.role = 1, 2
    assert Database([near, far]).leader is far
    assert LocalLeaderFirst([near, far]).leader is near
