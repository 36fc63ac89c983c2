"""A run in a terminal, and where there is none."""

import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from synthetic_runs import Run, aborted, at, decided, failing, inconclusive, passing

from chaoslab.clock import NS_PER_S, FakeClock
from chaoslab.errors import ExitCode
from chaoslab.history.result import FunctionResult
from chaoslab.history.rows import Condition, Machine, Note
from chaoslab.report.status import Status, StatusTracker
from chaoslab.report.terminal import LiveView, PlainView, make_console, make_view, print_verdict, status_panel
from chaoslab.report.view import JsonView, View

HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]x[/] \x9b31m :boom:\r\n"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def play(run: Run, view: View, *, step_s: float = 0.25) -> Status:
    """Feed a stored run to a view as it happened; returns the status 10 s into the fault."""
    clock = FakeClock(run.rows[0].t_ns)
    tracker = StatusTracker(clock)
    next_ns, kept = run.rows[0].t_ns, tracker.status()
    for row in run.rows:
        clock.sleep((row.t_ns - clock.now_ns()) / NS_PER_S)
        tracker.row(row)
        view.row(row)
        if row.t_ns >= next_ns:
            next_ns = row.t_ns + round(step_s * NS_PER_S)
            status = tracker.status()
            view.tick(status)
            kept = status if row.t_ns < at(30) else kept
    view.close()
    return kept


def verdict_of(run: Run, width: int = 120, **more: ExitCode) -> str:
    sink = io.StringIO()
    print_verdict(run.result, make_console(sink, width=width), report="runs/idc-fire/latest/report.html", **more)
    return sink.getvalue()


def test_without_a_terminal_there_are_plain_lines() -> None:
    """One line a phase, fault and change of a service; no control code, no colour, however many rows there are."""
    sink = io.StringIO()
    view = make_view(make_console(sink))
    assert isinstance(view, PlainView)
    play(failing(), view)
    text = sink.getvalue()
    lines = text.splitlines()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert len(lines) < 60
    assert all(re.match(r" *\d+\.\ds  \S", line) for line in lines)
    assert any(re.match(r" +20\.0s  fault fire: site\.power-loss pangyo: injecting", line) for line in lines)
    assert any("pay is down (no answer)" in line for line in lines)
    assert sum("pay is down" in line for line in lines) == 1
    assert any(re.search(r"pay is degraded .*, was down for 59\.\d s", line) for line in lines)


def test_a_long_line_is_not_broken_where_there_is_no_terminal() -> None:
    """A log line stays one line, so that it can be searched."""
    sink = io.StringIO()
    PlainView(make_console(sink, width=40)).message("x " * 100)
    assert len(sink.getvalue().splitlines()) == 1


def test_of_a_long_answer_the_begin_is_shown() -> None:
    """The history has all of it. Known bad: a condition's whole answer, of a cluster with many members, in a narrow column."""
    sink, answer = io.StringIO(), "not true: x; observed: " + "m" * 400
    view = PlainView(make_console(sink))
    view.row(Condition(t_ns=at(0), id="leader", holds=False, observed=answer, role="failback"))
    assert f"{answer[:300]}…" in sink.getvalue()
    run = failing()
    run.result.objectives[0] = msgspec.structs.replace(run.result.objectives[0], why=answer)
    assert verdict_of(run, width=100).count("m" * 25) == 277 // 25


def test_no_color_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR takes the colours away and keeps the rest."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    sink = Terminal()
    print_verdict(failing().result, make_console(sink))
    assert not re.search(r"\x1b\[[\d;]*3\d", sink.getvalue())
    assert "verdict: fail" in sink.getvalue()


