"""The verdict as a whole: the worst wins, a judge that breaks never passes, the order of rows does not matter."""

from __future__ import annotations

import itertools
import subprocess
import sys

import msgspec
import pytest
from judge_runs import Run, aborted, experiment, judged, note, objective, outage, stack_spec

from chaoslab.errors import WORST_FIRST, ExitCode, exit_code_of, worst_verdict
from chaoslab.history.result import Result
from chaoslab.history.rows import NOT_HIDDEN, Anchor, Fault, decode, encode
from chaoslab.judge import metrics, objectives, verdict
from chaoslab.judge.verdict import as_expected, judge, judge_rows, judge_safely

GOOD = Run(bad=outage(0.1, 3.0))
LATE = Run(bad=outage(0.1, 15.0))


def test_the_worst_verdict_wins():
    """fail > error > aborted > inconclusive > pass, for every pair."""
    assert WORST_FIRST == ("fail", "error", "aborted", "inconclusive", "pass")
    for better, worse in itertools.combinations(reversed(WORST_FIRST), 2):
        assert worst_verdict([better, worse]) == worst_verdict([worse, better]) == worse


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (GOOD, "pass"),
        (GOOD.but(more=[note("warning", 5.0)]), "pass"),
        (GOOD.but(more=[note("interrupted", 26.0)]), "inconclusive"),
        (GOOD.but(more=[note("blind", 26.0)]), "inconclusive"),
        (GOOD.but(more=[aborted(26.0), note("interrupted", 26.0)]), "aborted"),
        (GOOD.but(more=[note("error", 26.0), aborted(26.0)]), "error"),
        (LATE.but(more=[note("error", 26.0), aborted(26.0)]), "fail"),
        (LATE, "fail"),
    ],
)
def test_what_ended_a_run_is_part_of_its_verdict(run, expected):
    """Interrupted, aborted, broken, failed: each outranks the ones before it."""
    assert judged(run).verdict == expected


def test_reasons_are_in_plain_words_the_worst_first():
    """Why it is not a pass: every objective that was not met, and what the rows say."""
    result = judged(LATE.but(more=[aborted(26.0)]))
    assert result.reasons[0].startswith("talk.rto: talk.send: still bad")
    assert any(reason == "aborted: host_memory (97%)" for reason in result.reasons)
    assert judged(GOOD).reasons == []


def test_warnings_are_kept():
    """A note of level warning is shown and does not judge."""
    assert judged(GOOD.but(more=[note("warning", 5.0)])).warnings == ["warning at 5.0"]


def test_connects_that_a_fence_could_not_hide_are_a_warning():
    """They say that an application saw something else than on a real network; they judge nothing."""
    rows = GOOD.rows()
    not_hidden = [
        msgspec.structs.replace(row, detail={**row.detail, NOT_HIDDEN: "a_b_c_80 3"})
        if isinstance(row, Fault) and row.event == "healed"
        else row
        for row in rows
    ]
    result = judge(experiment({}), stack_spec(), not_hidden)
    assert [text for text in result.warnings if "a_b_c_80 3" in text]
    assert judge(experiment({}), stack_spec(), rows).warnings == []
    assert result.verdict == judge(experiment({}), stack_spec(), rows).verdict


def test_a_run_without_objectives_proves_nothing():
    """No objective, no ledger: inconclusive."""
    stack = stack_spec()
    read_only = stack.model_copy(update={"journeys": {"talk.read": stack.journeys["talk.read"]}})
    rows = [row for row in GOOD.rows() if getattr(row, "journey", "talk.read") == "talk.read"]
    result = judge(experiment({}), read_only, rows)
    assert (result.verdict, objective(result, "objectives").verdict) == ("inconclusive", "inconclusive")


def test_no_rows_at_all_are_an_error():
    """An empty history has not even an anchor."""
    assert judge(experiment(), stack_spec(), []).verdict == "error"


def test_a_history_without_its_anchor_is_an_error():
    """The first row is gone: the times of the others mean nothing."""
    rows = [row for row in GOOD.rows() if not isinstance(row, Anchor)]
    assert judge(experiment(), stack_spec(), rows).verdict == "error"


# --- a judge that breaks ----------------------------------------------------------------------------------------


def broken(*args: object, **more: object) -> object:
    raise ZeroDivisionError("oh")


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("check_steady_state", "steady-state"), ("check_prober", "instrument"), ("check_fault", "fault.fire"),
        ("check_rto", "talk.rto"), ("check_rpo", "talk.rpo"), ("check_failback", "talk.failback"),
        ("check_availability", "talk.availability"), ("check_ledger", "talk.ledger"),
        ("check_failback_condition", "failback.leader-in-pangyo"), ("check_load", "load"),
    ],
)  # fmt: skip
def test_a_check_that_crashes_is_an_error_under_its_own_name(monkeypatch, name, id_):
    """The others are still judged; the verdict is error, never pass."""
    monkeypatch.setattr(verdict, name, broken)
    objectives = {"rto": "< 10s", "rpo": 0, "failback": "< 4s", "availability": "> 10%"}
    result = judged(GOOD, experiment(objectives, load={"locustfile": "/nowhere/x.py"}))
    assert objective(result, id_).verdict == "error"
    assert "ZeroDivisionError" in objective(result, id_).why
    assert [one.id for one in result.objectives if one.verdict != "pass"] == [id_]
    assert result.verdict == "error"


