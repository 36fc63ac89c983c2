"""The archive of backups: what it keeps, what it refuses, and what PostgreSQL's commands make of its answers."""
# ruff: noqa: S310 - all addresses are of this machine

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from real_servers import free_port

import archive_client
import offsite
from archive import Archive, Refused
from database import configuration
from recover import RestoreOrder, _WaitingNode, await_restore_order
from restore_plan import NotRestorable, plan
from wal import Segment, Switch, header_of, lsn_of, lsn_text, switches_in

MB = 1 << 20
NAME = "000000010000000000000003"


# --- the folder -------------------------------------------------------------------------------------------------


def test_what_was_archived_is_kept_once(tmp_path: Path) -> None:
    """Again with the same content is the same; known bad: another content, as a second cluster would send it."""
    archive = Archive(tmp_path)
    archive.put_wal(NAME, b"one")
    archive.put_wal(NAME, b"one")
    with pytest.raises(Refused, match="with different content"):
        archive.put_wal(NAME, b"two")
    assert [(entry.kind, entry.name, entry.size) for entry in archive.entries()] == [("wal", NAME, 3)]
    assert (archive.wal / NAME).read_bytes() == b"one"


def test_a_journal_that_a_crash_cut_short_is_read(tmp_path: Path) -> None:
    """Without its last line; known bad: a broken line in the middle."""
    archive = Archive(tmp_path)
    archive.put_wal(NAME, b"one")
    whole = (tmp_path / "journal").read_text()
    (tmp_path / "journal").write_text(whole + '{"kind": "w')
    assert len(archive.entries()) == 1
    (tmp_path / "journal").write_text('{"kind": "w\n' + whole)
    with pytest.raises(ValueError, match="Unterminated"):
        archive.entries()


def test_an_archive_goes_on_after_a_crash_cut_its_journal_short(tmp_path: Path) -> None:
    """Known bad: the next line joined the half one, and from then on the archive took and gave nothing."""
    archive = Archive(tmp_path)
    archive.put_wal(NAME, b"one")
    with (tmp_path / "journal").open("a") as journal:
        journal.write('{"kind": "w')
    archive.put_wal("000000010000000000000004", b"two")
    assert [entry.size for entry in Archive(tmp_path).entries()] == [3, 3]


def test_a_base_backup_is_moved_in_whole(tmp_path: Path) -> None:
    archive, part = Archive(tmp_path / "archive"), tmp_path / "archive" / "part"
    part.mkdir(parents=True)
    (part / "backup_manifest").write_bytes(b"{}")
    name = archive.put_base(part, "4711")
    assert (archive.bases / name / "backup_manifest").read_bytes() == b"{}"
    assert not part.exists()
    assert archive.status()["base"]["name"] == name
    assert archive.entries()[-1].system == "4711"


def wait_for_bases(archive: Archive, tries: int) -> list[str]:
    """What the server said in its first tries to take a base backup, after which it would go on."""
    said: list[str] = []

    async def some() -> None:
        taking = asyncio.create_task(offsite.take_bases(archive, said.append))
        while len(said) < tries and not taking.done():
            await asyncio.sleep(0.01)
        assert not taking.done(), taking.exception()
        taking.cancel()

    asyncio.run(some())
    return said


def test_base_backups_go_on_after_the_disk_was_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: the first error other than PostgreSQL's ended them for ever, and the service went on."""
    monkeypatch.setenv("DATABASE", "127.0.0.1:9")
    monkeypatch.setenv("REPLICATION_PASSWORD", "x")
    monkeypatch.setattr(offsite, "RETRY_S", 0.01)
    (tmp_path / "file").touch()
    said = wait_for_bases(Archive(tmp_path / "file"), 2)
    assert all(line.startswith("no base backup: ") for line in said)


@pytest.mark.parametrize(
    ("cause", "folder"),
    [("archive missing", "nowhere"), ("base missing", "archive")],
)
def test_an_archive_without_a_base_is_no_backup(tmp_path: Path, cause: str, folder: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("postgres", "pg_controldata", "pg_verifybackup", "pg_waldump"):
        (tools / name).touch()
    Archive(tmp_path / "archive").folder.mkdir()
    Archive(tmp_path / "archive").put_wal(NAME, b"x")
    with pytest.raises(NotRestorable) as refused:
        plan(Archive(tmp_path / folder), tools)
    assert [problem.cause for problem in refused.value.problems] == [cause]


def test_a_restore_without_its_programs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotRestorable, match="programs missing: postgres"):
        plan(Archive(tmp_path), tmp_path / "bin")


# --- segments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "number"),
    [(NAME, 16 * MB, 3), ("0000000200000001000000FF", 16 * MB, 511), ("000000010000000100000FFF", MB, 8191)],
)
def test_a_segment_is_known_by_its_name(name: str, size: int, number: int) -> None:
    """And gets the same name again."""
    segment = Segment.named(name, size)
    assert (segment.number, segment.begin, segment.name) == (number, number * size, name)
    assert Segment.holding(segment.timeline, segment.begin + size - 1, size) == segment


