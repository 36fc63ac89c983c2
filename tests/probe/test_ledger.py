"""The final read of the ledger, from every site."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.request

from chaoslab.clock import Deadline
from chaoslab.ledger import read_all_sites
from chaoslab.probe.payload import hash_of, payload_of
from chaoslab.spec.model import Journey

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


def test_a_site_that_cannot_be_read_is_a_row_that_says_so(serve):
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


def test_what_a_read_showed_and_the_last_one_lacks_is_kept(serve):
    """A write that was seen and then vanished must not be forgotten with the round that saw it."""
    server = serve(drops_after_reads=2)
    write(server.url, 1, 2)
    rows = read({"a": server.url}, timeout_s=5)
    assert [(len(row.items), row.final) for row in rows] == [(2, False), (0, True)]
