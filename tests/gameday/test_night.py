"""A game day runs what its suite says, goes on where it was cut off, and always ends in a page."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from pretended import CHAOSLAB, PROGRAM, pretend, suite_of

from chaoslab.cli.program import cli
from chaoslab.clock import Deadline, utc_now, wait_until
from chaoslab.errors import EnvironmentFault, ExitCode, SpecError
from chaoslab.gameday import pages
from chaoslab.gameday.durations import durations_file
from chaoslab.gameday.journal import Ended, Journal, Opened, read_journal, state_of
from chaoslab.gameday.merge import merge
from chaoslab.gameday.night import NIGHT_VARIABLE, RESERVE, NightFolder, Player, finish, open_night, plan_of
from chaoslab.gameday.plan import WHOLE, Shard
from chaoslab.gameday.tally import Night
from chaoslab.process import marked, spawn


def play(project: Path, text: str | None = None, *, shard: Shard = WHOLE, new: bool = False) -> tuple[NightFolder, Night]:
    """A whole game day of the suite `all`, with the pretender for every run."""
    suite, root = suite_of(project, text), project / "runs"
    folder, _ = open_night(plan_of(suite, root, shard), root, new=new)
    player = Player(folder, suite, project, lambda _: None)
    player.play()
    return folder, finish(folder, interrupted=player.stopped)


def statuses(night: Night) -> dict[str, str]:
    return {case.id: case.status for case in night.cases}


def test_all_as_expected(project):
    """A known-bad that fails as stated is as expected."""
    folder, night = play(project)
    assert statuses(night) == dict.fromkeys(["calm", "fire", "flood", "red"], "as expected")
    assert (night.verdict, night.exit_code) == ("pass", ExitCode.PASS)
    assert sorted(p.name for p in folder.path.iterdir() if p.suffix) == [
        "ctrf.json", "index.html", "junit.xml", "metrics.prom", "night.json", "night.jsonl", "summary.md",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("experiment", "outcome", "status", "verdict", "code"),
    [
        ("fire", "fail", "not as expected", "fail", ExitCode.FAIL),
        ("red", "pass", "not as expected", "fail", ExitCode.FAIL),
        ("fire", "inconclusive", "inconclusive", "inconclusive", ExitCode.INCONCLUSIVE),
        ("fire", "error", "broken", "error", ExitCode.ERROR),
        ("fire", "killed", "broken", "error", ExitCode.ERROR),
    ],
)
def test_the_worst_run_decides(project, experiment, outcome, status, verdict, code):
    """Known bad: each way in which one run of a night is not as it should be; the others run all the same."""
    pretend(project, **{experiment: outcome})
    _, night = play(project)
    assert statuses(night)[experiment] == status
    assert (night.verdict, night.exit_code) == (verdict, code)
    assert night.counts["as expected"] == 3


def test_binds_are_used_by_every_run_of_a_game_day_that_was_begun_so(project, monkeypatch):
    """And by none of another. Known bad: there was no such option, so that the data of a stack had to be copied each time."""
    commands = []

    def note(command, **options):
        commands.append(command)
        return spawn(command, **options)

    monkeypatch.setattr("chaoslab.gameday.night.spawn", note)
    suite, root = suite_of(project), project / "runs"
    for use_binds in (False, True):
        commands.clear()
        folder, _ = open_night(plan_of(suite, root, use_binds=use_binds), root)
        Player(folder, suite, project, lambda _: None).play()
        finish(folder)
        assert [("--use-binds" in command) for command in commands] == [use_binds] * 4


def test_what_the_budget_leaves_out_is_not_run_and_never_passed(project):
    """The first fits, the others do not."""
    one_s = plan_of(suite_of(project), project / "runs").plan[0].expected_s
    _, night = play(project, f"budget: {one_s + 0.2}s\nexperiments: [{{glob: '*'}}]")
    assert statuses(night) == {"calm": "as expected"} | dict.fromkeys(["fire", "flood", "red"], "not run")
    assert night.verdict == "inconclusive"
    assert "of the budget of" in night.cases[1].why


def test_a_suite_may_stop_at_the_first_failure(project):
    """What was left is not run."""
    pretend(project, fire="fail")
    _, night = play(project, "after_fail: stop\nexperiments: [{glob: '*'}]")
    assert statuses(night) == {"calm": "as expected", "fire": "not as expected", "flood": "not run", "red": "not run"}


def test_a_run_that_takes_longer_than_its_limit_is_ended(project):
    """It is broken, and the night goes on."""
    pretend(project, fire="slow")
    _, night = play(project, "limit: 5s\nexperiments: [{glob: '*'}]")
    assert statuses(night)["fire"] == "broken"
    assert "longer than its limit of 5 s" in next(case.why for case in night.cases if case.id == "fire")
    assert statuses(night)["flood"] == "as expected"


def test_a_killed_game_day_goes_on_where_it_was(project):
    """Killed while the third of four runs: that one is run again, the first two are not."""
    pretend(project, flood="slow")
    script = textwrap.dedent(f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
        from pathlib import Path
        from chaoslab.gameday import night
        from test_night import play
        night.PROGRAM = {PROGRAM!r}
        play(Path({str(project)!r}))
    """)
    child = subprocess.Popen([sys.executable, "-c", script], cwd=project)
    wait_for_line(project / "begun", "flood")
    child.kill()
    child.wait()
    [orphan] = marked(NIGHT_VARIABLE, str(NightFolder.of("all", project / "runs").path))
    pretend(project, flood="pass")
    suite, root, waited = suite_of(project), project / "runs", []

    def end_it(text: str) -> None:
        if "another run is active" in text:
            waited.append((project / "begun").read_text().split().count("flood"))
            orphan.kill()

    folder, _ = open_night(plan_of(suite, root), root)
    Player(folder, suite, project, end_it).play()
    night = finish(folder)
    assert waited == [1]  # two runs at once would take each other's processors
    assert statuses(night) == dict.fromkeys(["calm", "fire", "flood", "red"], "as expected")
    begun = (project / "begun").read_text().split()
    assert {name: begun.count(name) for name in begun} == {"calm": 1, "fire": 1, "flood": 2, "red": 1}


