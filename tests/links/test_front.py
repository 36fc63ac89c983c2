"""Fronts: one advertised address; the caller's site, told by the process that owns its end, picks the way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from wire_ends import Api, Knock, Upstream, dial, last_word, read, silent, wait_for

LINK = {"from": "anyang", "to": "pangyo"}
CALLER = """
import socket, sys
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
client.sendall(b"hello")
try:
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
    port: int, *, site: str | None, run: str = "tests", through_a_child: bool = False, code: str = CALLER
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
def front(relay: Api, upstream: Upstream) -> int:
    """Callers from anyang pass the proxy `p`; all others go straight."""
    relay.proxy(upstream.address, link=LINK)
    body = {"name": "f", "listen": "127.0.0.1:0", "upstream": upstream.address, "routes": {"anyang": "p"}}
    answer = relay("POST", "/chaoslab/fronts", body)
    assert answer.status_code == 201, answer.text
    assert relay("GET", "/chaoslab/fronts").json() == {"f": answer.json()}
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
def test_the_site_of_the_caller_picks_the_way(relay: Api, upstream: Upstream, front: int, options, proxied):
    """Only processes of this run, in a routed site, take the proxy; and everybody arrives."""
    with calling(front, **options) as caller, upstream.accept() as served:
        assert read(served, 5) == b"hello"
        assert through_the_proxy(relay) is proxied
        served.sendall(b"answer")
        assert caller.stdout is not None
        assert caller.stdout.readline().strip() == "b'answer'"


def test_a_caller_of_no_run_goes_straight(relay: Api, upstream: Upstream, front: int):
    """This very process carries no marks."""
    with dial(("127.0.0.1", front)) as client, upstream.accept() as served:
        client.sendall(b"x")
        assert read(served, 1) == b"x"
        assert not through_the_proxy(relay)


def test_the_fence_holds_only_the_routed_callers(relay: Api, upstream: Upstream, front: int):
    """What crosses the link hangs, what stays at home passes; after the lift the first one gets through."""
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"], ["pangyo", "anyang"]]})
    with calling(front, site="anyang"):
        assert upstream.nobody_came()
        with calling(front, site="pangyo"), upstream.accept() as served:
            assert read(served, 5) == b"hello"
        relay("PUT", "/chaoslab/fence", {"hold": []})
        with upstream.accept() as served:
            assert read(served, 5) == b"hello"


def test_a_shared_address_takes_who_cannot_be_told_apart_yet(relay: Api, upstream: Upstream, front: int):
    """A neighbour must get in, so the routed caller does, too: it hangs after connect(), and the fence tells of it."""
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"]]})
    with calling(front, site="anyang"):
        assert wait_for(lambda: through_the_proxy(relay))
        assert upstream.nobody_came()
        assert relay("PUT", "/chaoslab/fence", {"hold": []}).json() == {"hold": [], "let_in": {"p": 1}}


def test_a_shared_address_hides_where_nobody_is_left_who_may_come(relay: Api, upstream: Upstream, front: int):
    """Every route is held and nobody lives at home: the door is shut. It opens for a neighbour, fence or not, and after it."""
    relay("PUT", "/chaoslab/vacant", {"places": ["pangyo"]})
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"]]})
    with Knock(("127.0.0.1", front)) as client:
        assert client.hangs()
        assert relay("PUT", "/chaoslab/vacant", {"places": []}).json() == {"places": []}
        assert client.outcome() == "connected"
    relay("PUT", "/chaoslab/vacant", {"places": ["pangyo"]})
    with Knock(("127.0.0.1", front)) as client:
        assert client.hangs()
        relay("PUT", "/chaoslab/fence", {"hold": []})
        assert client.outcome() == "connected"


@pytest.mark.parametrize("state", ["inhabited", "one route is open", "no fence"])
def test_a_shared_address_is_open_to_whoever_may_come(relay: Api, upstream: Upstream, front: int, state):
    """A door that is shut for one caller would cut off all others."""
    if state == "one route is open":
        relay.proxy(upstream.address, "q", link={"from": "witness", "to": "pangyo"})
        body = {"name": "g", "upstream": upstream.address, "routes": {"anyang": "p", "witness": "q"}, "listen": ""}
        front = int(relay("POST", "/chaoslab/fronts", body).json()["listen"].rpartition(":")[2])
    relay("PUT", "/chaoslab/vacant", {"places": [] if state == "inhabited" else ["pangyo"]})
    relay("PUT", "/chaoslab/fence", {"hold": [] if state == "no fence" else [["anyang", "pangyo"]]})
    with dial(("127.0.0.1", front)) as client, upstream.accept() as served:
        client.sendall(b"x")
        assert read(served, 1) == b"x"


def test_sockets_of_those_who_gave_up_do_not_pile_up(relay: Api, front: int):
    """A minute of retries at a shared address must not exhaust the relay."""
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"]]})
    with calling(front, site="anyang", code=RETRYING) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline().strip() == "20"
        assert wait_for(lambda: waiting(relay) == 1)
    assert wait_for(lambda: waiting(relay) == 0)


def waiting(relay: Api) -> int:
    return int(relay("GET", "/chaoslab/state").json()["connections"]["p"])


def test_who_leaves_before_it_is_known_does_not_slip_past_the_fence(relay: Api, upstream: Upstream, front: int):
    """Its socket is gone when its owner is looked up; that must not make it a stranger who may go straight."""
    relay("PUT", "/chaoslab/fence", {"hold": [["anyang", "pangyo"], ["pangyo", "anyang"]]})
    for _ in range(5):
        with dial(("127.0.0.1", front)) as client:
            client.sendall(b"POST /pay/entries")
    assert upstream.nobody_came()


def test_a_disabled_proxy_ends_the_routed_callers(relay: Api, upstream: Upstream, front: int):
    """The address cannot refuse one caller and take another, so it takes and resets."""
    relay("POST", "/proxies/p", {"enabled": False})
    with calling(front, site="anyang") as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline().strip() in ("ConnectionResetError", "BrokenPipeError")
        assert upstream.nobody_came()


def test_toxics_strike_the_routed_callers(relay: Api, upstream: Upstream, front: int):
    """The proxy's toxics come with the proxy."""
    relay.toxic("timeout", "upstream")
    with calling(front, site="anyang"), upstream.accept() as served:
        assert silent(served)


def test_a_front_that_cannot_be_is_refused(relay: Api, upstream: Upstream, front: int):
    """An unknown proxy, a taken name, a taken port, a shape that is none."""
    body = {"name": "g", "listen": "127.0.0.1:0", "upstream": upstream.address, "routes": {}}
    for change, status in (
        ({"routes": {"anyang": "no"}}, 404),
        ({"name": "f"}, 409),
        ({"listen": upstream.address}, 500),
        ({"routes": ["anyang"]}, 400),
    ):
        assert relay("POST", "/chaoslab/fronts", {**body, **change}).status_code == status


def test_a_deleted_front_frees_its_port(relay: Api, front: int):
    """204, then 404, and the port can be had again."""
    assert relay("DELETE", "/chaoslab/fronts/f").status_code == 204
    assert relay("DELETE", "/chaoslab/fronts/f").status_code == 404
    socket.create_server(("127.0.0.1", front)).close()


def test_the_end_of_a_straight_connection_passes(upstream: Upstream, front: int):
    """Straight is as a direct connection would be."""
    with dial(("127.0.0.1", front)) as client:
        upstream.accept().close()
        assert last_word(client) == "FIN"
