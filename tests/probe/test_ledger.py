"""The final read of the ledger, from every site."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
import urllib.request
from collections.abc import Callable

from fake_loop import run_on

from chaoslab.clock import NS_PER_S, Deadline, FakeClock
from chaoslab.history.rows import LedgerRead
from chaoslab.probe.final_read import read_all_sites, settle
from chaoslab.probe.payload import hash_of, payload_of
from chaoslab.spec.stackfile.journey import Journey

JOURNEY = Journey(
    service="shop",
    request={"method": "POST", "path": "/entries", "json": {"id": "{id}"}},
    ledger={"path": "/entries?writer={writer}&after={after}", "items": "entries[].{id: id, hash: hash}"},
)
WRITER = "w.shop.write"


def write(url: str, *sequences: int) -> None:
    for seq in sequences:
        id_ = f"{WRITER}-{seq}"
        body = json.dumps({"id": id_, "writer": WRITER, "seq": seq, "payload": payload_of(id_)}).encode()
        ask = urllib.request.Request(f"{url}/entries", body, method="POST")  # noqa: S310
        urllib.request.urlopen(ask, timeout=5).read()  # noqa: S310


def read(addresses: dict[str, str], timeout_s: float = 8.0):
    sites = {site: {"shop": url} for site, url in addresses.items()}
    return read_all_sites({"shop.write": JOURNEY}, sites, "w", Deadline.after(timeout_s))


def test_sites_that_agree_are_settled_at_once(serve):
    """Twice identical is enough; hashes are those that the service computed from what it stored."""
    servers = {"a": serve(), "b": serve()}
    for server in servers.values():
        write(server.url, *range(30))
    began = time.monotonic()
    rows = read({site: server.url for site, server in servers.items()})
    assert time.monotonic() - began < 2.0
    assert [(row.site, row.final, row.ok, row.after_seq, row.writer) for row in rows] == [
        ("a", True, True, -1, WRITER),
        ("b", True, True, -1, WRITER),
    ]
    assert all(sorted(row.items) == sorted(rows[0].items) and len(row.items) == 30 for row in rows)
    assert rows[0].items[0][1] == hash_of(payload_of(rows[0].items[0][0]))
    assert rows[0].items[0][1] == hashlib.sha256(payload_of(f"{WRITER}-0").encode()).hexdigest()


def test_a_service_that_answers_in_pages_is_read_to_its_end(serve):
    server = serve(page=7)
    write(server.url, *range(30))
    [row] = read({"a": server.url})
    assert sorted(row.items) == sorted((f"{WRITER}-{n}", hash_of(payload_of(f"{WRITER}-{n}"))) for n in range(30))


def test_a_ledger_that_forgets_is_seen_to(serve):
    """Known bad: every third write was acknowledged and is not there."""
    server = serve(lose_every=3)
    write(server.url, *range(12))
    [row] = read({"a": server.url})
    assert {id_ for id_, _ in row.items} == {f"{WRITER}-{seq}" for seq in range(12) if seq % 3}


def test_sites_that_differ_get_time_and_then_differ(serve):
    """Two copies that never come together are read as they are, before the deadline."""
    servers = {"a": serve(), "b": serve()}
    write(servers["a"].url, 1, 2)
    write(servers["b"].url, 1)
    began = time.monotonic()
    first, second = read({site: server.url for site, server in servers.items()}, timeout_s=15)
    assert 3.0 <= time.monotonic() - began < 8.0
    assert (len(first.items), len(second.items)) == (2, 1)


def test_a_site_that_lags_is_waited_for(serve):
    servers = {"a": serve(), "b": serve()}
    write(servers["a"].url, 1, 2)
    write(servers["b"].url, 1)
    late = threading.Timer(1.0, write, (servers["b"].url, 2))
    late.start()
    rows = read({site: server.url for site, server in servers.items()}, timeout_s=15)
    late.join()
    assert [len(row.items) for row in rows if row.final] == [2, 2]


def test_a_site_that_cannot_be_read_is_a_row_with_an_error(serve):
    """Unread is not empty."""
    server = serve()
    write(server.url, 1)
    rows = read({"a": server.url, "b": "http://127.0.0.1:1"}, timeout_s=1.0)
    assert [(row.site, row.ok, row.final, row.error) for row in rows] == [
        ("a", True, True, None),
        ("b", False, True, "refused"),
    ]


def test_an_answer_that_is_no_ledger_is_not_an_empty_one(serve):
    strange = JOURNEY.model_copy(update={"ledger": JOURNEY.ledger.model_copy(update={"items": "nothing.here"})})
    sites = {"a": {"shop": serve().url}}
    [row] = read_all_sites({"shop.write": strange}, sites, "w", Deadline.after(0.6))
    assert not row.ok
    assert "not a ledger" in row.error


class Copy:
    """A site's copy by script: how many writes it holds at a second of the fake clock; None: it cannot be read."""

    def __init__(self, clock: FakeClock, site: str, holds: Callable[[float], int | None], *, takes_s: float = 0.01) -> None:
        self.clock, self.site, self.holds, self.takes_s = clock, site, holds, takes_s

    async def read_all(self, writer: str, *, timeout_s: float) -> LedgerRead:
        begin_ns = self.clock.now_ns()
        await asyncio.sleep(self.takes_s)
        held = self.holds(begin_ns / NS_PER_S)
        return LedgerRead(
            t_ns=self.clock.now_ns(), journey="shop.write", service="shop", writer=writer, begin_ns=begin_ns,
            end_ns=self.clock.now_ns(), ok=held is not None, site=self.site, items=[(f"w-{n}", "h") for n in range(held or 0)],
        )  # fmt: skip