def wait_for_line(path: Path, line: str) -> None:
    def there() -> tuple[bool, None]:
        return path.exists() and line in path.read_text().split(), None

    wait_until(f"{line} in {path}", there, Deadline.after(60))


def test_a_row_that_a_kill_cut_short_counts_for_nothing(project):
    """The journal ends in half a line."""
    folder, _ = play(project)
    path = folder.path / "night.jsonl"
    rows = read_journal(folder.path)
    path.write_bytes(path.read_bytes()[:-20])
    assert read_journal(folder.path) == rows[:-1]


def test_a_run_that_outlived_the_game_day_is_not_repeated(project):
    """Its result lies in the night's folder, and only its end is missing in the journal."""
    folder, whole = play(project)
    rows = read_journal(folder.path)
    (folder.path / "night.jsonl").unlink()
    for row in rows[:-2]:  # without the end of the last run, and the end of the night
        Journal(folder.path).append(row)
    assert [case.id for case in state_of(read_journal(folder.path)).remaining] == ["red"]
    again, night = play(project)
    assert again.path == folder.path
    assert (project / "begun").read_text().split().count("red") == 1
    assert statuses(night) == statuses(whole)


def test_an_interrupted_game_day_ends_in_a_page_and_goes_on(project):
    """Known bad: a signal. What was under way and what was left are not run."""
    pretend(project, fire="slow")
    suite, root = suite_of(project), project / "runs"
    folder, _ = open_night(plan_of(suite, root), root)

    def stop_at(text: str) -> None:
        if "fire: running" in text:
            signal.signal(signal.SIGALRM, lambda *_: player.stop())
            signal.setitimer(signal.ITIMER_REAL, 3.0)

    player = Player(folder, suite, project, stop_at)
    player.play()
    night = finish(folder, interrupted=player.stopped)
    assert night.exit_code is ExitCode.INTERRUPTED
    assert statuses(night) == {"calm": "as expected", "fire": "not run", "flood": "not run", "red": "not run"}
    pretend(project, fire="pass")
    same, night = play(project)
    assert (same.path, night.verdict) == (folder.path, "pass")


