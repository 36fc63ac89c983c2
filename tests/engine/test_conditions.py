"""What a condition is brought about with: values that are looked up first, and the first URL that agrees."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from real_servers import ACCOUNT, postgres_server, redis_server

from chaoslab.cleanup.journal import UndoJournal
from chaoslab.clock import SYSTEM
from chaoslab.engine.conditions import Conditions
from chaoslab.engine.steps import StepRunner
from chaoslab.engine.timeline_steps import Surroundings, planned_step
from chaoslab.errors import StackError
from chaoslab.spec.stackfile.condition import ConditionSpec
from chaoslab.spec.stackfile.topology import Address
from chaoslab.spec.step import SqlCall, SqlStep
from chaoslab.stack.protocol import Ended

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

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((f"{self.path} {self.headers['X-Key']}", body))
        self.answer(200, {"leads": body == {"who": "a"}})

    def do_POST(self) -> None:
        self.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.answer(400 if self.path == "/refuses" else 200, {})

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
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
    attempt = conditions(address).bring_about("leads")
    body = {"target": MEMBER, "text": [f"to {MEMBER}", 1]}
    assert asked == [("/refuses", body), ("/agrees", body)]
    assert attempt is not None and attempt.row.observed == "POST http://b:1/refuses: 400 {}; POST http://b:1/agrees: 200 {}"


def test_nothing_is_asked_for_without_its_value(replica: tuple[Address, list[tuple[str, Any]]]) -> None:
    """The row names what was not found, and where."""
    address, asked = replica
    attempt = conditions(
        address, **{"with": {"member": {"get": "http://a:1/members", "pick": "[?name=='z'].id | [0]"}}}
    ).bring_about("leads")
    assert asked == []
    assert (
        attempt is not None
        and attempt.refused
        and "GET http://a:1/members: the answer has nothing at [?name=='z'].id | [0]" in attempt.row.observed
    )


def test_one_url_may_be_written_as_text(replica: tuple[Address, list[tuple[str, Any]]]) -> None:
    """As before there were several."""
    address, asked = replica
    conditions(address, post="http://b:1/agrees", json={"candidate": "b"}, **{"with": {}}).bring_about("leads")
    assert asked == [("/agrees", {"candidate": "b"})]


def other(stack: Any, spec: dict[str, Any]) -> Conditions:
    stack.topology = SimpleNamespace(spec=SimpleNamespace(conditions={"leads": ConditionSpec.model_validate(spec)}))
    return Conditions(stack, ["leads"])


def test_any_request_looks_up_and_changes(replica: tuple[Address, list[tuple[str, Any]]]) -> None:
    """With a method, headers and a body of its own, in which values are filled in."""
    address, asked = replica
    request = {"method": "PUT", "url": "http://a:1/leader", "headers": {"X-Key": "k"}, "json": {"who": "a"}}
    found = {"value": {"get": "http://a:1/members", "pick": "[0].name"}}
    change = {"with": found, "request": {**request, "headers": {"X-Key": "{value}"}, "json": {"who": "{value}"}}}
    spec = {"request": request, "expect": "leads", "bring_about": change}
    asking = other(SimpleNamespace(address=lambda *_: address), spec)
    assert [row.holds for row in asking.look("steady")] == [True]
    attempt = asking.bring_about("leads")
    assert asked == [("/leader k", {"who": "a"}), ("/leader a", {"who": "a"})]
    assert attempt is not None and "PUT http://a:1/leader: 200" in attempt.row.observed


class Commands:
    """A runtime that runs commands: `show` writes JSON, `say` text, all else fails."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, list[str]]] = []

    def execute(self, replica: str, command: list[str], timeout_s: float) -> Ended:
        self.ran.append((replica, command))
        if replica == "dead":
            raise StackError("dead is not running")
        outputs = {"show": '{"role": "leader"}', "say": "in sync\n"}
        return Ended(0, outputs[command[0]]) if command[0] in outputs else Ended(3, "", "no such thing")


@pytest.mark.parametrize(
    ("look", "holds", "observed"),
    [
        ({"run": ["show"], "in": "db", "expect": "role == 'leader'"}, True, "role == 'leader'"),
        ({"run": ["show"], "in": "db", "expect": "role == 'x'"}, False, "not true: role == 'x'; observed: {"),
        ({"run": ["say"], "in": "db", "expect": "@ == 'in sync'"}, True, "@ == 'in sync'"),
        ({"run": ["say"], "in": "db"}, True, "it ends with status 0"),
        ({"run": ["fail", "now"], "in": "db"}, False, "fail now in db: exit status 3: no such thing"),
        ({"run": ["show"], "in": "dead"}, False, "dead is not running"),
    ],
)
def test_a_command_in_a_replica_looks_up(look: dict[str, Any], holds: bool, observed: str) -> None:
    """What it writes is looked at; one that fails, or cannot run, shows nothing."""
    [row] = other(Commands(), look).look("steady")
    assert row.holds is holds
    assert row.observed.startswith(observed)