@pytest.mark.parametrize("name", ["service_result", "journey_result"])
def test_a_metric_that_cannot_be_worked_out_is_an_error(monkeypatch, name):
    """A result with a hole in it is no pass."""
    monkeypatch.setattr(verdict, name, broken)
    assert judged(GOOD).verdict == "error"


def test_a_judge_that_breaks_altogether_is_an_error(monkeypatch):
    """Not an exception, and not a pass."""
    monkeypatch.setattr(verdict.Record, "of", broken)
    crashes: list[Exception] = []
    result, _ = judge_safely(experiment(), stack_spec(), GOOD.rows(), crashes.append)
    assert (result.verdict, result.runtime) == ("error", "embedded")
    assert "ZeroDivisionError: oh (in test_verdict.broken, line" in result.reasons[0]
    assert [str(crash) for crash in crashes] == ["oh"]


# --- the same rows, the same result -----------------------------------------------------------------------------


def test_a_result_survives_the_disk():
    """History to lines and back, result to JSON and back: the same."""
    rows = LATE.rows()
    again = [decode(encode(row)) for row in rows]
    result = judge(experiment(), stack_spec(), rows)
    assert judge(experiment(), stack_spec(), again) == result
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result


def test_the_versions_are_those_that_the_run_noted():
    """In its first row, beside the seed and the command."""
    rows = [
        msgspec.structs.replace(row, facts={"versions": {"etcd": "3.5.1"}, "seed": 7}) if isinstance(row, Anchor) else row
        for row in GOOD.rows()
    ]
    result, _ = judge_rows(experiment(), stack_spec(), rows, print)
    assert (result.versions, result.seed) == ({"etcd": "3.5.1"}, 7)


def test_a_run_that_somebody_ended_says_so():
    """130 for whoever judges it again, too; what is left behind goes before that."""
    ended = judged(Run(bad=outage(0.1, 3.0), more=[note("interrupted", at=5)]))
    assert (ended.verdict, ended.interrupted, exit_code_of(ended)) == ("inconclusive", True, ExitCode.INTERRUPTED)
    assert exit_code_of(msgspec.structs.replace(ended, left_behind=["process 1"])) is ExitCode.UNCLEAN
    assert not judged(GOOD).interrupted


def test_times_of_the_run():
    """From first to last row; boot; and what neither the script nor the stack explains."""
    result = judged(GOOD)
    assert (result.duration_s, result.boot_s) == (39.0, 6.0)
    assert result.overhead_s == pytest.approx(39.0 - 6.0 - (3.0 + 20.0 + 7.0))
    assert (result.started_at, result.runtime, result.experiment) == ("2026-11-22T02:00:00Z", "embedded", "fire")


def test_load_is_summed_up():
    """Requests of all seconds, users at most, rate per second."""
    load = judged(GOOD).load
    assert (load.requests, load.users, load.rps, load.p95_ms) == (3000, 4, 100.0, 9.0)


def test_the_judge_imports_nothing_that_acts():
    """A stored run can be judged where there is no network, no Docker and no process to start."""
    banned = {"aiohttp", "docker", "subprocess", "psutil", "requests", "locust", "chaoslab.process", "chaoslab.engine.engine"}
    code = f"import sys; import chaoslab.judge.verdict; print(sorted({banned!r} & set(sys.modules)))"
    before = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert before.stdout.strip() == "[]"


# --- expectations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "expect", "met"),
    [
        (GOOD, None, True),
        (LATE, None, False),
        (LATE, {"verdict": "fail"}, True),
        (LATE, {"verdict": "fail", "objectives": ["talk.rto"]}, True),
        (LATE, {"verdict": "fail", "objectives": ["talk.rto", "talk.rpo"]}, False),
        (GOOD, {"verdict": "fail", "objectives": ["talk.rto"]}, False),
        (GOOD.but(more=[aborted(26.0)]), {"verdict": "aborted"}, True),
    ],
)
def test_an_expectation_is_about_the_verdict_and_who_brought_it(run, expect, met):
    """It does not change the verdict; the objectives it names must be among those that failed."""
    spec = experiment(**({"expect": expect} if expect else {}))
    result = judged(run, spec)
    assert as_expected(result, spec)[0] is met
    assert result.verdict == judged(run).verdict


def test_an_expectation_that_is_not_met_says_what_was():
    """Which objective should have failed, and which did."""
    spec = experiment(expect={"verdict": "fail", "objectives": ["talk.rpo"]})
    sentence = as_expected(judged(LATE, spec), spec)[1]
    assert "not for talk.rpo" in sentence
    assert "talk.rto" in sentence


def test_the_modules_under_test_are_the_real_ones():
    """The checks that were broken on purpose above are whole again."""
    assert verdict.check_rto is objectives.check_rto
    assert verdict.service_result is metrics.service_result
