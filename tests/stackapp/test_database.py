"""The database's launcher: what it asks of Patroni, and how it waits for a quorum."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

import database
from database import WAITING, configuration, has_cluster_version, has_quorum, wait_for_quorum
from database_promotes_itself import PATIENCE_S, Peer, PromotesItself
from database_starts_as_leader import ALONE_S, StartsAsLeader

GONE = "127.0.0.1:9"


class Member(BaseHTTPRequestHandler):
    """An etcd member's /health and /version; the class says what they answer."""

    status = 200
    cluster = "3.5.0"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/version" else self.status)
        self.end_headers()
        if self.path == "/version":
            self.wfile.write(json.dumps({"etcdserver": "3.5.1", "etcdcluster": self.cluster}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def member() -> Iterator[str]:
    Member.status, Member.cluster = 200, "3.5.0"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Member)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def environment(tmp_path: Path) -> dict[str, str]:
    names = ("ADMIN_PASSWORD", "REPLICATION_PASSWORD", "APP_PASSWORD")
    addresses = {"LISTEN": "127.0.0.1:1", "LISTEN_REST": "127.0.0.1:2", "ADVERTISE": "pg:5432", "ADVERTISE_REST": "pg:8008"}
    return {"NAME": "pg", "DATA": str(tmp_path), "ETCD": "a:1,b:2,c:3", **addresses, **dict.fromkeys(names, "x")}


def test_nothing_acknowledged_may_be_lost_and_a_survivor_may_serve(tmp_path) -> None:
    """Synchronous but not strictly so, with fsync, and only a standby that was synchronous may lead."""
    cluster = configuration(environment(tmp_path))["bootstrap"]["dcs"]
    assert cluster["synchronous_mode"] is True
    assert "synchronous_mode_strict" not in cluster
    assert cluster["postgresql"]["parameters"]["synchronous_commit"] == "on"
    assert cluster["postgresql"]["parameters"]["fsync"] == "on"


def test_patroni_takes_the_timings(tmp_path) -> None:
    """Patroni demotes an isolated leader before another is promoted only when loop_wait + 2 * retry_timeout <= ttl."""
    cluster = configuration(environment(tmp_path))["bootstrap"]["dcs"]
    assert (cluster["ttl"], cluster["loop_wait"], cluster["retry_timeout"]) == (20, 1, 3)
    assert cluster["loop_wait"] + 2 * cluster["retry_timeout"] <= cluster["ttl"]


def test_a_member_without_a_leader_is_no_quorum(member) -> None:
    """Only a member that answers 200 counts; one that is gone does not."""
    assert has_quorum(member)
    Member.status = 503
    assert not has_quorum(member)
    assert not has_quorum(GONE)


@pytest.mark.parametrize("has_data", [True, False])
def test_only_a_node_with_data_calls_waiting_healthy(member, tmp_path, has_data) -> None:
    """While it waits, a node that was initialised before leaves its mark; a new one does not, so its boot is awaited."""
    if has_data:
        control = tmp_path / "postgres" / "global" / "pg_control"
        control.parent.mkdir(parents=True)
        control.touch()
    Member.status = 503
    waiting = threading.Thread(target=wait_for_quorum, args=(tmp_path, [GONE, member]))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    assert (tmp_path / WAITING).exists() == has_data
    Member.status = 200
    waiting.join(5)
    assert not waiting.is_alive()
    assert not (tmp_path / WAITING).exists()


@pytest.mark.parametrize("newborn", ["3.0.0", "not_decided"])
def test_a_cluster_that_was_just_born_is_waited_for(member, newborn) -> None:
    """Patroni takes 3.0.0 at its word, speaks an API that is not there, and ends."""
    assert has_cluster_version(member)
    Member.cluster = newborn
    assert has_quorum(member)
    assert not has_cluster_version(member)
    assert not has_cluster_version(GONE)


def test_a_mark_that_a_crash_left_is_taken_away(member, tmp_path) -> None:
    """A stale mark of an earlier life never makes a new node look healthy."""
    (tmp_path / WAITING).touch()
    wait_for_quorum(tmp_path, [member])
    assert not (tmp_path / WAITING).exists()


def test_patroni_asks_first_the_member_that_answered(member, tmp_path, monkeypatch) -> None:
    """Known bad: after a black start the first of the list was in the dark site, Patroni gave up on it, and nothing came up."""
    became: dict[str, str] = {}
    for name, value in {**environment(tmp_path), "ETCD": f"{GONE},{member},other:1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(database.os, "execvpe", lambda _program, _words, env: became.update(env))
    database.main()
    assert json.loads(became["PATRONI_CONFIGURATION"])["etcd3"]["hosts"] == [member, GONE, "other:1"]


def test_known_bad_node_takes_silence_for_a_death_once_it_was_answered() -> None:
    """Or it would promote itself at its first boot, before there is another node."""
    other = Peer(GONE, 1.0)
    assert not other.silent
    other._answered_at = time.monotonic()
    assert not other.silent
    other._answered_at -= PATIENCE_S
    assert other.silent


@pytest.mark.parametrize(("answers_s", "heard"), [(0.05, False), (2.0, True)])
def test_known_bad_node_takes_a_late_answer_for_none(answers_s: float, heard: bool) -> None:
    """The other node answers after 200 ms, as over a slow link."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = Peer(f"127.0.0.1:{server.getsockname()[1]}", answers_s)
        connection, _ = server.accept()
        with connection:
            time.sleep(0.2)
            connection.sendall(b"N")
            time.sleep(0.2)
        assert (other._answered_at is not None) is heard


@pytest.mark.parametrize(("silent", "calls"), [(True, [("promote", "-W")]), (False, [])])
def test_known_bad_standby_promotes_itself_in_the_silence(monkeypatch, silent: bool, calls: list[tuple[str, str]]) -> None:
    """While the other node answers, Patroni decides, as on every node."""
    monkeypatch.setattr("patroni.ha.Ha._run_cycle", lambda _: "as Patroni says")
    node = PromotesItself.__new__(PromotesItself)
    node._peer, node.state_handler = SimpleNamespace(silent=silent), Mock()
    node.state_handler.is_primary.return_value = False
    assert ("without the lock" in node._run_cycle()) is silent
    assert [call.args for call in node.state_handler.pg_ctl.call_args_list] == calls


@pytest.mark.parametrize("left_s", [ALONE_S, 0.0])
def test_known_bad_leader_starts_as_it_was_for_a_while(monkeypatch, left_s: float) -> None:
    """Then Patroni decides."""
    monkeypatch.setattr("patroni.ha.Ha._run_cycle", lambda _: "as Patroni says")
    node = StartsAsLeader.__new__(StartsAsLeader)
    node._until, node.state_handler = time.monotonic() + left_s, Mock()
    node.state_handler.is_running.return_value = False
    assert ("without the lock" in node._run_cycle()) is (left_s > 0)
    assert node.state_handler.start.called is (left_s > 0)