def test_a_command_in_a_replica_changes() -> None:
    """Its words are filled in. One that failed may have done half of its work: it is not asked again at once."""
    change = {"with": {"who": {"run": ["show"], "in": "db", "pick": "role"}}, "run": ["promote", "{who}"], "in": "db"}
    stack = Commands()
    attempt = other(stack, {"run": ["show"], "in": "db", "bring_about": change}).bring_about("leads")
    assert stack.ran[-1] == ("db", ["promote", "leader"])
    assert attempt is not None and not attempt.refused
    assert attempt.row.observed == "promote leader in db: exit status 3: no such thing"


def test_a_runtime_without_commands_says_so() -> None:
    [row] = other(SimpleNamespace(), {"run": ["show"], "in": "db"}).look("steady")
    assert (row.holds, row.observed) == (False, "run show: this runtime cannot run commands in replicas")


def test_redis_and_sql(tmp_path: Path) -> None:
    """Looked up and brought about at a replica's port; what the server refuses has changed nothing."""
    for name in ("redis", "postgres"):
        (tmp_path / name).mkdir()
    with redis_server(tmp_path / "redis") as redis, postgres_server(tmp_path / "postgres") as postgres:
        stack = SimpleNamespace(address=lambda _, port: Address("127.0.0.1", redis.port if port == 6379 else postgres.port))
        cache = {"redis": ["GET", "mode"], "at": "cache:6379", "expect": "@ == 'open'"}
        cache["bring_about"] = {"redis": ["SET", "mode", "open"], "at": "cache:6379"}  # type: ignore[assignment]
        asking = other(stack, cache)
        assert [row.holds for row in asking.look("steady")] == [False]
        attempt = asking.bring_about("leads")
        assert attempt is not None and attempt.row.observed == 'redis SET mode open at cache:6379: "OK"'
        assert [row.holds for row in asking.look("steady")] == [True]
        wrong = other(stack, cache | {"bring_about": {"redis": ["HSET", "mode"], "at": "cache:6379"}}).bring_about("leads")
        assert wrong is not None and wrong.refused

        rows = {"sql": {"statement": "select count(*) as n from entries", **ACCOUNT}, "at": "db:5432", "expect": "[0].n == `1`"}
        put = {"sql": {"statement": "insert into entries (id) values ({id})", **ACCOUNT}, "at": "db:5432"}
        given = {"id": {"redis": ["GET", "mode"], "at": "cache:6379", "pick": "@"}}
        asking = other(stack, rows | {"bring_about": {**put, "with": given}})
        assert [row.holds for row in asking.look("steady")] == [False]
        asking.bring_about("leads")
        assert [row.holds for row in asking.look("steady")] == [True]
        again = other(stack, rows | {"bring_about": {**put, "with": given}}).bring_about("leads")
        assert again is not None and again.refused and "23505" in again.row.observed
        assert sql_steps(stack, tmp_path) == [
            ("done", '[{"n": 1}]'),
            ("failed", "sql at db:5432: not true of the rows: [0].n > `1`"),
            ("failed", 'sql at db:5432: 42P01: relation "entires" does not exist'),
            ("failed", "the environment variable NOT_SET is not set"),
        ]


def sql_steps(stack: Any, folder: Path) -> list[tuple[str, str]]:
    """What steps of SQL come to on a server, with what each said or why it failed."""
    found = []
    for statement, expect, password in (
        ("select count(*) as n from entries", "[0].n > `0`", ACCOUNT["password"]),
        ("select count(*) as n from entries", "[0].n > `1`", ACCOUNT["password"]),
        ("select 1 from entires", None, ACCOUNT["password"]),
        ("select 1", None, "${NOT_SET}"),
    ):
        call = {"at": "db:5432", **ACCOUNT, "statement": statement, "expect": expect, "password": password}
        written: list[Any] = []
        around = Surroundings(stack, UndoJournal(folder / "undo.jsonl"), folder, written.append, SYSTEM)
        spec = SqlStep(id="ask", sql=SqlCall.model_validate(call), budget="5s")  # type: ignore[arg-type]
        StepRunner([], written.append, SYSTEM).carry_out(planned_step(spec, around))
        last = next(row for row in written if row.event in ("returned", "failed"))
        found.append(("done", last.detail["output"]) if last.event == "returned" else ("failed", last.detail["why"]))
    return found