def test_what_changed_and_what_was_last_proven(project):
    """Over three nights: held, failed, held."""
    play(project)
    pretend(project, fire="fail")
    _, second = play(project)
    assert [(one.experiment, one.was, one.now) for one in second.changes] == [("fire", "as expected", "not as expected")]
    proofs = {(one.experiment, one.objective): one.last_proven for one in second.proofs}
    assert proofs["fire", "app.rto"] < second.started_at or proofs["fire", "app.rto"] == proofs["calm", "app.rto"]
    assert ("red", "app.rpo") not in proofs  # a known-bad proves nothing of a stack
    pretend(project, fire="pass")
    _, third = play(project)
    assert [(one.experiment, one.now) for one in third.changes] == [("fire", "as expected")]


def test_the_same_folder_gives_the_same_pages(project):
    """Byte for byte: a page may be made again."""
    folder, _ = play(project)
    before = {name: (folder.path / name).read_bytes() for name in (pages.INDEX, pages.DATA, pages.JUNIT, pages.METRICS)}
    finish(folder)
    assert before == {name: (folder.path / name).read_bytes() for name in before}


def shards(project: Path, total: int = 3) -> list[Path]:
    return [play(project, shard=Shard(index, total), new=True)[0].path for index in range(1, total + 1)]


def test_merged_shards_are_the_whole_night(project):
    """Byte for byte equal to the pages of one machine with the same runs, but for paths; in whichever order they are named."""
    folders = shards(project)
    target, merged = merge(folders, project / "merged")
    opened = msgspec.structs.replace(plan_of(suite_of(project), project / "whole"), started_at=merged.started_at)
    whole_folder, _ = open_night(opened, project / "whole")
    journal = Journal(whole_folder.path)
    for row in read_journal(target.path)[1:]:
        if isinstance(row, Ended):
            place = os.path.relpath((target.path / row.folder).resolve(), whole_folder.path)
            journal.append(msgspec.structs.replace(row, folder=place))
        else:
            journal.append(row)
    finish(whole_folder)
    again, _ = merge(folders[::-1], project / "again")

    def without_paths(folder: NightFolder) -> dict[str, bytes]:
        names = (pages.INDEX, pages.DATA, pages.JUNIT, pages.CTRF, pages.SUMMARY, pages.METRICS)
        return {name: re.sub(rb"[^\"']*report\.html", b"", (folder.path / name).read_bytes()) for name in names}

    assert merged.verdict == "pass"
    assert without_paths(target) == without_paths(whole_folder) == without_paths(again)


def test_shards_are_no_earlier_game_days_of_what_they_are_merged_into(project):
    """Known bad: merged where the shards lie, every experiment of the other two would be new since the last game day."""
    _, merged = merge(shards(project), project / "runs")
    assert merged.changes == []


def test_a_missing_shard_is_never_a_pass(project):
    """Known bad: two of three machines came back."""
    _, night = merge(shards(project)[:2], project / "merged")
    assert (night.verdict, night.problems) == ("error", ["shard 3/3 is missing"])
    assert night.counts["not run"] > 0


def test_what_is_not_of_one_game_day_is_refused(project):
    """Known bad: a shard twice, another division, another spec."""
    folders = shards(project)
    with pytest.raises(Exception, match="would count twice"):
        merge([folders[0], *folders], project / "merged")
    other = shards(project, 2)
    with pytest.raises(Exception, match="not one of 3"):
        merge([*folders[:2], other[0]], project / "merged")
    fire = project / "experiments" / "fire.yaml"
    fire.write_text(fire.read_text().replace("heal_after: 4s", "heal_after: 5s"))
    changed = play(project, shard=Shard(3, 3), new=True)[0].path
    with pytest.raises(Exception, match="fire was a different experiment there"):
        merge([*folders[:2], changed], project / "merged")


def test_the_pages_say_what_the_data_says(project):
    """JUnit and CTRF are red for all that is not as expected; a hostile text stays text."""
    pretend(project, fire="fail", flood="inconclusive")
    folder, night = play(project)
    ctrf = json.loads((folder.path / pages.CTRF).read_text())["results"]
    assert {test["name"]: test["status"] for test in ctrf["tests"]} == {
        "calm": "passed", "fire": "failed", "flood": "other", "red": "passed",
    }  # fmt: skip
    junit = (folder.path / pages.JUNIT).read_text()
    assert ('failures="1"' in junit, 'errors="1"' in junit, 'skipped="0"' in junit) == (True, True, True)
    hostile = msgspec.structs.replace(night, title="<script>alert(1)</script>|")
    rendered = pages.render(hostile, [])
    assert b"<script>" not in rendered[pages.INDEX]
    assert b"<script>" not in rendered[pages.SUMMARY]
    assert len(rendered[pages.SUMMARY]) <= pages.SUMMARY_MAX


