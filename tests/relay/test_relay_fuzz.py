"""Nothing that a client sends over HTTP brings the relay down, or disturbs what it carries."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_ends import TIMEOUT_S, Api, Upstream, dial, read

from chaoslab.stack.relay.toxics import SlicerStage
from chaoslab.stack.toxiproxy import wire
from chaoslab.stack.toxiproxy.wire import Slicer

ROUTES = [
    "/proxies",
    "/populate",
    "/reset",
    "/proxies/p",
    "/proxies/p/toxics",
    "/proxies/p/toxics/t",
    "/chaoslab/fence",
    "/chaoslab/vacant",
    "/chaoslab/routers",
    "/chaoslab/routers/f",
]
ATTRIBUTES = ["latency", "jitter", "rate", "timeout", "delay", "bytes", "average_size", "size_variation"]
FIELDS = [
    "name",
    "listen",
    "upstream",
    "enabled",
    "link",
    "type",
    "stream",
    "toxicity",
    "attributes",
    "hold",
    "places",
    "routes",
]
KEYS = st.sampled_from([*ATTRIBUTES, *FIELDS, "from", "to"])
ADDRESSES = ["127.0.0.1:0", "127.0.0.1:1", "[::", "a:b:c", "127.0.0.1:99999", "0.0.0.0:0"]
WORDS = st.sampled_from([*ADDRESSES, "q", "", "upstream", "slicer", "\ud800", "x" * 5000, "../..", "\x00"])
NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.5, 1e308]) | st.integers()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | WORDS, inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]), path=st.sampled_from(ROUTES[1:]), body=JSON)
def test_any_json_is_answered(relay: Api, method: str, path: str, body: Any):
    """An answer of the documented kinds, every time; 500 only for an address that cannot be listened at."""
    relay("POST", "/proxies", {"name": "p", "upstream": "127.0.0.1:1"})
    relay("POST", "/proxies/p/toxics", {"name": "t", "type": "slicer", "attributes": {"average_size": 1}})
    answer = relay.session.request(method, f"http://{relay.address}{path}", data=json.dumps(body), timeout=TIMEOUT_S)
    assert answer.status_code in (200, 201, 204, 400, 404, 405, 409, 500), answer.text
    if answer.status_code == 500:
        assert answer.json()["error"].startswith(("listen", "address")), answer.text


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"NaN", b"1e999", b'"\\ud800"', b" "])
def test_any_bytes_are_answered(relay: Api, upstream: Upstream, body: bytes):
    """Bad requests, all of them, and traffic goes on meanwhile."""
    with dial(relay.proxy(upstream.address)) as client, upstream.accept() as served:
        for path in ("/proxies", "/populate", "/proxies/p/toxics"):
            answer = relay.session.post(f"http://{relay.address}{path}", data=body, timeout=TIMEOUT_S)
            assert answer.status_code == 400, (path, answer.text)
        client.sendall(b"x")
        assert read(served, 1) == b"x"


@pytest.mark.parametrize(
    "body", [b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100, b"POST /proxies HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"GET"]
)
def test_bytes_that_are_no_http_are_survived(relay: Api, body: bytes):
    """The next client is served."""
    host, _, port = relay.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as client:
        client.sendall(body)
    assert relay("GET", "/version").status_code == 200


def test_only_loopback_is_listened_at(relay: Api, upstream: Upstream):
    """A relay that every machine of the network may use would be a hole."""
    for listen in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0"):
        answer = relay("POST", "/proxies", {"name": "q", "listen": listen, "upstream": upstream.address})
        assert answer.status_code == 500
        assert "loopback" in answer.json()["error"]
    assert relay("POST", "/proxies", {"name": "q", "upstream": upstream.address}).json()["listen"].startswith("127.0.0.1:")


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    toxics=st.lists(
        st.fixed_dictionaries(
            {
                "name": st.sampled_from("abc"),
                "type": st.sampled_from([*wire.ATTRIBUTES]),
                "stream": st.sampled_from(["upstream", "downstream"]),
                "toxicity": st.sampled_from([0, 0.5, 1]),
                "attributes": st.dictionaries(st.sampled_from(ATTRIBUTES), st.integers(0, 50)),
            }
        ),
        max_size=6,
    ),
    undone=st.lists(st.sampled_from(["cure a", "cure b", "change a", "change b", "fence", "lift", "off", "on"]), max_size=6),
)
def test_any_toxics_under_traffic_are_survived(relay: Api, upstream: Upstream, toxics: list[dict[str, Any]], undone: list[str]):
    """Set, changed, taken away in any order while bytes flow: afterwards a new connection is as good as ever."""
    address = relay.proxy(upstream.address, link={"from": "here", "to": "there"})
    steps = {
        "cure a": ("DELETE", "/proxies/p/toxics/a", None),
        "cure b": ("DELETE", "/proxies/p/toxics/b", None),
        "change a": ("PATCH", "/proxies/p/toxics/a", {"toxicity": 1, "attributes": {"latency": 1, "rate": 7}}),
        "change b": ("PATCH", "/proxies/p/toxics/b", {"toxicity": 0}),
        "fence": ("PUT", "/chaoslab/fence", {"hold": [["here", "there"], ["there", "here"]]}),
        "lift": ("PUT", "/chaoslab/fence", {"hold": []}),
        "off": ("PATCH", "/proxies/p", {"enabled": False}),
        "on": ("PATCH", "/proxies/p", {"enabled": True}),
    }
    with dial(address) as client, upstream.accept() as served:
        for toxic in toxics:
            relay("POST", "/proxies/p/toxics", toxic)
            _say(client, served)
        for step in undone:
            relay(*steps[step])
            _say(client, served)
    relay(*steps["lift"])
    relay("POST", "/reset")
    assert relay("GET", "/proxies/p").json()["toxics"] == []
    with dial(address) as client, upstream.accept() as served:
        client.sendall(b"x")
        assert read(served, 1) == b"x"
    relay.clear()


def _say(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.sendall(b"some words")


class _Sink:
    def __init__(self) -> None:
        self.got: list[bytes] = []

    def push(self, data: bytes, at_s: float) -> None:
        self.got.append(data)

    def end(self) -> None: ...


@given(data=st.binary(min_size=1, max_size=3000), average=st.integers(1, 500), variation=st.integers(0, 499))
def test_slices_are_the_whole(data: bytes, average: int, variation: int):
    """Cutting loses nothing, ends, and leaves no empty piece."""
    stage = SlicerStage(None, _Sink(), Slicer(average, min(variation, average - 1), 0))  # type: ignore[arg-type]
    pieces = stage.pieces(data)
    assert b"".join(pieces) == data
    assert all(pieces)
