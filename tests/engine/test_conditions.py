"""What a condition is brought about with: values that are looked up first, and whoever says yes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from chaoslab.conditions import Conditions
from chaoslab.spec.model import ConditionSpec
from chaoslab.stack.topology import Address

MEMBER = 13668033151171901709  # more than a float can hold
SPEC = {
    "get": "http://a:1/leader",
    "expect": "leads",
    "bring_about": {
        "with": {"member": {"get": "http://a:1/members", "pick": "[?name=='a'].id | [0]"}},
        "post": ["http://b:1/refuses", "http://b:1/agrees", "http://b:1/too-late"],
        "json": {"target": "{member}", "text": ["to {member}", 1]},
    },
}


class Replica(BaseHTTPRequestHandler):
    asked: list[tuple[str, Any]]

    def do_GET(self) -> None:
        self.answer(200, [{"name": "a", "id": MEMBER}])

    def do_POST(self) -> None:
        self.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.answer(400 if self.path == "/refuses" else 200, {})

    def answer(self, status: int, said: Any) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def replica() -> Iterator[tuple[Address, list[tuple[str, Any]]]]:
    Replica.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Replica) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Address("127.0.0.1", server.server_port), Replica.asked
        server.shutdown()
        thread.join()


def conditions(address: Address, **changes: Any) -> Conditions:
    spec = ConditionSpec.model_validate(SPEC | {"bring_about": SPEC["bring_about"] | changes})  # type: ignore[operator]
    stack = SimpleNamespace(address=lambda _name, _port: address, topology=SimpleNamespace(spec=SimpleNamespace()))
    stack.topology.spec.conditions = {"leads": spec}
    return Conditions(stack, ["leads"])  # type: ignore[arg-type]


def test_the_value_is_looked_up_and_urls_are_asked_until_one_agrees(replica: tuple[Address, list[tuple[str, Any]]]) -> None:
    """A text that is nothing but the name becomes the value itself, to the last digit."""
    address, asked = replica
    row = conditions(address).bring_about("leads")
    body = {"target": MEMBER, "text": [f"to {MEMBER}", 1]}
    assert asked == [("/refuses", body), ("/agrees", body)]
    assert row is not None and row.observed == "POST http://b:1/refuses: 400 {}; POST http://b:1/agrees: 200 {}"


def test_nothing_is_asked_for_without_its_value(replica: tuple[Address, list[tuple[str, Any]]]) -> None:
    """The row says what was not found, and where."""
    address, asked = replica
    row = conditions(
        address, **{"with": {"member": {"get": "http://a:1/members", "pick": "[?name=='z'].id | [0]"}}}
    ).bring_about("leads")
    assert asked == []
    assert row is not None and "GET http://a:1/members has nothing at [?name=='z'].id | [0]" in row.observed


def test_one_url_may_be_said_as_text(replica: tuple[Address, list[tuple[str, Any]]]) -> None:
    """As before there were several."""
    address, asked = replica
    conditions(address, post="http://b:1/agrees", json={"candidate": "b"}, **{"with": {}}).bring_about("leads")
    assert asked == [("/agrees", {"candidate": "b"})]