def test_a_disk_that_fills_up_ends_in_a_page_that_is_no_pass(project, monkeypatch):
    """Known bad: the journal cannot be written any more. The page says why, and what was left is not run."""
    monkeypatch.chdir(project)
    write = Journal.append

    def full_after_the_first_run(journal: Journal, row: object) -> None:
        if isinstance(row, Ended):
            raise EnvironmentFault("cannot write night.jsonl: No space left on device")
        write(journal, row)

    monkeypatch.setattr(Journal, "append", full_after_the_first_run)
    code = CliRunner().invoke(cli, ["gameday", "all"], standalone_mode=False, catch_exceptions=False).return_value
    (night,) = [found for found in map(pages.read_night, (project / "runs/gameday/all").glob("2*")) if found]
    assert (code, night.verdict) == (ExitCode.ERROR, "error")
    assert set(statuses(night).values()) == {"not run"}
    assert night.problems == ["cannot write night.jsonl: No space left on device"]


def cli_gameday(*words: str):
    return CliRunner().invoke(cli, ["gameday", *words], standalone_mode=False, catch_exceptions=False)


def test_a_shard_that_has_nothing_to_run_says_so(project, monkeypatch):
    """Five machines for four runs: it exits with 0, its page is no pass, and merging needs it."""
    monkeypatch.chdir(project)
    suite_of(project)
    ran = [cli_gameday("all", "--shard", f"{number}/5", "--new") for number in range(1, 6)]
    assert [one.return_value for one in ran] == [ExitCode.PASS] * 5
    assert "shard 5/5 has nothing to run: 4 runs are on the others" in ran[4].output
    folders = sorted((project / "runs/gameday/all").glob("2*"))
    assert pages.read_night(folders[4]).verdict == "inconclusive"
    assert merge(folders, project / "merged")[1].verdict == "pass"
    assert merge(folders[:4], project / "fewer")[1].problems == ["shard 5/5 is missing"]


def test_merging_what_is_no_game_day_is_a_mistake_of_the_caller(project, monkeypatch):
    """Known bad: any other folder; one sentence, and exit code 2."""
    monkeypatch.chdir(project)
    with pytest.raises(SpecError, match=r"experiments is not the folder of a game day: it has no night\.jsonl") as refused:
        cli_gameday("merge", "experiments")
    assert refused.value.exit_code is ExitCode.USAGE
    assert not (project / "runs").exists()


def test_runs_may_be_a_link_to_another_disk(project, tmp_path_factory):
    """Known bad: a traceback after the first run, and no page."""
    (project / "runs").symlink_to(tmp_path_factory.mktemp("disk"))
    _, night = play(project)
    assert night.verdict == "pass"


def test_durations_find_their_suite_from_any_folder_of_the_project(project, monkeypatch):
    """Known bad: the working folder was taken for the project."""
    monkeypatch.chdir(project)
    folder, _ = play(project)
    monkeypatch.chdir(project / "experiments")
    assert "written to gameday/all.durations.json" in cli_gameday("durations", str(folder.path)).output


def test_durations_are_those_of_a_game_day(project, monkeypatch):
    """Medians of what went to its end; the next plan has them, and an experiment that was not run keeps its own."""
    monkeypatch.chdir(project)
    pretend(project, flood="killed")
    folder, _ = play(project)
    file = durations_file(project / "experiments/gameday/all.yaml")
    file.write_text('{"flood": 77.5, "calm": 1}')
    assert "written to experiments/gameday/all.durations.json" in cli_gameday("durations", str(folder.path)).output
    ended = {row.case: row.seconds for row in read_journal(folder.path) if isinstance(row, Ended)}
    wanted = {name: round(ended[name], 1) for name in ("calm", "fire", "red")} | {"flood": 77.5}
    assert {case.id: case.expected_s for case in plan_of(suite_of(project), project, Shard(1, 2)).plan} == wanted


