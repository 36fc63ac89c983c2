"""The undo journal: on disk before the change, undone backwards, harmless twice, and carried out when the harness is gone."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from chaoslab.cleanup import active_runs, reaper
from chaoslab.cleanup.journal import EndProcesses, RemoveFolder, RunCommand, UndoJournal, open_steps, undo
from chaoslab.clock import Deadline, wait_until
from chaoslab.errors import EnvironmentFault
from chaoslab.faults.command import Exec, ExecFault
from chaoslab.process import marked, spawn
from chaoslab.redact import Secrets


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


@pytest.mark.parametrize("command", [["sh", "-c", "printf '\\377' >&2; exit 1"], ["echo", "\0"]])
def test_a_step_that_breaks_in_any_way_does_not_keep_the_others(tmp_path: Path, command: list[str]) -> None:
    """Known bad: bytes that are no text, and words that no program can be given."""
    journal, folder = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "data"
    folder.mkdir()
    journal.plan(RemoveFolder(str(folder)))
    journal.plan(RunCommand(command, str(tmp_path), 5.0))
    assert len(undo(journal.path)) == 1
    assert not folder.exists()


def test_a_line_cut_short_by_a_crash_counts_as_absent(tmp_path: Path) -> None:
    """The change that it announced had not been made yet."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    journal.plan(RemoveFolder("/nowhere"))
    with journal.path.open("a") as torn:
        torn.write('{"undo": "remove-fol')
    assert len(open_steps(journal.path)) == 1


def test_a_heal_that_fails_stays_open_until_it_works(tmp_path: Path) -> None:
    """Its exit status says so; what could be undone is not undone again."""
    journal, hindrance, order = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "hindrance", tmp_path / "order"
    hindrance.touch()
    for name, works in (("fussy", f"not pathlib.Path({str(hindrance)!r}).exists()"), ("easy", "True")):
        script = f"import pathlib; open({str(order)!r}, 'a').write('{name} '); raise SystemExit(not ({works}))"
        journal.plan(RunCommand([sys.executable, "-c", script], str(tmp_path), 10.0))
    assert "exit status 1" in undo(journal.path)[0]
    hindrance.unlink()
    assert undo(journal.path) == []
    assert order.read_text() == "easy fussy fussy "


def test_a_journal_that_was_cut_short_is_written_on(tmp_path: Path) -> None:
    """The torn line stays by itself, and the numbers of later steps are those of their lines."""
    journal, folder = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "data"
    folder.mkdir()
    journal.plan(RemoveFolder("/nowhere"))
    with journal.path.open("a") as torn:
        torn.write('{"undo": "remove-fol')
    assert journal.plan(RemoveFolder(str(folder))) == 2
    assert undo(journal.path) == []
    assert not folder.exists()
    assert open_steps(journal.path) == []


def test_what_cannot_be_planned_must_not_be_done(tmp_path: Path) -> None:
    """Known bad: the journal cannot be written. A note of what is done already may be lost: undoing twice is no harm."""
    journal = UndoJournal(tmp_path / "no such folder" / "undo.jsonl")
    with pytest.raises(EnvironmentFault, match="no change may be made"):
        journal.plan(RemoveFolder("/nowhere"))
    journal.done(0)


def test_undoing_says_what_it_did(sleeper, tmp_path: Path) -> None:
    """Each thing that was there, and nothing that was not."""
    journal, folder, said = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "data", list[str]()
    folder.mkdir()
    for step in (RemoveFolder(str(folder)), RemoveFolder("/nowhere"), EndProcesses("CHAOSLAB_TEST", str(tmp_path))):
        journal.plan(step)
    assert undo(journal.path, said.append) == []
    assert len(said) == 2
    assert "sleep 300" in said[0]
    assert said[1] == f"removed the folder {folder}"


def test_one_undoes_at_a_time(tmp_path: Path) -> None:
    """Who heals by hand beside the reaper waits for it, and finds nothing left to do."""
    journal, order = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "order"
    script = f"import time; open({str(order)!r}, 'a').write('begin '); time.sleep(0.3); open({str(order)!r}, 'a').write('end ')"
    journal.plan(RunCommand([sys.executable, "-c", script], str(tmp_path), 10.0))
    with ThreadPoolExecutor(2) as both:
        assert [*both.map(undo, [journal.path] * 2)] == [[], []]
    assert order.read_text() == "begin end "


def test_an_injection_under_way_ends_before_its_heal(tmp_path: Path) -> None:
    """Known bad: a command that bites only after it has been healed."""
    bitten, begun = tmp_path / "bitten", tmp_path / "begun"
    slow = f"import time, pathlib; pathlib.Path({str(begun)!r}).touch(); time.sleep(1); pathlib.Path({str(bitten)!r}).touch()"
    inject = [sys.executable, "-c", slow]
    spec = Exec(id="bite", fault="exec", inject=inject, heal=["rm", "-f", str(bitten)], verify=["test", "-e", str(bitten)])
    fault, journal = ExecFault(spec, cast("Any", None)), UndoJournal(tmp_path / "undo.jsonl")
    for step in fault.undo_steps():
        journal.plan(step)
    with ThreadPoolExecutor(1) as other:
        injecting = other.submit(fault.inject)
        wait_until("the command", lambda: (begun.exists(), None), Deadline.after(10))
        assert undo(journal.path) == []
        assert injecting.exception() is not None
    assert not bitten.exists()


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
    log = tmp_path / "logs" / "pay.log"
    log.parent.mkdir()
    log.write_text("signed in with hunter2-and-more\n")
    script = (
        "import sys,time; from pathlib import Path; from chaoslab.cleanup import reaper; from chaoslab.redact import Secrets;"
        f"reaper.start(Path({str(journal.path)!r}), 'a-run', Secrets(frozenset(['hunter2-and-more'])));"
        "print('up', flush=True); time.sleep(300)"
    )
    harness = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"up\n"
    os.killpg(harness.pid, signal.SIGKILL)
    harness.wait()
    wait_until("the reaper", lambda: (not marked("CHAOSLAB_TEST", str(tmp_path)), None), Deadline.after(10))
    wait_until("its note", lambda: (open_steps(journal.path) == [], None), Deadline.after(10))
    wait_until(
        "the secret to be covered", lambda: (log.read_text() == "signed in with ***\n", log.read_text()), Deadline.after(10)
    )


