"""Ledgers as applications have them: ids without hashes, ids in texts, pages, POST, another service, SQL and Redis."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import asyncpg
import pytest
from real_servers import postgres_server, redis_server

from chaoslab.clock import SYSTEM, Deadline
from chaoslab.history.rows import LedgerRead, Probe
from chaoslab.judge.ledger import ledger_of
from chaoslab.judge.writes import Ids, Reading, Writes
from chaoslab.probe.final_read import read_all_sites
from chaoslab.probe.ledger_items import ItemsReader, NoLedger
from chaoslab.probe.plan import LedgerTarget, Redis, Tcp, target_of
from chaoslab.probe.redis import RedisClient
from chaoslab.spec.stackfile.journey import Journey

IDS = [f"w.j-{n}" for n in range(5)]
SITE = LedgerTarget(site=Redis(command=("PING",)))


def found_in(answer: Any, **ledger: str) -> Any:
    return ItemsReader(LedgerTarget(site=SITE.site, **ledger), "j").items(answer)


@pytest.mark.parametrize(
    ("answer", "ledger", "items"),
    [
        ([{"id": "a", "hash": "h"}, {"id": "b"}], {"items": "@"}, [("a", "h"), ("b", None)]),
        ({"ids": ["a", 7]}, {"items": "ids"}, [("a", None), ("7", None)]),
        ({"by": {"a": "h", "b": None}}, {"items": "by"}, [("a", "h"), ("b", None)]),
        ([["a", "h"], ["b"]], {}, [("a", "h"), ("b", None)]),
        ([], {"items": "@"}, []),
        (
            ["order a.", "no order", "orders b, c."],
            {"items": "@", "pattern": r"\b([a-c])\b"},
            [("a", None), ("b", None), ("c", None)],
        ),
        ("<li>a=1</li><li>b=2</li>", {"pattern": r"<li>(?P<id>\w)=(?P<hash>\w)"}, [("a", "1"), ("b", "2")]),
        ("x-1 y x-2", {"pattern": r"x-\d"}, [("x-1", None), ("x-2", None)]),
    ],
)
def test_ids_are_found_in_many_shapes(answer, ledger, items):
    assert found_in(answer, **ledger) == items


def test_a_next_that_cannot_be_had_is_no_last_page():
    """Known bad: a function of JMESPath that refuses its argument ended the prober."""
    reader = ItemsReader(LedgerTarget(site=SITE.site, items="ids", next="join('', more)"), "j")
    with pytest.raises(NoLedger):
        reader.next_page({"ids": [], "more": None})


@pytest.mark.parametrize(
    ("answer", "ledger"),
    [
        (None, {"items": "@"}),
        ([None], {}),
        ([{"key": 1}], {}),
        (5, {"pattern": "x"}),
        ("ab", {"pattern": "(a)|b"}),  # a match without an id
    ],
)
def test_what_holds_no_ids_is_no_empty_ledger(answer, ledger):
    """Known bad: an error page, or a key that is not there, would read as the loss of everything."""
    with pytest.raises(NoLedger):
        found_in(answer, **ledger)


class Shop(BaseHTTPRequestHandler):
    """Two ids a page; POST wants the writer in its body; /text is a page for people, with the orders of everybody."""

    def do_GET(self) -> None:
        if self.path == "/text":
            self.answer(", ".join(f"order #{id_} (paid)" for id_ in [*IDS, "other-7"]).encode())
            return
        self.answer_page(int(self.path.partition("cursor=")[2] or 0))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["writer"] == "w.j" and self.headers["X-Ledger"] == "yes"
        self.answer_page(int(asked["cursor"] or 0))

    def answer_page(self, at: int) -> None:
        page = {"orders": IDS[at : at + 2], "paging": {"cursor": at + 2 if at + 2 < len(IDS) else None}}
        self.answer(json.dumps(page).encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def read(place: str, url: str, ledger: dict[str, Any], **journey: Any) -> LedgerRead:
    """As the engine reads it at the end, from one site."""
    sent = journey or {"request": {"method": "POST", "path": "/orders", "json": {"id": "{id}"}}}
    spec = Journey(service="shop", ledger=ledger, **sent)
    [row] = read_all_sites({"j": spec}, {"a": {place: url}}, "w", Deadline.after(5.0))
    assert row.ok, row.error
    return row


@pytest.mark.parametrize(
    "ledger",
    [
        {"path": "/orders?cursor={next}", "items": "orders", "next": "paging.cursor"},
        {
            "method": "POST", "path": "/search", "json": {"writer": "{writer}", "cursor": "{next}"},
            "headers": {"X-Ledger": "yes"}, "items": "orders", "next": "paging.cursor",
        },
        {"local": "/text", "pattern": r"#(\S+)"},
    ],
    ids=["pages", "post", "text"],
)  # fmt: skip
def test_http(shop, ledger):
    """Page behind page, by POST, and out of a text that also shows the orders of others."""
    assert read("shop", shop, ledger).items == [(id_, None) for id_ in IDS]


def test_another_service_is_read_and_the_entry_is_not(shop):
    """`from`: only that service is asked, at the end; a path that only a site has is not read during the run."""
    assert len(read("history", shop, {"local": "/text", "pattern": r"#(\S+)", "from": "history"}).items) == 5
    journey = Journey(service="shop", request={"method": "POST", "path": "/{id}"}, ledger={"local": "/text", "pattern": "x"})
    assert target_of("j", journey).ledger.entry is None
    sql = Journey(service="shop", request={"method": "POST", "path": "/{id}"}, ledger={"sql": "select 1", "from": "db"})
    assert target_of("j", sql).ledger.entry is None


def test_sql_from_the_site_s_own_database(tmp_path):
    """With the writer as a parameter, and with hashes where the statement has them."""
    account = {"user": "postgres", "password": "for-tests-only", "database": "postgres"}

    async def write(port: int) -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=port, **account)
        await connection.executemany(
            "insert into entries values ($1, $2, $3)", [(id_, n, f"h{n}") for n, id_ in enumerate(IDS)]
        )
        await connection.execute("insert into entries values ('other-1', 1, 'h')")
        await connection.close()

    with postgres_server(tmp_path) as running:
        asyncio.run(write(running.port))
        url = f"http://127.0.0.1:{running.port}"
        statement = "select id, hash from entries where id like {writer} || '-%' order by seq"
        row = read("db:5432", url, {"sql": {"statement": statement, **account}, "from": "db:5432"})
        assert row.items == [(id_, f"h{n}") for n, id_ in enumerate(IDS)]
        ids_alone = read("db:5432", url, {"sql": {"statement": "select id from entries", **account}, "from": "db:5432"})
        assert {id_ for id_, _ in ids_alone.items} == {*IDS}


def test_redis(tmp_path):
    """The members of a set; through the entry as well, for a journey of Redis."""
    journey = {"redis": ["SADD", "cart:{writer}", "{id}"]}
    ledger = {"redis": ["SMEMBERS", "cart:{writer}"]}

    async def write(url_port: int) -> None:
        from chaoslab.probe.endpoint import Endpoint

        client = RedisClient(Redis(command=("SADD", "cart:w.j", *IDS)), Endpoint.parse(f"http://127.0.0.1:{url_port}"), SYSTEM)
        assert (await client.exchange({}, timeout_s=2, fresh=True)).value == 5
        client.close()

    with redis_server(tmp_path) as running:
        asyncio.run(write(running.port))
        row = read("shop", f"http://127.0.0.1:{running.port}", ledger, **journey)
    assert sorted(row.items) == [(id_, None) for id_ in IDS]
    assert target_of("j", Journey(service="shop", ledger=ledger, **journey)).ledger.entry == Redis(
        command=("SMEMBERS", "cart:{writer}")
    )


def judged(*items: tuple[str, str | None], sites: str = "ab") -> Any:
    ids = Ids()
    writes = Writes(ids)
    fields = {"t_ns": 0, "journey": "j", "service": "s", "op": "write", "due_ns": 0, "sent_ns": 0, "end_ns": 1, "good": True}
    writes.add([Probe(**fields, outcome="acked", id=id_, writer="w.j", seq=n, hash=f"h{n}") for n, id_ in enumerate(IDS)])
    rows = [
        LedgerRead(
            t_ns=9, journey="j", service="s", writer="w.j", begin_ns=8, end_ns=9, ok=True, site=site, final=True, items=[*items]
        )
        for site in sites
    ]
    return ledger_of(writes, [Reading.of(row, ids) for row in rows], [])


def test_without_hashes_nothing_is_corrupt_and_losses_are_found_all_the_same():
    """Known bad beside it: with a wrong hash the write is corrupt."""
    whole = judged(*((id_, None) for id_ in IDS))
    assert (whole.corrupt, whole.lost, whole.divergent) == (set(), set(), set())
    assert judged(*((id_, None) for id_ in IDS[1:])).lost == {IDS[0]}
    assert judged((IDS[0], "other"), *((id_, None) for id_ in IDS[1:])).corrupt == {IDS[0]}


def test_a_journey_of_tcp_has_no_way_to_be_read_of_its_own():
    assert target_of("j", Journey(service="s", tcp={"send": "x"})).how == Tcp(send="x")
