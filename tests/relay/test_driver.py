"""The seam over toxiproxy-python: bounded, loud, checked, read back; many of them in one process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from wire_ends import Api, Upstream, dial, read, relay_process, silent

from chaoslab.errors import LinkError
from chaoslab.stack.toxiproxy.driver import ToxiproxyDriver, toxic

PROXY = {"name": "p", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2", "enabled": True, "toxics": []}
Answer = tuple[int, object]


@contextmanager
def scripted(answer: Callable[[str, str], Answer]) -> Iterator[str]:
    """The address of a server with scripted answers. It stands for a Toxiproxy that is wedged or lies."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answer(self.command, self.path)
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_DELETE = do_PUT = _any

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def driver(api: Api) -> ToxiproxyDriver:
    return ToxiproxyDriver(api.address)


def set_toxic(driver: ToxiproxyDriver, kind: str, *, name: str, **options) -> None:
    """Set a toxic of proxy `p`, in place of one with the same name."""
    driver.set_toxics({"p": [toxic(kind, name=name, **options)]}, ours=lambda seen: seen.name == name)


def remove_toxic(driver: ToxiproxyDriver, name: str) -> None:
    driver.set_toxics({"p": []}, ours=lambda seen: seen.name == name)


def test_every_verb_does_what_it_says(driver: ToxiproxyDriver, upstream: Upstream):
    """Create, switch, set and remove toxics: each seen from outside, on the relay and on Toxiproxy."""
    made = driver.create("p", "127.0.0.1:0", upstream.address)
    host, _, port = made.listen.rpartition(":")
    address = (host, int(port))
    driver.disable("p")
    with pytest.raises(ConnectionRefusedError):
        dial(address)
    driver.enable("p")
    with dial(address) as client, upstream.accept() as served:
        set_toxic(driver, "latency", stream="upstream", name="slow", latency=60_000)
        client.sendall(b"x")
        assert silent(served, 0.1)
        remove_toxic(driver, "slow")
        assert read(served, 1) == b"x"
        driver.disable("p")
        assert read(client, 1) == b""
    set_toxic(driver, "timeout", stream="downstream", name="hang", toxicity=0.15)
    assert [seen.toxicity for seen in driver.proxies()["p"].toxics] == [pytest.approx(0.15)]


def test_taking_away_twice_is_fine_and_adding_twice_replaces(driver: ToxiproxyDriver, upstream: Upstream):
    """Healing is idempotent; so is setting a toxic."""
    driver.create("p", "127.0.0.1:0", upstream.address)
    for latency in (5, 9):
        set_toxic(driver, "latency", stream="upstream", name="slow", latency=latency)
    assert [seen.attributes["latency"] for seen in driver.proxy("p").toxics] == [9]
    for _ in range(2):
        remove_toxic(driver, "slow")
        driver.enable("p")


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("slicer", {"average_size": 0}, "average_size"),
        ("slicer", {}, "average_size"),
        ("slicer", {"average_size": 10, "size_variation": 10}, "size_variation"),
        ("bandwidth", {"rate": -1}, "rate"),
        ("latency", {"latency": -5}, "latency"),
        ("latency", {"latency": 10**12}, "latency"),
        ("limit_data", {"bytes": -1}, "bytes"),
        ("nonsense", {}, "invalid toxic type"),
    ],
)
def test_what_would_crash_a_server_is_never_sent(driver: ToxiproxyDriver, upstream: Upstream, kind, attributes, message):
    """The error names the attribute, and the server has not heard of it."""
    driver.create("p", "127.0.0.1:0", upstream.address)
    with pytest.raises(LinkError, match=message):
        set_toxic(driver, kind, stream="upstream", name="t", **attributes)
    assert driver.proxy("p").toxics == []


def test_toxicity_is_a_share(driver: ToxiproxyDriver, upstream: Upstream):
    """15 is a mistake for 0.15."""
    driver.create("p", "127.0.0.1:0", upstream.address)
    with pytest.raises(LinkError, match="share"):
        set_toxic(driver, "timeout", stream="upstream", name="t", toxicity=15)


def test_refusals_are_errors_with_the_servers_words(driver: ToxiproxyDriver, upstream: Upstream):
    """404 and 409."""
    with pytest.raises(LinkError, match="proxy not found"):
        driver.disable("no")
    driver.create("p", "127.0.0.1:0", upstream.address)
    with pytest.raises(LinkError, match="already exists"):
        driver.create("p", "127.0.0.1:0", upstream.address)


@pytest.mark.parametrize("status", [302, 403, 500, 503])
def test_no_answer_but_2xx_is_a_success(status):
    """The package itself would call these a success."""
    with scripted(lambda *_: (status, PROXY)) as address, pytest.raises(LinkError, match=str(status)):
        ToxiproxyDriver(address).enable("p")


def test_503_is_unknown():
    """A wedged Toxiproxy may have done it or not."""
    with scripted(lambda *_: (503, b"")) as address, pytest.raises(LinkError, match="unknown"):
        ToxiproxyDriver(address).enable("p")


def test_a_change_that_reads_back_unchanged_is_an_error():
    """A server that says 200 and does nothing."""
    with scripted(lambda _, path: (200, {"p": PROXY} if path == "/proxies" else PROXY)) as address:
        driver = ToxiproxyDriver(address)
        with pytest.raises(LinkError, match="reads back"):
            driver.disable("p")
        with pytest.raises(LinkError, match="reads back"):
            set_toxic(driver, "latency", stream="upstream", name="slow", latency=1)
        with pytest.raises(LinkError, match="reads back"):
            driver.create("p", "127.0.0.1:1", "127.0.0.1:3")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"name": 5}'])
def test_an_answer_of_another_shape_is_an_error(body):
    """Something else listens on that port."""
    with scripted(lambda *_: (200, body)) as address, pytest.raises(LinkError, match="not an answer of Toxiproxy"):
        ToxiproxyDriver(address).proxies()


def test_a_server_that_hangs_is_given_up():
    """Bounded, and what happened is unknown."""
    with scripted(lambda *_: time.sleep(2) or (200, {})) as address:
        begun = time.monotonic()
        with pytest.raises(LinkError, match="unknown"):
            ToxiproxyDriver(address, timeout_s=0.3).proxies()
        assert time.monotonic() - begun < 1.5


def test_a_server_that_is_not_there_is_an_error():
    """Connection refused is a LinkError too."""
    with pytest.raises(LinkError, match="no answer"):
        ToxiproxyDriver("127.0.0.1:1").proxies()


def test_an_environments_proxy_is_not_asked(api: Api, monkeypatch):
    """On a machine behind a company proxy, loopback stays loopback."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ToxiproxyDriver(api.address).proxies() == {}


def test_several_drivers_in_threads_keep_apart():
    """Three servers, three drivers, at once: none talks to another's server."""
    with relay_process() as (_, one), relay_process() as (_, two), relay_process() as (_, three):
        addresses = [one, two, three]
        failures: list[BaseException] = []

        def work(address: str) -> None:
            try:
                driver = ToxiproxyDriver(address)
                for number in range(15):
                    driver.create(f"{address}-{number}".replace(":", "-"), "127.0.0.1:0", "127.0.0.1:1")
            except BaseException as broken:
                failures.append(broken)

        threads = [threading.Thread(target=work, args=(address,)) for address in addresses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        for address in addresses:
            names = ToxiproxyDriver(address).proxies()
            assert len(names) == 15
            assert all(name.startswith(address.replace(":", "-")) for name in names)