def cut_off(project: Path, hours: float) -> NightFolder:
    """A game day of which one run is over, last heard of so many hours ago."""
    folder, _ = play(project)
    rows = read_journal(folder.path)
    (folder.path / "night.jsonl").unlink()
    for name in (pages.INDEX, pages.DATA):
        (folder.path / name).unlink()
    at = (utc_now() - timedelta(hours=hours)).isoformat(timespec="seconds")
    for row in rows[:3]:
        changed = {"started_at": at} if isinstance(row, Opened) else {"at": at}
        Journal(folder.path).append(msgspec.structs.replace(row, **changed))
    return folder


@pytest.mark.parametrize(("hours", "new", "resumed"), [(11.5, False, True), (12.5, False, False), (1, True, False)])
def test_a_cut_off_game_day_is_gone_on_with_for_twelve_hours(project, hours, new, resumed):
    """Later, or with --new, another begins, and the old one gets its page: what was left is not run."""
    folder = cut_off(project, hours)
    now, night = play(project, new=new)
    assert (now.path == folder.path) is resumed
    assert night.verdict == "pass"
    if not resumed:
        left = pages.read_night(folder.path)
        assert statuses(left) == {"calm": "as expected"} | dict.fromkeys(["fire", "flood", "red"], "not run")
        assert "was interrupted" in left.problems[0]
        assert left.verdict == "error"


@pytest.mark.parametrize("first_row", [None, b"", b'{"type":"open'])
def test_a_game_day_that_was_killed_before_it_had_a_plan(project, first_row):
    """Its folder is there, and no whole row in it: it is not left behind without a page."""
    folder = NightFolder.create("all", project / "runs")
    folder.runs.rmdir()
    if first_row is not None:
        (folder.path / "night.jsonl").write_bytes(first_row)
    same, night = play(project)
    assert (same.path, night.verdict) == (folder.path, "pass")


def test_a_resumed_game_day_has_its_room_on_the_disk_again(project):
    """Known bad: the room for the pages was given back at the interruption, and the disk is full after the resumption."""
    folder = cut_off(project, 1)
    assert not (folder.path / RESERVE).exists()
    same, resumed = open_night(plan_of(suite_of(project), project / "runs"), project / "runs")
    assert (same.path, resumed) == (folder.path, True)
    assert (folder.path / RESERVE).stat().st_size == 4 << 20


def test_a_result_of_another_hash_proves_nothing(project):
    """Known bad: the spec beside a result was replaced by the planned one, but the result speaks of another."""
    folder, _ = play(project, "experiments: [{name: fire}]")
    (run,) = (folder.runs / "fire").glob("2*")
    result = json.loads((run / "result.json").read_text())
    assert result["spec_sha256"] == pages.read_night(folder.path).spec_sha256["fire"]
    (run / "result.json").write_text(json.dumps(result | {"spec_sha256": "0" * 64}))
    assert statuses(finish(folder)) == {"fire": "broken"}


def test_a_game_day_that_was_killed_before_its_page(project):
    """All of its runs had ended: the same command writes the page and runs nothing; the next one begins another."""
    suite, root = suite_of(project), project / "runs"
    folder, _ = open_night(plan_of(suite, root), root)
    Player(folder, suite, project, lambda _: None).play()
    same, night = play(project)
    assert (same.path, night.verdict) == (folder.path, "pass")
    assert len((project / "begun").read_text().split()) == 4
    assert play(project)[0].path != folder.path


NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--"]


@pytest.mark.skipif(
    not os.environ.get("CHAOSLAB_REQUIRE_DOCKER")
    and (not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0),
    reason="no namespaces here",
)
def test_a_run_that_fills_the_disk(project):
    """A real disk of 5 MiB, full from the second run on: all of the pages are there, and nothing else of it passed."""
    suite_of(project)
    pretend(project, fire="full")
    (project / "chaoslab").write_text(CHAOSLAB)
    (project / "runs").mkdir()
    script = """
        mount -t tmpfs -o size=5m none runs
        code=0; "$0" chaoslab gameday all || code=$?
        mkdir kept; cp runs/gameday/all/latest/*.* kept
        exit $code
    """
    command = [*NAMESPACE, "bash", "-ec", script, sys.executable]
    ran = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == ExitCode.ERROR, ran.stderr
    night = pages.read_night(project / "kept")
    assert (night.verdict, statuses(night).pop("calm")) == ("error", "as expected")
    assert set(list(statuses(night).values())[1:]) <= {"broken", "not run"}  # as long as there is room for a row of the journal
    assert (project / "kept" / pages.INDEX).read_text().rstrip().endswith("</html>")
