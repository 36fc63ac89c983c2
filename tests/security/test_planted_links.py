"""A link that somebody else has put where a file of ours goes is never followed."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from chaoslab.cleanup import active_runs
from chaoslab.cleanup.journal import RemoveFolder, UndoJournal
from chaoslab.errors import ChaoslabError
from chaoslab.files import open_new, open_to_append
from chaoslab.history import writer
from chaoslab.history.writer import HistoryWriter, write_whole
from chaoslab.probe.row_writer import RowWriter
from chaoslab.process import spawn

THEIRS = b"somebody's own words\n"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    path = tmp_path / "theirs"
    path.write_bytes(THEIRS)
    return path


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where others may write, too; the registry is there as well."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "chaoslab"
    folder.mkdir(mode=0o700)
    return folder


def block(path: Path) -> None:
    active_runs.block()


WRITERS = {
    "history.jsonl": lambda path: HistoryWriter(path).close(),
    "prober.jsonl": lambda path: RowWriter(path).close(),
    "undo.jsonl": lambda path: UndoJournal(path).plan(RemoveFolder("/nowhere")),
    "entry.log": lambda path: spawn(["true"], log=path).wait(),
    "r1.run": lambda path: active_runs.enter("r1"),
    "blocked": block,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("dangling", [True, False])
def test_a_planted_link_is_refused(shared: Path, theirs: Path, name: str, dangling: bool) -> None:
    """Known bad: what it leads to was written to, or made."""
    if dangling:
        theirs.unlink()
    (shared / name).symlink_to(theirs)
    if name == "blocked" and not dangling:
        assert active_runs.blocked() == THEIRS.decode().strip()  # read, and never written
        WRITERS[name](shared / name)
    else:
        with pytest.raises((ChaoslabError, OSError)):
            WRITERS[name](shared / name)
    assert theirs.exists() is not dangling
    assert dangling or theirs.read_bytes() == THEIRS


def test_a_draft_is_never_written_through_a_link(shared: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: the name of a draft was the process's number, which anybody can see; now not even a guess helps."""
    (shared / f".bundle.{os.getpid()}").symlink_to(theirs)
    write_whole(shared / "bundle", b"ours")
    monkeypatch.setattr(writer, "token_hex", lambda length: "guessed")
    (shared / ".bundle.guessed").symlink_to(theirs)
    with pytest.raises(ChaoslabError, match="cannot write"):
        write_whole(shared / "bundle", b"ours again")
    assert theirs.read_bytes() == THEIRS
    assert (shared / ".bundle.guessed").is_symlink()  # not ours to remove
    assert (shared / "bundle").read_bytes() == b"ours"


def test_a_link_at_the_target_is_replaced_and_not_followed(shared: Path, theirs: Path) -> None:
    """`export` to a folder that others write to."""
    (shared / "bundle").symlink_to(theirs)
    write_whole(shared / "bundle", b"ours")
    assert theirs.read_bytes() == THEIRS
    assert not (shared / "bundle").is_symlink()


def test_locust_s_rows_are_not_written_through_a_link(shared: Path, theirs: Path) -> None:
    """Its processes open them for themselves."""
    (shared / "rows.tsv").symlink_to(theirs)
    script = "from chaoslab.load import locust_plugin as l; from types import SimpleNamespace as S; l._on_init(S(runner=None))"
    env = {**os.environ, "CHAOSLAB_LOAD_ROWS": str(shared / "rows.tsv")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert "Too many levels of symbolic links" in done.stderr
    assert theirs.read_bytes() == THEIRS


def test_files_are_private_and_a_new_one_is_new(tmp_path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0)
    try:
        name = tmp_path / secrets.token_hex(4)
        os.close(open_new(name))
        os.close(open_to_append(name))
        assert name.stat().st_mode & 0o777 == 0o600
        with pytest.raises(FileExistsError):
            open_new(name)
    finally:
        os.umask(before)