def test_histories_and_addresses_are_read_as_postgresql_writes_them() -> None:
    text = "1\t0/3000110\tno recovery target specified\n\n2\t1/A0\tbefore 2026-11-27\n"
    assert switches_in(text) == [Switch(1, 0x3000110), Switch(2, 0x1000000A0)]
    assert lsn_text(lsn_of("1/A0")) == "1/000000A0"
    assert header_of(b"\0" * 64) is None
    with pytest.raises(ValueError, match="not the name"):
        Segment.named("00000002.history", MB)


# --- PostgreSQL's commands --------------------------------------------------------------------------------------


@contextmanager
def answering(status: int, body: bytes = b"", cut: int = 0) -> Iterator[str]:
    """A server that always answers this; `cut`: so many bytes of it never come."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) - cut])

        do_PUT = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 1), (500, 126)])
def test_a_fetch_tells_the_end_of_the_archive_from_its_silence(tmp_path: Path, status: int, code: int) -> None:
    """PostgreSQL takes 1 for the end, and ends with 126."""
    with answering(status, b"content") as address:
        assert archive_client.main("fetch", address, NAME, str(tmp_path / "f")) == code
    assert (tmp_path / "f").exists() == (code == 0)


def test_a_fetch_without_an_answer_is_not_the_end(tmp_path: Path) -> None:
    """Known bads: nobody listens, and an answer that is cut short."""
    assert archive_client.main("fetch", f"127.0.0.1:{free_port()}", NAME, str(tmp_path / "f")) == 126
    with answering(200, b"content", cut=3) as address:
        assert archive_client.main("fetch", address, NAME, str(tmp_path / "f")) == 126
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "code"), [(200, 0), (409, 1), (404, 1)])
def test_a_push_is_done_only_when_it_was_taken(tmp_path: Path, status: int, code: int) -> None:
    (tmp_path / "f").write_bytes(b"content")
    with answering(status) as address:
        assert archive_client.main("push", address, NAME, str(tmp_path / "f")) == code


# --- a node with an empty disk ----------------------------------------------------------------------------------


def node(archive: str, peer: str = "127.0.0.1:9") -> dict[str, str]:
    return {"ARCHIVE": archive, "LISTEN_REST": f"127.0.0.1:{free_port()}", "PEER_REST": peer}


def test_a_node_begins_where_the_archive_is_empty() -> None:
    with answering(200, b'{"bases": 0, "segments": 0}') as archive:
        assert await_restore_order(node(archive)) is None


def test_a_node_follows_another_that_leads() -> None:
    with answering(200, b'{"bases": 1, "segments": 9}') as archive, answering(200) as peer:
        assert await_restore_order(node(archive, peer)) is None


def test_a_node_waits_for_its_order_where_there_is_something_to_restore() -> None:
    """The archive's answer is the plan here, too: it has `bases`, `base` and `until`."""
    body = json.dumps({"bases": 1, "segments": 9, "base": "b1", "until": None}).encode()
    with answering(200, body) as archive:
        env, found = node(archive), list[RestoreOrder | None]()
        waiting = threading.Thread(target=lambda: found.append(await_restore_order(env)))
        waiting.start()
        url = f"http://{env['LISTEN_REST']}"
        asyncio.run(_until_answered(f"{url}/health"))
        assert waiting.is_alive()
        order = urllib.request.Request(f"{url}/restore", data=b'{"until": "latest"}', method="POST")
        with urllib.request.urlopen(order, timeout=5) as answer:
            assert answer.status == 202
        waiting.join(5)
    assert found == [RestoreOrder("b1", None)]


async def _until_answered(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            await asyncio.sleep(0.02)
    raise AssertionError(f"{url} does not answer")


def test_a_node_hands_on_why_a_restore_is_refused() -> None:
    """Known bad: the plan found problems; no order is given."""
    with answering(409, b'{"problems": ["segment missing: 3"]}') as archive:
        waiting = _WaitingNode(archive)
        assert waiting.take(b"{}") == (409, b'{"problems": ["segment missing: 3"]}')
        assert waiting.order is None
    assert waiting.take(b"[]")[0] == 400


def test_a_restore_replaces_the_creation_of_the_cluster() -> None:
    """No schema is written into it, and it follows the newest timeline; with a moment it stops there."""
    env = {
        **{"NAME": "pg", "DATA": "/d", "ETCD": "e:2379", "ARCHIVE": "a:1", "LISTEN": "l:1", "LISTEN_REST": "l:2"},
        **{
            "ADVERTISE": "l:1",
            "ADVERTISE_REST": "l:2",
            "ADMIN_PASSWORD": "x",
            "REPLICATION_PASSWORD": "x",
            "WAL_SEGMENT_MB": "1",
        },
    }
    created, restored = (
        configuration(env)["bootstrap"],
        configuration(env, RestoreOrder("b1", "2026-11-27 10:00:00+00:00"))["bootstrap"],
    )
    assert {"wal-segsize": "1"} in created["initdb"]
    assert "post_bootstrap" in created
    assert "post_bootstrap" not in restored
    assert restored["restore"]["command"].endswith("recover.py a:1 b1 /d/postgres")
    recovery = restored["restore"]["recovery_conf"]
    assert recovery["recovery_target_timeline"] == "latest"
    assert recovery["recovery_target_time"] == "2026-11-27 10:00:00+00:00"
    assert configuration(env)["postgresql"]["parameters"]["archive_mode"] == "on"
    assert "archive_mode" not in configuration({k: v for k, v in env.items() if k != "ARCHIVE"})["postgresql"]["parameters"]
