"""What the stack says of itself while a run goes on: asked from beside it, told in few rows, and never waited for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_stack import FakeStack
from stage import Stage

from chaoslab.engine.asking import BESIDE, Asking, NoAnswer
from chaoslab.engine.decision_watch import Subject, subjects
from chaoslab.history.rows import Answer
from chaoslab.judge.verdict import judge
from chaoslab.spec.stackfile.condition import Look
from chaoslab.spec.stackfile.topology import Topology

FIRE: dict[str, Any] = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "10s"}
KEY = {"request": {"method": "POST", "url": "http://store:7000/range", "json": {"key": "leader"}}}
SAYS: dict[str, Any] = {
    "decisions": {
        "detected": {**KEY, "changes": "revision || 'gone'"},
        "decided": {**KEY, "changes": "revision"},
    },
    "writers": {name: {"get": f"http://{name}:8000/leads", "expect": "leads"} for name in ("app-east", "app-west")},
}


class Says:
    """A stack that has a leader in the east, and another in the west from some seconds after the fire on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.fire_ns: int | None = None
        self.asked: list[str] = []

    def look(self, how: Look) -> Any:
        assert how.http is not None
        url = how.http.url[0]
        self.asked.append(url)
        since_s = -1.0 if self.fire_ns is None else (self._stage.clock.now_ns() - self.fire_ns) / 1e9
        if "store" in url:
            return {} if 3.0 <= since_s < 4.0 else {"revision": 5 if since_s < 3.0 else 7}
        if "east" in url:
            if since_s >= 0:
                raise NoAnswer("GET http://app-east:8000/leads: refused")
            return {"leads": True}
        return {"leads": since_s >= 5.0}


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Stage, Says]:
    stage = Stage(tmp_path, monkeypatch, FIRE, overlay={"x-chaoslab": SAYS}, failback={"within": "15s", "hold": "2s"})
    says = Says(stage)
    monkeypatch.setattr(Asking, "look", lambda _, how: says.look(how))

    def burn() -> None:
        says.fire_ns = stage.clock.now_ns()

    stage.when(lambda: stage.has_begun("faults"), burn)
    stage.play()
    return stage, says


def rows_about(stage: Stage, about: str, replica: str = "") -> list[Answer]:
    return [row for row in stage.rows if isinstance(row, Answer) and (row.about, row.replica) == (about, replica)]


def test_each_change_is_a_row_and_a_second_without_one(played: tuple[Stage, Says]) -> None:
    """So there are few, and a crash costs a second of them."""
    stage, _ = played
    found = rows_about(stage, "decided")
    values = [row.value for row in found]
    assert list(dict.fromkeys(values)) == ["5", None, "7"]
    assert values == sorted(values, key=["5", None, "7"].index)
    seconds = (found[-1].t_ns - found[0].asked_ns) / 1e9
    assert len(found) <= seconds + 4
    assert all(0 <= row.last_asked_ns - row.asked_ns <= 1e9 for row in found)
    gaps = [(after.asked_ns - before.t_ns) / 1e9 for before, after in pairwise(found)]
    assert max(gaps) <= 0.25


def test_what_is_read_from_one_answer_is_asked_for_once(played: tuple[Stage, Says]) -> None:
    """And both see the same."""
    stage, says = played
    assert list(dict.fromkeys(row.value for row in rows_about(stage, "detected"))) == ["5", "gone", "7"]
    asked = [url for url in says.asked if "store" in url]
    lasted_s = (rows_about(stage, "decided")[-1].t_ns - rows_about(stage, "decided")[0].asked_ns) / 1e9
    assert 4.5 <= len(asked) / lasted_s <= 5.6


def test_writers_are_told_with_their_site_and_no_answer_is_said(played: tuple[Stage, Says]) -> None:
    stage, _ = played
    east, west = rows_about(stage, "writes", "app-east"), rows_about(stage, "writes", "app-west")
    assert {(row.service, row.site) for row in (*east, *west)} == {("app", "east"), ("app", "west")}
    assert [row.value for row in west] == sorted((row.value is True) for row in west)
    assert {(row.value, row.error) for row in east} == {(True, None), (None, "GET http://app-east:8000/leads: refused")}