def test_a_terminal_gets_colours_and_a_live_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the view repaints, and gives the cursor back at the end, even when closed twice."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    sink = Terminal()
    view = make_view(make_console(sink, width=100))
    assert isinstance(view, LiveView)
    status = play(passing(), view)
    view.close()
    text = sink.getvalue()
    assert "\x1b[?25l" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "requests/s" in text
    assert status.services["pay"].state == "down"


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cannot move its cursor is not asked to."""
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_view(make_console(Terminal())), PlainView)


@pytest.mark.parametrize("width", [30, 50, 80, 160])
def test_the_live_table_fits(width: int) -> None:
    """Phase with time left, faults, services, load: all there, no line wider than the terminal."""
    status = play(passing(), JsonView())
    sink = io.StringIO()
    Console(file=sink, width=width, markup=False).print(status_panel(status, width))
    lines = sink.getvalue().splitlines()
    assert max(len(line) for line in lines) <= width
    if width >= 80:
        text = sink.getvalue()
        assert re.search(r"running the fault timeline .* 40 s left", text)
        assert "fault fire: site.power-loss pangyo: in effect for 10 s" in text
        assert re.search(r"pay +○ down +9 s +0%", text)
        assert re.search(r"load +40 users +\d+ requests/s +\d+ failures/s", text)


@pytest.mark.parametrize("width", [30, 50, 120])
def test_a_phase_that_waits_for_recovery_says_so(width: int) -> None:
    """The time left is that of the latest heal."""
    sink = io.StringIO()
    status = replace(play(passing(), JsonView()), at_most=True)
    Console(file=sink, width=width, markup=False).print(status_panel(status, width))
    assert max(map(len, sink.getvalue().splitlines())) <= width
    if width == 120:
        assert re.search(r"running the fault timeline .* until recovery, at most 40 s", sink.getvalue())


@pytest.mark.parametrize(
    ("make", "last"),
    [
        (passing, "verdict: pass (exit 0)"),
        (failing, "verdict: fail (exit 6)"),
        (inconclusive, "verdict: inconclusive (exit 3)"),
        (aborted, "verdict: aborted (exit 4)"),
    ],
)
def test_the_last_line_names_verdict_and_exit_code(make: type, last: str) -> None:
    """Whoever runs this through make, which turns every code into 2, still sees the code."""
    assert verdict_of(make()).splitlines()[-1] == last


def test_an_interruption_has_its_own_exit_code() -> None:
    """What the result cannot know is given."""
    assert verdict_of(aborted(), exit_code=ExitCode.INTERRUPTED).endswith("verdict: aborted (exit 130)\n")


def test_the_verdict_shows_who_decided_and_when() -> None:
    """Each outage in its parts on one line; no figures where one is not known."""
    decisions, _ = decided()
    sink = io.StringIO()
    print_verdict(msgspec.structs.replace(passing().result, decisions=decisions), Console(file=sink, width=160))
    text = sink.getvalue()
    assert "pay after fire: 23.08 s = detect 19.84 s + decide 0.20 s + act 1.90 s + verify 1.14 s\n" in text
    hand = (
        "talk after fire (by hand): 623.08 s = detect 19.84 s + decide 0.20 s + act 1.90 s + verify 1.14 s + declared 600.0 s\n"
    )
    assert hand in text
    assert "auth after fire: no split: decided was not seen\n" in text


def test_the_verdict_shows_objectives_ledgers_and_reasons() -> None:
    """Service, objective, measured interval, verdict and why; each ledger on one line; where the report lies."""
    text = verdict_of(failing(), width=160)
    assert re.search(r"talk +rto < 45s +23\.2\.\.23\.3 s +pass", text)
    assert re.search(r"pay +rto < 45s +>= 59\.7 s +fail +it did not recover before the heal", text)
    assert "ledger pay: 1204 acked, 0 rejected, 2930 indeterminate, 1 recovered; 17 lost, 2 stale" in text
    assert "ledger talk: 3098 acked, 2 rejected, 1220 indeterminate, 5 recovered; no findings" in text
    assert "- pay lost 17 acknowledged writes; the objective allows none" in text
    assert "left behind: process 4711 (postgres) in /tmp/chaoslab-x" in text
    assert "report: runs/idc-fire/latest/report.html" in text


@pytest.mark.parametrize("width", [36, 60])
def test_a_narrow_terminal_still_tells_why(width: int) -> None:
    """Without room for the column, the reason stands below its objective; no line is too wide but the report's path."""
    text = verdict_of(failing(), width=width)
    table = [line for line in text.splitlines() if not line.startswith("report:")]
    assert max(len(line) for line in table) <= width
    assert "recover" in text
    assert text.splitlines()[-1] == "verdict: fail (exit 6)"


