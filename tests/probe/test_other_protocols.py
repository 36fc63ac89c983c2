"""Slots over TCP, Redis and SQL against real servers: what each outcome means, and that nothing waits longer than it may."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator

import pytest
from real_servers import Running, free_port, postgres_server, redis_server, tcp_server

from chaoslab.clock import SYSTEM
from chaoslab.errors import SpecError
from chaoslab.probe.assessment import Assessment
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.plan import EntryTarget, How, Redis, Sql, Target, Tcp
from chaoslab.probe.senders import sender_of

INSERT = "insert into entries (id, seq, hash) values ({id}, {seq}, {hash})"
ACCOUNT = {"user": "postgres", "password": "for-tests-only", "database": "postgres"}
APP = {"user": "app", "password": "for-tests-only"}
LEFT_S = 0.3


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[Running]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> Iterator[Running]:
    with postgres_server(tmp_path_factory.mktemp("postgres")) as running:
        yield running


async def slots(port: int, how: How, count: int = 1, *, first: int = 0, **changes) -> list[tuple[Exchange, Assessment]]:
    """Slots one after the other, on new and reused connections in turn."""
    target = Target(**{"name": "j", "service": "s", "op": "write", "how": how, "timeout_s": LEFT_S, "within_s": 0.25} | changes)
    sender = sender_of(target, Endpoint.parse(f"http://127.0.0.1:{port}"), "w.j", lambda *_: None, SYSTEM)
    found = []
    try:
        for slot in range(first, first + count):
            due_ns = SYSTEM.now_ns()
            exchange = await sender.send(slot, fresh=slot % 2 == 0, left_s=LEFT_S)
            found.append((exchange, sender.assess(exchange, due_ns)))
    finally:
        sender.close()
    return found


async def one(port: int, how: How, **changes) -> Assessment:
    return (await slots(port, how, **changes))[0][1]


PING = Tcp(send="PING {id}\n", expect=r"^\+PONG PING w\.j-\d+")


async def test_tcp_sends_and_expects(tmp_path):
    """Half of the slots reuse a connection; the id is in what is sent."""
    with tcp_server(tmp_path, "ok") as port:
        found = await slots(port, PING, 4)
    assert [(exchange.pooled, said.good, said.outcome) for exchange, said in found] == [
        (False, True, "acked"),
        (False, True, "acked"),
        (False, True, "acked"),
        (True, True, "acked"),
    ]


@pytest.mark.parametrize(
    ("mode", "outcome", "error"),
    [
        ("wrong", "indeterminate", "not as expected: '-ERR"),
        ("cut", "indeterminate", "not as expected: '+PO'"),
        ("silent", "indeterminate", "timeout: no answer"),
        ("slow", "indeterminate", "timeout: no answer"),
    ],
)
async def test_tcp_known_bad(tmp_path, mode, outcome, error):
    """Wrong, cut short, silent, and too slow: bad, and none of them proves that nothing was done."""
    with tcp_server(tmp_path, mode) as port:
        began = time.monotonic()
        found = await one(port, PING)
    assert time.monotonic() - began < LEFT_S + 0.5
    assert (found.good, found.outcome) == (False, outcome)
    assert error in found.error


async def test_tcp_where_the_server_speaks_first(tmp_path):
    """Known bad of reuse: the greeting comes once, so each slot has a connection of its own."""
    with tcp_server(tmp_path, "greets") as port:
        found = await slots(port, Tcp(expect="^220 "), 3, op="read")
    assert [(exchange.pooled, said.outcome) for exchange, said in found] == [(False, "ok")] * 3


@pytest.mark.parametrize(
    "how", [PING, Tcp(), Redis(command=("PING",)), Sql(statement="select 1"), Sql(statement="select 1", driver="psycopg")]
)
async def test_refused_is_rejected(how):
    """Nothing listens: proof that nothing was executed, in each protocol."""
    found = await one(free_port(), how)
    assert (found.good, found.outcome) == (False, "rejected")
    assert "refused" in found.error.lower()


async def test_redis_writes_and_reads(redis):
    """A reply is an answer, and `expect` looks at it; fresh and reused connections do the same."""
    add = Redis(command=("RPUSH", "list:{writer}", "{id}"))
    found = await slots(redis.port, add, 4)
    assert [said.outcome for _, said in found] == ["acked"] * 4
    assert [exchange.value for exchange, _ in found] == [1, 2, 3, 4]
    read = Redis(command=("LRANGE", "list:w.j", "0", "-1"))
    [(exchange, said)] = await slots(redis.port, read, op="read", expect="length(@) == `4`")
    assert (said.good, exchange.value) == (True, [f"w.j-{n}" for n in range(4)])


async def test_redis_known_bad(redis):
    """An error reply is an answer that is not good; only what the stack declares proves that nothing was executed."""
    wrong = Redis(command=("LPUSH", "text", "x"))
    await one(redis.port, Redis(command=("SET", "text", "x")))
    assert await one(redis.port, wrong) == Assessment(
        False, "indeterminate", "WRONGTYPE Operation against a key holding the wrong kind of value"
    )
    assert (await one(redis.port, wrong, not_applied=("WRONGTYPE",))).outcome == "rejected"
    unexpected = await one(redis.port, Redis(command=("GET", "nothing")), op="read", expect="@ == 'x'")
    assert unexpected == Assessment(False, "bad", "not as expected")


async def test_an_error_within_a_reply_of_redis_leaves_nothing_for_the_next_slot(redis):
    """Known bad: the rest of the reply was the good answer of the slot that reused the connection."""
    script = "return {redis.error_reply('ERR first'), 'rest'}"
    found = await slots(redis.port, Redis(command=("EVAL", script, "0")), 4, op="read", expect="@ == 'rest'")
    assert [said.good for _, said in found] == [False] * 4


async def test_redis_logs_in(redis):
    """As a user, in a database; a wrong password is refused before anything was sent."""
    inside = Redis(command=("SET", "k", "{id}"), **APP, database=3)
    assert (await one(redis.port, inside)).outcome == "acked"
    assert [exchange.value for exchange, _ in await slots(redis.port, Redis(command=("EXISTS", "k")), op="read")] == [0]
    wrong = await one(redis.port, Redis(command=("SET", "k", "v"), **APP | {"password": "nonsense"}))
    assert wrong.outcome == "rejected" and "WRONGPASS" in wrong.error


async def test_a_frozen_redis_is_cut_and_indeterminate(redis):
    """^Z of the server: it accepts connections, and never answers."""
    redis.freeze()
    try:
        began = time.monotonic()
        found = await slots(redis.port, Redis(command=("SET", "k", "{id}")), 2)
        assert time.monotonic() - began < 2 * LEFT_S + 0.5
    finally:
        redis.thaw()
    assert {(said.outcome, said.error) for _, said in found} == {("indeterminate", "timeout: no answer")}


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_sql_writes_and_reads(postgres, driver):
    """What fills a placeholder is a parameter, never a part of the statement; rows are objects."""
    first = 0 if driver == "asyncpg" else 100
    found = await slots(postgres.port, Sql(statement=INSERT, driver=driver, **ACCOUNT), 4, first=first, within_s=0.3)
    assert [said.outcome for _, said in found] == ["acked"] * 4
    assert [exchange.pooled for exchange, _ in found] == [False, False, False, True]
    read = Sql(statement="select id, seq from entries where id = {id} and id not like '100%'", driver=driver, **ACCOUNT)
    [(exchange, said)] = await slots(postgres.port, read, first=first, op="read", expect="[0].seq >= `0`")
    assert (said.outcome, exchange.value) == ("ok", [{"id": f"w.j-{first}", "seq": first}])


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_sql_known_bad(postgres, driver):
    """A statement that fails is rolled back, which only the stack's declaration makes a proof; a wrong password is one."""
    twice = Sql(statement="insert into entries (id) values ('twice'), ('twice')", driver=driver, **ACCOUNT)
    found = await one(postgres.port, twice)
    assert (found.good, found.outcome) == (False, "indeterminate")
    assert found.error.startswith("23505: ")
    assert (await one(postgres.port, twice, not_applied=("23505",))).outcome == "rejected"
    wrong = Sql(statement="select 1", driver=driver, **ACCOUNT | {"password": "nonsense"})
    assert (await one(postgres.port, wrong)).outcome == "rejected"


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_slow_sql_is_cut_without_waiting_for_the_driver(postgres, driver):
    """Known bad: a driver that is cancelled first asks the server to cancel, and waits for that."""
    began = time.monotonic()
    found = await one(postgres.port, Sql(statement="select pg_sleep(3)", driver=driver, **ACCOUNT))
    assert time.monotonic() - began < LEFT_S + 0.5
    assert (found.good, found.outcome, found.error) == (False, "indeterminate", "timeout: no answer")
    await asyncio.sleep(0)


