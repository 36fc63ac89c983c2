"""Several runs beside each other: the worst decides, and the spread holds every run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mini_stack import assert_nothing_left, start_chaoslab, write_experiment

from chaoslab.history.result import Interval, LedgerResult, LoadResult, Result, ServiceResult
from chaoslab.judge.repeats import spread_of, worst_run
from chaoslab.report.spread import print_repeats
from chaoslab.report.terminal import make_console

QUICK = {"fault": "service.kill", "service": "app", "site": "east", "id": "kill", "heal_after": "2s"}
INTERVALS = st.tuples(st.floats(0, 50), st.none() | st.floats(50, 100)).map(lambda pair: Interval(*pair))


def result(
    verdict: Any = "pass", rto: Interval | None = None, *, share: float = 1.0, rpo_s: float = 0.0, **more: Any
) -> Result:
    service = ServiceResult(
        **{"status": "recovered", "rto_s": rto, "failback_s": None, "availability": share, "downtime_s": 0.0},
        **{"longest_s": 0.0, "flaps": 0, "slots": 1, "skewed": 0},  # type: ignore[arg-type]
    )
    return Result(
        **{"experiment": "x", "verdict": verdict, "runtime": "embedded", "started_at": "", "duration_s": 1.0, "boot_s": 1.0},
        **{
            "overhead_s": 0.0,
            "faults": [],
            "services": {"talk": service},
            "journeys": {},
            "load": LoadResult(),
            "objectives": [],
        },
        **{"ledger": {"talk": LedgerResult(rpo_s=rpo_s)}, **more},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        (["pass", "inconclusive", "pass"], 1),
        (["fail", "error", "aborted"], 0),
        (["inconclusive", "aborted", "error", "fail"], 3),
        (["pass", "pass"], 0),
    ],
)
def test_the_worst_run_decides(verdicts: list[str], worst: int) -> None:
    """fail > error > aborted > inconclusive > pass, wherever it stands."""
    assert worst_run([result(verdict) for verdict in verdicts]) == worst


def test_among_equals_the_one_that_left_something_decides() -> None:
    """Else its exit code 6 would go unheard."""
    assert worst_run([result(), result(cleanup="incomplete"), result()]) == 1


def test_the_spread_names_the_worst_of_each_figure() -> None:
    """The longest outage, the lowest share, the largest loss; each may be another run's."""
    runs = [
        result(rto=Interval(2.0, 2.1), share=0.9),
        result(rto=Interval(1.0, 4.0), rpo_s=3.0),
        result(rto=Interval(3.0, 3.2)),
    ]
    spread = spread_of(runs)
    assert (spread["talk.rto"].low, spread["talk.rto"].high, spread["talk.rto"].worst_run) == (1.0, 4.0, 2)
    assert (spread["talk.availability"].worst.low, spread["talk.availability"].worst_run) == (0.9, 1)
    assert (spread["talk.rpo"].high, spread["talk.rpo"].worst_run) == (3.0, 2)
    assert "talk.failback" not in spread


def test_never_recovered_is_the_worst_and_has_no_end() -> None:
    """A censored interval is longer than any other, however early it began."""
    spread = spread_of([result(rto=Interval(40.0, 41.0)), result(rto=Interval(5.0, None))])
    assert (spread["talk.rto"].high, spread["talk.rto"].worst_run) == (None, 2)


@given(st.lists(INTERVALS, min_size=1, max_size=8))
def test_the_spread_holds_every_run(intervals: list[Interval]) -> None:
    """Property: no interval reaches out of it, and its ends are some run's."""
    spread = spread_of([result(rto=interval) for interval in intervals])["talk.rto"]
    assert spread.low == min(interval.low for interval in intervals)
    assert spread.runs == len(intervals)
    assert intervals[spread.worst_run - 1] == spread.worst
    for interval in intervals:
        assert spread.high is None or (interval.high is not None and interval.high <= spread.high)


def test_one_run_in_twenty_may_be_beyond_the_95th_percentile() -> None:
    """Known bad: a second one is, and the figure does not show it. One that never ended is beyond any other."""
    runs = [result(rto=Interval(2.0, 3.0 + number / 100)) for number in range(18)]
    once = spread_of([*runs, result(rto=Interval(2.0, 3.5)), result(rto=Interval(9.0, None))])
    twice = spread_of([*runs, *[result(rto=Interval(9.0, None))] * 2])
    assert (once["talk.rto"].p95, twice["talk.rto"].p95, once["talk.availability"].p95) == (3.5, None, None)


def test_the_table_says_how_many_passed() -> None:
    """And on what: one stack may carry something from run to run."""
    told = io.StringIO()
    print_repeats([result(), result("fail")], {}, 1, make_console(told, width=200), same_stack=True)
    assert "1 of 2 runs passed, all on one stack; the worst verdict, that of run 2, counts: fail" in told.getvalue()


def test_repeated_runs_on_one_stack_are_judged_apart(tmp_path: Path) -> None:
    """Two real runs: one boot, a folder and a verdict each, the second on a stack that was up; nothing left of it."""
    path = write_experiment(tmp_path, timeline=[QUICK])
    child = start_chaoslab(tmp_path, "run", str(path), "--repeat", "2", "--same-stack", "--json")
    out, err = child.communicate(timeout=90)
    runs = json.loads(out)["runs"]
    assert [run["cleanup"] for run in runs] == ["kept", "complete"], err
    assert runs[1]["boot_s"] < runs[0]["boot_s"]
    assert all(run["ledger"]["app"]["acked"] > 0 and run["ledger"]["app"]["unexpected"] == 0 for run in runs)
    folders = [folder for folder in (tmp_path / "runs/mini").iterdir() if not folder.is_symlink()]
    assert len(folders) == 2
    for folder in folders:
        assert_nothing_left(folder)
    assert len([folder for folder in (tmp_path / "runs/stacks").iterdir() if not folder.is_symlink()]) == 1


def test_repeated_runs_are_one_object(tmp_path: Path) -> None:
    """Two real runs: each with its seed and the command that runs it again, the spread over both, nothing left of either."""
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, timeline=[QUICK])), "--repeat", "2", "--json")
    out, err = child.communicate(timeout=90)
    told = json.loads(out)
    verdicts = [run["verdict"] for run in told["runs"]]
    assert len(verdicts) == 2, err
    assert told["worst"]["verdict"] in verdicts
    assert child.returncode == {"pass": 0, "fail": 1, "inconclusive": 3, "error": 5}[told["worst"]["verdict"]]
    measured = [run for run in told["runs"] if run["services"]["app"]["rto_s"] is not None]
    assert told["spread"].get("app.rto", {"runs": 0})["runs"] == len(measured), err
    assert len({run["seed"] for run in told["runs"]}) == 2
    for run in told["runs"]:
        assert run["command"].endswith(f"--seed {run['seed']}")
        assert "--repeat" not in run["command"]
    for folder in (tmp_path / "runs/mini").iterdir():
        assert_nothing_left(folder)