def test_hostile_strings_reach_no_terminal() -> None:
    """Control codes, markup and emoji names in ids, answers and notes are shown as text or dropped."""
    run = failing()
    objective = msgspec.structs.replace(run.result.objectives[2], measured=HOSTILE, why=HOSTILE, id=HOSTILE)
    result = msgspec.structs.replace(run.result, objectives=[objective], reasons=[HOSTILE], left_behind=[HOSTILE])
    sink = io.StringIO()
    print_verdict(result, make_console(sink, width=200), report=HOSTILE)
    view = PlainView(make_console(sink, width=200))
    view.row(Note(t_ns=0, level="error", text=HOSTILE))
    view.message(HOSTILE)
    text = sink.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert text.count("[bold red]x[/]") == 8  # id, measured, why, reason, left behind, report, note, told
    assert ":boom:" in text


def test_a_reader_that_went_away_does_not_end_the_run() -> None:
    """`chaoslab run | head`: the run still has to heal and to exit with its own code, so a closed pipe is not an error."""
    code = """
import sys
from chaoslab.report.terminal import PlainView, make_console
console = make_console(sys.stdout)
sys.stdin.read()
for _ in range(3):
    PlainView(console).message("x")
sys.exit(42)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait(20) == 42


def test_an_ascii_terminal_is_no_error(tmp_path: Path) -> None:
    """Signs that the output's encoding lacks become question marks."""
    with (tmp_path / "out").open("w", encoding="ascii") as sink:
        view = PlainView(make_console(sink))
        view.message("로그인 — down")
        print_verdict(failing().result, make_console(sink))
    assert "verdict: fail (exit 6)" in (tmp_path / "out").read_text()


def test_json_means_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json nothing but the result is ever printed."""
    play(passing(), JsonView())
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_of_an_interrupted_run_only_what_was_found_is_told() -> None:
    """Known bad: a screen full of what could not be judged; and, worse, a failure that was seen and not told."""
    run = failing()
    for verdict, told in (("inconclusive", False), ("fail", True)):
        clean = {"cleanup": "complete", "left_behind": [], "reasons": ["interrupted: ended by SIGINT"]}
        result = msgspec.structs.replace(run.result, interrupted=True, verdict=verdict, **clean)
        sink = io.StringIO()
        print_verdict(result, make_console(sink, width=120))
        assert ("objective" in sink.getvalue()) is told
        assert "interrupted: ended by SIGINT" in sink.getvalue()
        assert f"verdict: {verdict}, interrupted (exit 130)" in sink.getvalue()


def test_a_starved_machine_has_one_line_when_it_begins_and_one_when_it_ends() -> None:
    """However many seconds it lasts; and a line below the table of services while it does."""
    run, sink = failing(), io.StringIO()
    late = [
        Machine(t_ns=at(second + 1), begin_ns=at(second), starved=25 <= second < 30, why="the control's read: 2.1 s")
        for second in range(10, 40)
    ]
    rows = sorted([*run.rows, *late], key=lambda row: row.t_ns)
    status = play(replace(run, rows=rows), PlainView(make_console(sink)))
    lines = [line for line in sink.getvalue().splitlines() if "the machine is" in line]
    assert [line.split("  ")[-1] for line in lines] == [
        "the machine is starved: the control's read: 2.1 s",
        "the machine is no longer starved, after 5 s",
    ]
    panel = io.StringIO()
    make_console(panel, width=100).print(status_panel(status, 100))
    assert status.starved is not None
    assert "the machine is starved: the control's read: 2.1 s" in panel.getvalue()


def test_degraded_modes_are_told_at_the_end() -> None:
    """Of those functions alone that have one."""
    run, sink = passing(), io.StringIO()
    fields = {"service": "pay", "disrupted_s": 50.0, "away_s": 12.0, "away_after_s": 0.0, "failback_s": 30.0, "kept": "kept"}
    functions = {
        "pay.balance": FunctionResult(title="See the balance", mode="allowed", used=True, **fields),
        "pay.look": FunctionResult(title="Look", mode="required", **fields),
    }
    print_verdict(msgspec.structs.replace(run.result, functions=functions), make_console(sink, width=160))
    assert "pay.balance (allowed): Did not work for 12 s. Promise: kept" in sink.getvalue().splitlines()
    assert "pay.look" not in sink.getvalue()
