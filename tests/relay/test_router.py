"""Routers: one advertised address; the client's site, found by the process that owns its socket, picks the way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from wire_ends import Api, ConnectAttempt, Upstream, dial, last_word, read, silent, wait_for

LINK = {"from": "anyang", "to": "pangyo"}
CLIENT = """
import socket, sys
try:
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
    client.sendall(b"hello")
    print(client.recv(100) or "FIN", flush=True)
except OSError as broken:
    print(type(broken).__name__, flush=True)
"""
RETRYING = """
import socket, sys, time
def call(): return socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
lasting = call()
for _ in range(20): call().close()
print(20, flush=True)
time.sleep(600)
"""
FORKING = """
import os, subprocess, sys
environment = {"PATH": os.environ["PATH"]}
sys.exit(subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]], env=environment).returncode)
"""


@contextmanager
def calling(
    port: int, *, site: str | None, run: str = "tests", through_a_child: bool = False, code: str = CLIENT
) -> Iterator[subprocess.Popen[str]]:
    """A process that connects, says hello and prints what it hears; it may do so in a child without the marks."""
    marks = {"CHAOSLAB_RUN": run, **({"CHAOSLAB_SITE": site} if site else {})}
    words = [FORKING, str(port), code] if through_a_child else [code, str(port)]
    process = subprocess.Popen([sys.executable, "-c", *words], stdout=subprocess.PIPE, text=True, env={**os.environ, **marks})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def router(relay: Api, upstream: Upstream) -> int:
    """Clients from anyang pass the proxy `p`; all others go straight."""
    relay.proxy(upstream.address, link=LINK)
    body = {"name": "f", "listen": "127.0.0.1:0", "upstream": upstream.address, "routes": {"anyang": "p"}}
    answer = relay("POST", "/chaoslab/routers", body)
    assert answer.status_code == 201, answer.text
    assert relay("GET", "/chaoslab/routers").json() == {"f": answer.json()}
    return int(answer.json()["listen"].rpartition(":")[2])


def through_the_proxy(relay: Api) -> bool:
    return bool(relay("GET", "/chaoslab/state").json()["connections"]["p"])


@pytest.mark.parametrize(
    ("options", "proxied"),
    [
        ({"site": "anyang"}, True),
        ({"site": "anyang", "through_a_child": True}, True),
        ({"site": "pangyo"}, False),
        ({"site": None}, False),
        ({"site": "anyang", "run": "another run"}, False),
    ],
    ids=["routed", "routed-child", "home", "no-site", "another-run"],
)
def test_the_site_of_the_client_picks_the_way(relay: Api, upstream: Upstream, router: int, options, proxied):
    """Only processes of this run, in a routed site, take the proxy; and all arrive."""
    with calling(router, **options) as client, upstream.accept() as served:
        assert read(served, 5) == b"hello"
        assert through_the_proxy(relay) is proxied
        served.sendall(b"answer")
        assert client.stdout is not None
        assert client.stdout.readline().strip() == "b'answer'"


def test_a_client_of_no_run_goes_straight(relay: Api, upstream: Upstream, router: int):
    """This very process carries no marks."""
    with dial(("127.0.0.1", router)) as client, upstream.accept() as served:
        client.sendall(b"x")
        assert read(served, 1) == b"x"
        assert not through_the_proxy(relay)


def test_the_fence_holds_only_the_routed_clients(relay: Api, upstream: Upstream, router: int):
    """What crosses the link hangs, what stays at home passes; after the lift the first one gets through."""
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"], ["pangyo", "anyang"]]})
    with calling(router, site="anyang"):
        assert upstream.nobody_came()
        with calling(router, site="pangyo"), upstream.accept() as served:
            assert read(served, 5) == b"hello"
        relay("PUT", "/chaoslab/fence", {"hold": []})
        with upstream.accept() as served:
            assert read(served, 5) == b"hello"


def test_a_shared_address_takes_clients_whose_site_is_not_known_yet(relay: Api, upstream: Upstream, router: int):
    """A client of the same site must get in, so the routed one does, too: it hangs after connect(), and the fence counts it."""
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"]]})
    with calling(router, site="anyang"):
        assert wait_for(lambda: through_the_proxy(relay))
        assert upstream.nobody_came()
        assert relay("PUT", "/chaoslab/fence", {"hold": []}).json() == {"hold": [], "let_in": {"p": 1}}


def test_a_shared_address_stalls_connects_when_no_client_may_get_through(relay: Api, upstream: Upstream, router: int):
    """Every route is fenced and no process lives at home: connects hang until one lives there or the fence is lifted."""
    relay("PUT", "/chaoslab/vacant", {"places": ["pangyo"]})
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"]]})
    with ConnectAttempt(("127.0.0.1", router)) as client:
        assert client.hangs()
        assert relay("PUT", "/chaoslab/vacant", {"places": []}).json() == {"places": []}
        assert client.outcome() == "connected"
    relay("PUT", "/chaoslab/vacant", {"places": ["pangyo"]})
    with ConnectAttempt(("127.0.0.1", router)) as client:
        assert client.hangs()
        relay("PUT", "/chaoslab/fence", {"hold": []})
        assert client.outcome() == "connected"


@pytest.mark.parametrize("state", ["a process lives at home", "one route is open", "no fence"])
def test_a_shared_address_accepts_while_any_client_may_get_through(relay: Api, upstream: Upstream, router: int, state):
    """Stalled connects for one client would cut off all others."""
    if state == "one route is open":
        relay.proxy(upstream.address, "q", link={"from": "witness", "to": "pangyo"})
        body = {"name": "g", "upstream": upstream.address, "routes": {"anyang": "p", "witness": "q"}, "listen": ""}
        router = int(relay("POST", "/chaoslab/routers", body).json()["listen"].rpartition(":")[2])
    relay("PUT", "/chaoslab/vacant", {"places": [] if state == "a process lives at home" else ["pangyo"]})
    relay("PUT", "/chaoslab/fence", {"hold": [] if state == "no fence" else [["anyang", "pangyo"]]})
    with dial(("127.0.0.1", router)) as client, upstream.accept() as served:
        client.sendall(b"x")
        assert read(served, 1) == b"x"


def test_sockets_of_those_who_gave_up_do_not_pile_up(relay: Api, router: int):
    """A minute of retries at a shared address must not exhaust the relay."""
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"]]})
    with calling(router, site="anyang", code=RETRYING) as client:
        assert client.stdout is not None
        assert client.stdout.readline().strip() == "20"
        assert wait_for(lambda: waiting(relay) == 1)
    assert wait_for(lambda: waiting(relay) == 0)


def waiting(relay: Api) -> int:
    return int(relay("GET", "/chaoslab/state").json()["connections"]["p"])


def test_a_client_that_leaves_before_its_site_is_known_does_not_slip_past_the_fence(
    relay: Api, upstream: Upstream, router: int
):
    """Its socket is gone when its owner is looked up; that must not make it a process of no site, which may go straight."""
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"], ["pangyo", "anyang"]]})
    for _ in range(5):
        with dial(("127.0.0.1", router)) as client:
            client.sendall(b"POST /pay/entries")
    assert upstream.nobody_came()


def test_a_disabled_proxy_ends_the_routed_clients(relay: Api, upstream: Upstream, router: int):
    """The address cannot refuse one client and take another, so it takes and resets."""
    relay("POST", "/proxies/p", {"enabled": False})
    with calling(router, site="anyang") as client:
        assert client.stdout is not None
        assert client.stdout.readline().strip() in ("ConnectionResetError", "BrokenPipeError")
        assert upstream.nobody_came()


def test_toxics_apply_to_the_routed_clients(relay: Api, upstream: Upstream, router: int):
    """The proxy's toxics come with the proxy."""
    relay.toxic("timeout", "upstream")
    with calling(router, site="anyang"), upstream.accept() as served:
        assert silent(served)


def test_a_router_that_cannot_be_is_refused(relay: Api, upstream: Upstream, router: int):
    """An unknown proxy, a taken name, a taken port, a shape that is none."""
    body = {"name": "g", "listen": "127.0.0.1:0", "upstream": upstream.address, "routes": {}}
    for change, status in (
        ({"routes": {"anyang": "no"}}, 404),
        ({"name": "f"}, 409),
        ({"listen": upstream.address}, 500),
        ({"routes": ["anyang"]}, 400),
    ):
        assert relay("POST", "/chaoslab/routers", {**body, **change}).status_code == status


def test_a_deleted_router_frees_its_port(relay: Api, router: int):
    """204, then 404, and the port can be had again."""
    assert relay("DELETE", "/chaoslab/routers/f").status_code == 204
    assert relay("DELETE", "/chaoslab/routers/f").status_code == 404
    socket.create_server(("127.0.0.1", router)).close()


def test_the_end_of_a_straight_connection_passes(upstream: Upstream, router: int):
    """Straight is as a direct connection would be."""
    with dial(("127.0.0.1", router)) as client:
        upstream.accept().close()
        assert last_word(client) == "FIN"
