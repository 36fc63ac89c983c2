"""Who is at work on this machine, and who may begin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaoslab.cleanup import active_runs
from chaoslab.cleanup.journal import RemoveFolder, UndoJournal
from chaoslab.cleanup.stop import stop_all
from chaoslab.errors import EnvironmentFault, SpecError

HOLD = (
    "import sys; from chaoslab.cleanup import active_runs; place = active_runs.enter('other'); "
    "print('in', flush=True); sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of this test's own: other runs of this machine must not notice."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "chaoslab"


def test_a_run_is_known_while_it_lives(own: Path) -> None:
    """By its lock, which the kernel lets go of whatever ends the process; its file stays for who heals."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert [(entry.run_id, entry.pid, alive) for entry, alive in active_runs.entries()] == [("other", child.pid, True)]
        active_runs.forget("other")
        assert active_runs.alive("other")
        child.kill()
        child.wait()
        assert [alive for _, alive in active_runs.entries()] == [False]
        active_runs.forget("other")
        assert active_runs.entries() == []


def test_a_run_that_ended_clean_leaves_no_trace(own: Path) -> None:
    """And one that left something stays known."""
    active_runs.enter("clean").leave(done=True)
    active_runs.enter("unclean").leave(done=False)
    assert [entry.run_id for entry, _ in active_runs.entries()] == ["unclean"]
    assert own.stat().st_mode & 0o777 == 0o700


def test_stop_blocks_ends_and_heals(own: Path, tmp_path: Path) -> None:
    """A run on its way is ended; one that died is undone from its journal; a second stop finds nothing; resume lets go."""
    data = tmp_path / "data"
    data.mkdir()
    journal = UndoJournal(tmp_path / "undo.jsonl")
    journal.plan(RemoveFolder(str(data)))
    active_runs.enter("dead", journal.path).leave(done=False)
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        said = [text for text, left in stop_all(grace_s=10.0) if left == []]
        assert child.wait() != 0
    assert len(said) == 2
    assert "had already ended; nothing is left behind" in said[0]
    assert not data.exists()
    assert list(stop_all()) == []
    with pytest.raises(SpecError, match="chaoslab resume"):
        active_runs.enter("new")
    assert active_runs.entries() == []
    assert [active_runs.unblock(), active_runs.unblock()] == [True, False]
    active_runs.enter("new").leave(done=True)


def test_a_run_that_does_not_end_is_killed(own: Path) -> None:
    """Known bad: it takes no notice of SIGTERM."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + HOLD
    with subprocess.Popen([sys.executable, "-c", deaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (said, left), *_ = stop_all(grace_s=0.3)
        assert child.wait() == -9
    assert "was killed" in said
    assert left == []


def test_a_folder_that_others_could_have_made_is_refused(own: Path) -> None:
    """Known bad: in a folder for everybody anyone may be first."""
    own.mkdir(mode=0o755)
    with pytest.raises(EnvironmentFault, match="not a private folder"):
        active_runs.enter("x")
    own.rmdir()
    own.symlink_to("/tmp")
    with pytest.raises(EnvironmentFault, match="not a private folder"):
        active_runs.enter("x")


def test_a_registry_that_cannot_be_written_is_told_plainly(tmp_path: Path) -> None:
    """A full disk, or here a limit on the size of files: what, where and the cure, and no entry is left."""
    script = (
        "import resource, sys; from pathlib import Path; from chaoslab.cleanup import active_runs as registry\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: registry.enter('a-run', Path('j'))\n"
        "except registry.EnvironmentFault as told: sys.exit(str(told))\n"
    )
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, "cannot write" in ended.stderr) == (1, True), ended.stderr
    assert not list((tmp_path / "chaoslab").glob("*a-run*"))