def settled(*holds: Callable[[float], int | None], timeout_s: float = 30.0, takes_s: float = 0.01) -> list[LedgerRead]:
    clock = FakeClock()
    copies = [Copy(clock, site, each, takes_s=takes_s) for site, each in zip("ab", holds, strict=False)]
    return run_on(clock, settle(copies, "w", Deadline.after(timeout_s, clock)))


def test_copies_that_agree_twice_are_final():
    """Two rounds, and the sites were never seen to differ."""
    rows = settled(lambda _: 3, lambda _: 3)
    assert [(row.final, row.settled, row.differed_ns, row.begin_ns) for row in rows] == [(True, True, None, 110_000_000)] * 2


def test_a_copy_that_still_grows_at_the_deadline_has_not_settled():
    """Known bad: a site catches up, a write in every second; the reads run out of time and say so."""
    rows = settled(lambda _: 100, int, timeout_s=5.0)
    assert [(row.site, row.final, row.settled, len(row.items)) for row in rows] == [
        ("a", True, False, 100),
        ("b", True, False, 5),
    ]
    assert all(row.differed_ns == row.begin_ns for row in rows)


def test_both_copies_growing_alike_have_not_settled():
    """Alike in every round, and another round would show something else."""
    rows = settled(lambda now_s: int(now_s * 20), lambda now_s: int(now_s * 20), timeout_s=2.0)
    assert [(row.settled, row.differed_ns) for row in rows] == [(False, None)] * 2


def test_a_copy_that_caught_up_has_settled_and_when_it_had_not_is_known():
    """Alike from 2 s on: the last round that saw a difference began before that."""
    rows = settled(lambda _: 4, lambda now_s: 4 if now_s >= 2.0 else 3)
    assert [row.settled for row in rows] == [True, True]
    assert 1.8 <= (rows[0].differed_ns or 0) / NS_PER_S < 2.0
    assert rows[0].end_ns / NS_PER_S < 2.5


def test_copies_that_stay_apart_have_settled():
    """They had their time: it is known what they hold."""
    rows = settled(lambda _: 4, lambda _: 3)
    assert [row.settled for row in rows] == [True, True]
    assert 3.0 <= rows[0].end_ns / NS_PER_S < 4.0


def test_a_machine_that_stands_still_gives_copies_no_time():
    """Known bad: two rounds, four seconds apart because nothing ran, would pass for four unchanged seconds."""
    rows = settled(lambda _: 4, lambda now_s: 4 if now_s >= 5.0 else 3, takes_s=2.0)
    assert [(row.settled, len(row.items)) for row in rows] == [(True, 4), (True, 4)]


def test_a_copy_that_cannot_be_read_has_not_settled():
    """Unread to the end; the other copy's writes are reported all the same."""
    rows = settled(lambda _: 4, lambda _: None, timeout_s=2.0)
    assert [(row.ok, row.settled, len(row.items)) for row in rows] == [(True, False, 4), (False, False, 0)]


def test_a_journey_that_changes_keeps_no_other_from_settling():
    """Each journey's copies are read by themselves."""
    clock = FakeClock()
    calm, busy = Copy(clock, "a", lambda _: 4), Copy(clock, "a", lambda now_s: int(now_s * 20))

    async def both() -> list[list[LedgerRead]]:
        deadline = Deadline.after(3.0, clock)
        return list(await asyncio.gather(settle([calm], "w", deadline), settle([busy], "w", deadline)))

    first, second = run_on(clock, both())
    assert (first[0].settled, second[0].settled) == (True, False)


def test_what_a_read_showed_and_the_last_one_lacks_is_kept(serve):
    """A write that was seen and then vanished must not be forgotten with the round that saw it."""
    server = serve(drops_after_reads=2)
    write(server.url, 1, 2)
    rows = read({"a": server.url}, timeout_s=5)
    assert [(len(row.items), row.final) for row in rows] == [(2, False), (0, True)]