async def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    """With what to install."""
    monkeypatch.setitem(__import__("sys").modules, "asyncpg", None)
    with pytest.raises(SpecError, match="asyncpg is not installed") as missing:
        await one(1, Sql(statement="select 1"))
    assert "pip install asyncpg" in str(missing.value.cure)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, to make a certificate")
async def test_sql_through_an_entry_with_tls(postgres, tmp_path):
    """A proxy ends TLS before the server, as a pooler does. The certificate has to name the entry, not our address."""
    key, made = tmp_path / "key.pem", tmp_path / "made.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=db.test", "-addext", "subjectAltName=DNS:db.test"]
    command = ["openssl", "req", *kind, *subject, "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # the request for TLS
        writer.write(b"S")
        with contextlib.suppress(OSError):
            await writer.start_tls(context)
            back, forth = await asyncio.open_connection("127.0.0.1", postgres.port)
            await asyncio.gather(pipe(reader, forth), pipe(back, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    errors = []
    for name in ("db.test", "other.test"):
        endpoint = Endpoint.of(EntryTarget(url=url, ca=str(made), server_name=name))
        target = Target(name="j", service="s", op="read", how=Sql(statement="select 1", **ACCOUNT))
        sender = sender_of(target, endpoint, "w.j", lambda *_: None, SYSTEM)
        exchange = await sender.send(0, fresh=True, left_s=2.0)
        sender.close()
        errors.append(exchange.error)
    server.close()
    assert errors[0] is None
    assert "certificate" in errors[1] and "other.test" in errors[1]