def test_the_observation_is_looked_at_to_its_end_and_no_longer(played: tuple[Stage, Says]) -> None:
    stage, _ = played
    ends = {row.phase: row.t_ns for row in stage.rows if getattr(row, "phase", "") and getattr(row, "event", "") == "end"}
    last_ns = max(row.t_ns for row in stage.rows if isinstance(row, Answer))
    assert -0.3 <= (last_ns - ends["failback"]) / 1e9 <= 0.1


def test_without_such_fields_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, monkeypatch, FIRE)
    stage.play()
    assert not [row for row in stage.rows if isinstance(row, Answer)]
    assert subjects(stage.stack.topology) == []


def test_a_watch_that_breaks_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing that it did not see would be known to be missing."""
    stage = Stage(tmp_path, monkeypatch, FIRE, overlay={"x-chaoslab": SAYS})

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Asking, "look", broken)
    stage.play()
    result = judge(stage.loaded.experiment, stage.loaded.compose.spec, stage.rows)
    assert (result.verdict, any("a bug" in reason for reason in result.reasons)) == ("error", True)


def test_a_value_that_json_does_not_know_is_told_as_text() -> None:
    """Such as the instant of a failover, as a driver of SQL returns it. Known bad: it ended the watch, unnoticed."""
    since = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
    assert Subject("decided", "[0]").value([{"since": since}]) == '{"since": "2026-11-22 02:00:00+00:00"}'


# --- from beside the replica


class Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        body = f'{{"asked": {asked}, "type": "{self.headers["Content-Type"]}"}}'.encode()
        self.send_response(503)  # says so, and says what it knows
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()


class Connected(FakeStack):
    """Can only be asked by clients beside its replicas."""

    server: tuple[str, int]
    calls: list[tuple[str, int, str]]

    def address(self, replica: str, port: int, *, seen_from: str = "outside") -> Any:
        raise AssertionError("nobody may ask from outside")

    def connect(self, replica: str, port: int, *, seen_from: str, timeout_s: float) -> socket.socket:
        self.calls.append((replica, port, seen_from))
        return socket.create_connection(self.server, timeout=timeout_s)


def test_a_replica_is_asked_from_its_own_place(
    server: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that cuts its site off does not hide what it says; a status that is not 2xx does not, either."""
    topology: Topology = Stage(tmp_path, monkeypatch, FIRE).stack.topology
    stack = Connected(topology)
    stack.server, stack.calls = server, []
    look = Look.model_validate({"request": {"method": "POST", "url": "http://app-east:8000/x?y=1", "json": {"key": 1}}})
    found = Asking(stack, sent_from=BESIDE).look(look)
    assert found == {"asked": {"key": 1}, "type": "application/json"}
    assert stack.calls == [("app-east", 8000, "east")]


def test_a_replica_that_does_not_answer_is_an_answer_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        stack = Connected(Stage(tmp_path, monkeypatch, FIRE).stack.topology)
        stack.server, stack.calls = deaf.getsockname(), []
        with pytest.raises(NoAnswer, match="GET http://app-west:8000/: no answer in time"):
            Asking(stack, look_s=0.05, sent_from=BESIDE).look(Look(get="http://app-west:8000/"))


def test_an_answer_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps a connection alive. Known bad: nobody looked at that replica any more."""
    with socket.create_server(("127.0.0.1", 0)) as trickling:

        def serve() -> None:
            connection, _ = trickling.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(100):
                    connection.sendall(b" ")
                    time.sleep(0.03)

        threading.Thread(target=serve, daemon=True).start()
        stack = Connected(Stage(tmp_path, monkeypatch, FIRE).stack.topology)
        stack.server, stack.calls = trickling.getsockname(), []
        began_s = time.monotonic()
        with pytest.raises(NoAnswer, match="no answer in time"):
            Asking(stack, look_s=0.2, sent_from=BESIDE).look(Look(get="http://app-west:8000/"))
        assert time.monotonic() - began_s < 2


def test_a_request_that_cannot_be_written_is_an_answer_in_words(
    server: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known bad: it ended the watch, unnoticed."""
    stack = Connected(Stage(tmp_path, monkeypatch, FIRE).stack.topology)
    stack.server, stack.calls = server, []
    with pytest.raises(NoAnswer, match="UnicodeEncodeError"):
        Asking(stack, sent_from=BESIDE).look(Look(get="http://app-west:8000/지도자"))
