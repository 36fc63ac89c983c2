"""The undo journal: on disk before the change, undone backwards, harmless twice, and carried out when the harness is gone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chaoslab import reaper
from chaoslab.clock import Deadline, wait_until
from chaoslab.process import marked, spawn
from chaoslab.undo import EndProcesses, RemoveFolder, RunCommand, UndoJournal, open_steps, undo


def test_a_planned_step_is_on_disk_when_plan_returns(tmp_path: Path) -> None:
    """Another process can read it at once."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    journal.plan(RemoveFolder("/nowhere"))
    assert json.loads(journal.path.read_text()) == {"undo": "remove-folder", "path": "/nowhere"}


def test_steps_are_undone_backwards_and_once(tmp_path: Path) -> None:
    """The latest change goes first; a second undo finds nothing open."""
    journal, order = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "order"
    for name in ("first", "second"):
        script = f"open({str(order)!r}, 'a').write({name!r} + ' ')"
        journal.plan(RunCommand([sys.executable, "-c", script], str(tmp_path), 10.0))
    assert undo(journal.path) == []
    assert order.read_text() == "second first "
    assert open_steps(journal.path) == []
    assert undo(journal.path) == []
    assert order.read_text() == "second first "


def test_what_could_not_be_undone_is_said_and_stays_open(tmp_path: Path) -> None:
    """A failing undo command does not keep the others from being undone."""
    journal, folder = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "data"
    folder.mkdir()
    journal.plan(RemoveFolder(str(folder)))
    journal.plan(RunCommand(["/no/such/program"], str(tmp_path), 1.0))
    left = undo(journal.path)
    assert len(left) == 1
    assert "/no/such/program" in left[0]
    assert not folder.exists()
    assert [number for number, _ in open_steps(journal.path)] == [1]


def test_a_line_cut_short_by_a_crash_counts_as_absent(tmp_path: Path) -> None:
    """The change that it announced had not been made yet."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    journal.plan(RemoveFolder("/nowhere"))
    with journal.path.open("a") as torn:
        torn.write('{"undo": "remove-fol')
    assert len(open_steps(journal.path)) == 1


@pytest.fixture
def sleeper(tmp_path: Path):
    """A marked process that starts a child in a session of its own, as daemons do."""
    script = "import subprocess,sys,time; subprocess.Popen(['sleep','300'],start_new_session=True); time.sleep(300)"
    child = spawn([sys.executable, "-c", script], log=tmp_path / "log", env={**os.environ, "CHAOSLAB_TEST": str(tmp_path)})
    wait_until("both", lambda: (len(marked("CHAOSLAB_TEST", str(tmp_path))) == 2, None), Deadline.after(10))
    yield child
    undo_all = EndProcesses("CHAOSLAB_TEST", str(tmp_path))
    UndoJournal(tmp_path / "cleanup.jsonl").plan(undo_all)
    undo(tmp_path / "cleanup.jsonl")
    child.wait()


def test_processes_are_found_by_their_mark_and_killed_with_their_daemons(sleeper, tmp_path: Path) -> None:
    """A daemon that left its parent's session is found all the same."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    journal.plan(EndProcesses("CHAOSLAB_TEST", str(tmp_path)))
    assert undo(journal.path) == []
    assert marked("CHAOSLAB_TEST", str(tmp_path)) == []


def test_other_processes_are_left_alone(sleeper, tmp_path: Path) -> None:
    """Only what carries this run's mark is touched."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    journal.plan(EndProcesses("CHAOSLAB_TEST", "another run"))
    assert undo(journal.path) == []
    assert len(marked("CHAOSLAB_TEST", str(tmp_path))) == 2


def test_the_reaper_cleans_up_after_a_harness_that_was_killed(sleeper, tmp_path: Path) -> None:
    """SIGKILL leaves no chance to clean up; the reaper has one."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    journal.plan(EndProcesses("CHAOSLAB_TEST", str(tmp_path)))
    script = (
        "import sys,time; from pathlib import Path; from chaoslab import reaper;"
        f"reaper.start(Path({str(journal.path)!r}), 'a-run'); print('up', flush=True); time.sleep(300)"
    )
    harness = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"up\n"
    os.killpg(harness.pid, signal.SIGKILL)
    harness.wait()
    wait_until("the reaper", lambda: (not marked("CHAOSLAB_TEST", str(tmp_path)), None), Deadline.after(10))
    wait_until("its note", lambda: (open_steps(journal.path) == [], None), Deadline.after(10))


def test_a_dismissed_reaper_says_whether_anything_is_left(tmp_path: Path) -> None:
    """0 when all is undone, 1 when not."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    assert reaper.dismiss(reaper.start(journal.path, "a-run")) == 0
    journal.plan(RunCommand(["/no/such/program"], str(tmp_path), 1.0))
    assert reaper.dismiss(reaper.start(journal.path, "a-run")) == 1