def test_one_log_that_cannot_be_covered_is_said_and_keeps_no_other_from_it(tmp_path: Path) -> None:
    """Known bad: a name so long that no draft fits beside it. Whoever passes the folder on must know."""
    journal, logs = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "logs"
    logs.mkdir()
    for name in ("a" * 254, "pay.log"):
        (logs / name).write_text("hunter2-and-more\n")
    journal.plan(RunCommand(["sh", "-c", "echo hunter2-and-more >&2; exit 1"], str(tmp_path), 5.0))
    assert reaper.dismiss(reaper.start(journal.path, "a-run", Secrets(frozenset(["hunter2-and-more"])))) == 1
    assert (logs / "pay.log").read_text() == "***\n"
    said = (tmp_path / "reaper.log").read_text()
    assert "logs that are not redacted" in said
    assert "hunter2" not in said.replace(str(logs), "")


def test_a_reaper_that_was_told_half_still_undoes(tmp_path: Path) -> None:
    """The harness was killed while it spoke."""
    journal, folder = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "data"
    folder.mkdir()
    journal.plan(RemoveFolder(str(folder)))
    command = [sys.executable, "-m", "chaoslab.cleanup.reaper", str(journal.path), "a-run"]
    assert subprocess.run(command, input=b'["hun', check=False).returncode == 0
    assert not folder.exists()


def test_the_logs_of_every_trial_are_covered_with_the_secrets_of_all(tmp_path: Path) -> None:
    """On a stack that several trials share, the services may write down what any of them sent."""
    journal, logs = UndoJournal(tmp_path / "undo.jsonl"), [tmp_path / "logs", tmp_path / "trial"]
    for folder in logs:
        folder.mkdir()
        (folder / "pay.log").write_text("hunter2-and-more swordfish-9\n")
    watcher = reaper.start(journal.path, "a-run", Secrets(frozenset(["hunter2-and-more"])))
    reaper.redact_too(watcher, logs[1], Secrets(frozenset(["swordfish-9"])))
    assert reaper.dismiss(watcher) == 0
    assert [(folder / "pay.log").read_text() for folder in logs] == ["*** ***\n"] * 2


def test_a_dismissed_reaper_says_whether_anything_is_left(tmp_path: Path) -> None:
    """0 when all is undone, 1 when not."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    assert reaper.dismiss(reaper.start(journal.path, "a-run", Secrets())) == 0
    journal.plan(RunCommand(["/no/such/program"], str(tmp_path), 1.0))
    assert reaper.dismiss(reaper.start(journal.path, "a-run", Secrets())) == 1


def test_a_reaper_that_leaves_nothing_strikes_the_run_off(tmp_path: Path) -> None:
    """Even while the harness still writes its report: a kill then would leave the entry. One that leaves something keeps it."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    place = active_runs.enter("struck", journal.path)
    journal.plan(RunCommand(["/no/such/program"], str(tmp_path), 1.0))
    assert reaper.dismiss(reaper.start(journal.path, "struck", Secrets())) == 1
    assert active_runs.alive("struck")
    journal.done(0)
    assert reaper.dismiss(reaper.start(journal.path, "struck", Secrets())) == 0
    assert not active_runs.alive("struck")
    place.leave(done=True)


def test_a_reaper_is_deaf_to_what_ends_a_harness(tmp_path: Path) -> None:
    """A polite kill of everything that is called python leaves it at its post."""
    journal = UndoJournal(tmp_path / "undo.jsonl")
    watcher = reaper.start(journal.path, "a-run", Secrets())
    wait_until("its post", lambda: (_ignores(watcher.pid, signal.SIGTERM), None), Deadline.after(10))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(watcher.pid, number)
    assert os.getsid(watcher.pid) == watcher.pid
    assert reaper.dismiss(watcher) == 0


def _ignores(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    return bool(mask >> (number - 1) & 1)


def test_a_reaper_that_does_not_end_is_killed_and_its_work_done(tmp_path: Path) -> None:
    """Known bad: ^Z of the reaper. Whoever looks in its place names what cannot be undone, and covers the logs."""
    journal, data, log = UndoJournal(tmp_path / "undo.jsonl"), tmp_path / "data", tmp_path / "logs" / "pay.log"
    for folder in (data, log.parent):
        folder.mkdir()
    log.write_text("hunter2-and-more\n")
    journal.plan(RemoveFolder(str(data)))
    journal.plan(RunCommand(["/no/such/program"], str(tmp_path), 1.0))
    frozen = reaper.start(journal.path, "a-run", Secrets())
    frozen.send_signal(signal.SIGSTOP)
    assert reaper.dismiss(frozen, timeout_s=0.2) < 0
    (left,) = reaper.look(journal.path, "a-run", Secrets(frozenset(["hunter2-and-more"])), on_progress=lambda _: None)
    assert "/no/such/program" in left
    assert log.read_text() == "***\n"
    assert not data.exists()
