"""What a game day must not take for a run of its own, and what it must survive: all of these are known bad."""

from __future__ import annotations

import errno
import os

import msgspec
import pytest
from pretended import pretend, suite_of
from test_night import play, shards, statuses

from chaoslab.errors import ChaoslabError, EnvironmentFault, ExitCode
from chaoslab.gameday.journal import NAME, Ended, Journal, read_journal, state_of
from chaoslab.gameday.merge import merge
from chaoslab.gameday.night import NightFolder, Player, finish, open_night, plan_of
from chaoslab.gameday.plan import Shard
from chaoslab.history.folder import RunFolder


def rewrite(folder: NightFolder, rows) -> None:
    (folder.path / NAME).unlink()
    for row in rows:
        Journal(folder.path).append(row)


def change_end(night: NightFolder, case: str, /, **changes) -> None:
    """As if the run of `case` had ended in another way."""
    rows = read_journal(night.path)
    rewrite(
        night,
        [msgspec.structs.replace(row, **changes) if isinstance(row, Ended) and row.case == case else row for row in rows],
    )


def test_a_torn_row_is_not_continued_by_the_next_one(project):
    """A power loss in the middle of a row, twice."""
    folder, whole = play(project)
    path = folder.path / NAME
    for _ in range(2):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-2]) + lines[-2][:-20])
        same, night = play(project)
        assert (same.path, statuses(night)) == (folder.path, statuses(whole))
    assert state_of(read_journal(folder.path)).closed


def test_a_row_that_the_disk_cut_short_is_taken_back(project, monkeypatch):
    """The disk is full in the middle of a row; later there is room."""
    folder, _ = play(project)
    rows, write = read_journal(folder.path), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:10]))
    with pytest.raises(EnvironmentFault, match="the disk is full"):
        Journal(folder.path).append(rows[-1])
    monkeypatch.undo()
    Journal(folder.path).append(rows[-1])
    assert read_journal(folder.path) == [*rows, rows[-1]]


def test_a_run_of_another_spec_proves_nothing(project):
    """The experiment was edited after the game day had been planned."""
    text = "experiments: [{name: fire}]"
    suite, root = suite_of(project, text), project / "runs"
    folder, _ = open_night(plan_of(suite, root), root)
    fire = project / "experiments" / "fire.yaml"
    fire.write_text(fire.read_text().replace("heal_after: 4s", "heal_after: 5s"))
    Player(folder, suite, project, lambda _: None).play()
    night = finish(folder)
    assert (statuses(night)["fire"], night.verdict) == ("broken", "error")
    assert "a different spec" in night.cases[0].why


def test_one_run_does_not_count_for_two_cases(project):
    folder, _ = play(project, "experiments: [{name: fire, repeats: 2}]")
    first = next(row for row in read_journal(folder.path) if isinstance(row, Ended))
    change_end(folder, "fire#2", folder=first.folder)
    assert finish(folder).verdict == "error"


def test_a_process_that_ended_otherwise_than_its_result_says(project):
    """Killed, or broken, after its result was written; or something was left behind."""
    folder, _ = play(project, "experiments: [{name: fire}]")
    for code, ends in ((-9, ExitCode.ERROR), (ExitCode.ERROR, ExitCode.ERROR), (ExitCode.UNCLEAN, ExitCode.UNCLEAN)):
        change_end(folder, "fire", exit_code=int(code))
        assert finish(folder).exit_code == ends


def test_an_outlived_run_of_another_spec_is_not_adopted(project):
    """What lies in the folder of a game day that was cut off need not be its own."""
    folder, _ = play(project)
    rewrite(folder, read_journal(folder.path)[:-2])
    (stray,) = (folder.runs / "red").glob("2*")
    RunFolder(stray).experiment.write_text("of somebody else\n")
    _, night = play(project)
    assert (project / "begun").read_text().split().count("red") == 2
    assert night.verdict == "pass"


def test_a_changed_suite_is_another_game_day(project):
    """Cut off, then another runtime, budget, limit or rule: it is not gone on with under the old ones."""
    opened, root = plan_of(suite_of(project), project / "runs"), project / "runs"
    assert [open_night(opened, root)[1] for _ in range(2)] == [False, True]
    for change in ({"runtime": "compose"}, {"limit_s": 1.0}, {"budget_s": 9.0}, {"after_fail": "stop"}, {"use_binds": True}):
        opened = msgspec.structs.replace(opened, **change)
        assert [open_night(opened, root)[1] for _ in range(2)] == [False, True]


def test_a_failure_before_an_interruption_still_stops_the_game_day(project):
    """after_fail: stop, and a kill between the failure and the next run."""
    pretend(project, fire="fail")
    text = "after_fail: stop\nexperiments: [{glob: '*'}]"
    folder, _ = play(project, text)
    rows = read_journal(folder.path)
    rewrite(folder, rows[: 1 + max(number for number, row in enumerate(rows) if isinstance(row, Ended))])
    same, night = play(project, text)
    assert same.path == folder.path
    assert statuses(night) == {"calm": "as expected", "fire": "not as expected", "flood": "not run", "red": "not run"}


def test_a_known_bad_that_passes_stops_the_game_day(project):
    pretend(project, red="pass")
    _, night = play(project, "after_fail: stop\nexperiments: [{name: red}, {name: calm}]")
    assert statuses(night) == {"red": "not as expected", "calm": "not run"}


def test_a_result_that_may_not_be_read_is_no_traceback(project):
    """A folder in its place, as good as a file of another user."""
    folder, _ = play(project)
    (run,) = (folder.runs / "fire").glob("2*")
    (run / "result.json").unlink()
    (run / "result.json").mkdir()
    assert statuses(finish(folder))["fire"] == "broken"
    play(project)


def test_a_folder_that_cannot_be_filled_is_an_error_in_words(project, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        NightFolder.create("all", project / "runs")


# --- merging ----------------------------------------------------------------------------------------------------


def refused(folders, root, match) -> None:
    with pytest.raises(ChaoslabError, match=match):
        merge(folders, root)
    assert not root.exists()


def test_a_shard_speaks_of_its_own_runs_and_rules_only(project):
    """Rows about another shard's case, runs that lie elsewhere, other rules, numbers that cannot be."""
    folders, root = shards(project), project / "merged"
    rows = [read_journal(path) for path in folders]
    own, foreign = (next(row for row in of if isinstance(row, Ended)) for of in (rows[0], rows[2]))
    first = NightFolder(folders[0])
    rewrite(first, [*rows[0], foreign])
    refused(folders[:2], root, "does not belong to this shard")
    for place in ("../../../elsewhere", "/etc", "runs/../../../x"):
        rewrite(first, [*rows[0], msgspec.structs.replace(own, folder=place)])
        refused(folders, root, "is not in its folder")
    for change in ({"runtime": "compose"}, {"limit_s": 1.0}, {"budget_s": 9.0}, {"after_fail": "stop"}, {"use_binds": True}):
        rewrite(first, [msgspec.structs.replace(rows[0][0], **change), *rows[0][1:]])
        refused(folders, root, "does not belong to the same game day")
    for shard in (Shard(0, 3), Shard(4, 3), Shard(1, 10**12)):
        rewrite(first, [msgspec.structs.replace(rows[0][0], shard=shard), *rows[0][1:]])
        refused(folders[:1], root, "there is no shard")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"[]\n", b'{"type":"opened"}\n', b'{"type":"ended","case":"\xff"}\n'])
def test_garbage_is_refused_in_words(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    refused([tmp_path], tmp_path / "merged", NAME)
