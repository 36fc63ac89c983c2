"""A run in a terminal: a live table while it runs, plain lines where there is no terminal, the verdict at the end.

Everything that comes from outside (ids, errors, titles) is shown as text, never interpreted as markup or control codes.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chaoslab.clock import NS_PER_S
from chaoslab.errors import ExitCode, exit_code_of
from chaoslab.history.result import Result
from chaoslab.history.rows import Anchor, AnyRow
from chaoslab.report import business
from chaoslab.report.labels import (
    PHASES,
    VERDICT_TONES,
    VERDICTS,
    Line,
    Tone,
    clean,
    decision_in_words,
    ledger_in_words,
    line_of,
    one_line,
    reasons_in_short,
    shorten,
    split_objective,
    without_ledger,
)
from chaoslab.report.status import FaultState, State, Status
from chaoslab.report.view import View

STYLES: Mapping[Tone, str] = {"plain": "", "good": "green", "bad": "bold red", "warn": "yellow", "quiet": "dim"}
_STATES: Mapping[State, tuple[str, str]] = {  # a sign as well as a colour, for those who cannot tell colours apart
    "up": ("● up", "green"),
    "degraded": ("◐ degraded", "yellow"),
    "down": ("○ down", "bold red"),
    "unknown": ("· unknown", "dim"),
}
_FAULT_STATES: Mapping[FaultState, tuple[str, str]] = {
    "inject": ("injecting", "yellow"),
    "effective": ("in effect", "bold red"),
    "ineffective": ("no effect seen", "yellow"),
    "heal": ("healing", "yellow"),
    "reconnected": ("coming back", "yellow"),
    "healed": ("healed", "green"),
    "unhealed": ("not healed", "bold red"),
}
_PLAIN_WIDTH = 120  # where the output's width cannot be known
_NARROW = 72


def make_console(stream: IO[str] | None = None, *, width: int | None = None) -> Console:
    """A console for people: colours only on a terminal, and not when NO_COLOR is set; no markup, no emoji."""
    sink = stream or sys.stderr
    if isinstance(sink, io.TextIOWrapper):
        sink.reconfigure(errors="replace")  # an ASCII terminal shows a question mark, not a UnicodeEncodeError
    known = width or (None if sink.isatty() else int(os.environ.get("COLUMNS") or _PLAIN_WIDTH))
    return _Console(file=sink, width=known, markup=False, emoji=False, highlight=False)


def make_view(console: Console) -> View:
    """The live view on a terminal that can move its cursor, plain lines anywhere else."""
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else PlainView(console)


class PlainView:
    """One line for each phase, fault, condition and change of a service. No colours, no control codes."""

    def __init__(self, console: Console) -> None:
        self._log = _Log(console, styled=False)
        self._changes = _Changes()

    def row(self, row: AnyRow) -> None:
        self._log.row(row)

    def message(self, text: str) -> None:
        self._log.line(Line(text))

    def tick(self, status: Status) -> None:
        for line in self._changes.lines(status):
            self._log.line(line, status.elapsed_s)

    def close(self) -> None:
        """Nothing to release."""


class LiveView:
    """Events scroll above; the current state is redrawn below. Ends with `close`."""

    def __init__(self, console: Console) -> None:
        self._log = _Log(console, styled=True)
        self._changes = _Changes()
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._live.start()

    def row(self, row: AnyRow) -> None:
        self._log.row(row)

    def message(self, text: str) -> None:
        self._log.line(Line(text, "quiet"))

    def tick(self, status: Status) -> None:
        for line in self._changes.lines(status):
            self._log.line(line, status.elapsed_s)
        with contextlib.suppress(OSError):
            self._live.update(status_panel(status, self._log.console.width), refresh=True)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()


def status_panel(status: Status, width: int) -> RenderableType:
    """The phase and the time left in it, faults, steps, services, load."""
    parts: list[RenderableType] = [Text(), _phase_line(status, width)]
    for id_, fault in status.faults.items():
        if fault.state != "healed":
            words, style = _FAULT_STATES[fault.state]
            text = one_line(f"{'':8}  fault {id_}: {fault.name} {fault.target}: {words} for {fault.since_s:.0f} s")
            parts.append(Text(text, style=style, no_wrap=True, overflow="ellipsis"))
    for id_, step in status.steps.items():
        text = one_line(f"{'':8}  step {id_}: {step.name} {step.what}: for {step.since_s:.0f} s")
        parts.append(Text(text, style="cyan", no_wrap=True, overflow="ellipsis"))
    if status.services:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("service", no_wrap=True, overflow="ellipsis")
        table.add_column("now", no_wrap=True, overflow="ellipsis")
        for title in ("for", "good", "p95"):
            table.add_column(title, justify="right", no_wrap=True, overflow="ellipsis")
        for service, now in status.services.items():
            words, style = _STATES[now.state]
            share = "–" if now.good_share is None else f"{now.good_share:.0%}"
            p95 = "–" if now.p95_ms is None else f"{now.p95_ms:.0f} ms"
            table.add_row(Text(one_line(service)), Text(words, style=style), f"{now.since_s:.0f} s", share, p95)
        failures = Text(f"{status.failures_per_s:.0f} failures/s", style="red" if status.failures_per_s else "")
        load = Text(f"load  {status.users} users  {status.rps:.0f} requests/s  ").append_text(failures)
        parts += [table, load]
    if status.starved:
        parts.append(Text(one_line(f"the machine is starved: {status.starved}"), style=STYLES["warn"]))
    return Group(*parts)


def print_verdict(result: Result, console: Console, *, report: str | None = None, exit_code: ExitCode | None = None) -> None:
    """Print objectives, ledgers, reasons, the report's path and, last, the verdict with the exit code.

    `exit_code` is given when the result alone does not decide it, as for a signal that came after the end. For a run that was
    interrupted without a finding, the objectives are omitted: they show only that the run was too short. The report has them.
    """
    _show(console, Text())
    too_short = result.interrupted and result.verdict == "inconclusive"
    if not too_short:
        if result.objectives:
            _show(console, _objectives_table(result, console.width))
        ledgers = [f"ledger {service}: {ledger_in_words(ledger)}" for service, ledger in result.ledger.items()]
        for line in [*map(decision_in_words, result.decisions), *ledgers]:
            _show(console, Text(one_line(line)))
        if unmeasured := without_ledger(result):
            _show(console, Text(one_line(f"no ledger: {', '.join(unmeasured)}; RPO not measured")))
        for journey, function in business.told(result).items():
            if result.functions[journey].mode != "required":
                mode = f"{journey} ({result.functions[journey].mode})"
                _show(console, Text(one_line(f"{mode}: {function.happened} Promise: {function.kept}")))
    for prefix, lines in (("warning: ", result.warnings), ("left behind: ", result.left_behind)):
        for line in lines:
            _show(console, Text(one_line(prefix + line), style=STYLES["warn"]))
    if report:
        _show(console, Text(f"report: {one_line(report)}"), wrap=False)
    _show(console, Text(f"\n{'The run was interrupted.' if result.interrupted else VERDICTS[result.verdict]}", style="bold"))
    for reason in reasons_in_short(result):
        if not too_short or reason.startswith("interrupted"):
            _show(console, Text(clean(f"- {reason}")))
    if result.command:
        _show(console, Text(f"run it again: {one_line(result.command)}"), wrap=False)
    code = exit_code_of(result) if exit_code is None else exit_code
    verdict = f"{result.verdict}, interrupted" if result.interrupted else result.verdict
    _show(console, Text(f"verdict: {verdict} (exit {int(code)})", style=STYLES[VERDICT_TONES[result.verdict]]))


class _Console(Console):
    """Prints nothing more once its reader has gone. rich would exit with 1, which here means that an objective was missed."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with contextlib.suppress(OSError):  # so that the flush at exit does not fail either
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class _Log:
    """Lines with the seconds of the run in front."""

    def __init__(self, console: Console, *, styled: bool) -> None:
        self.console = console
        self._styled = styled
        self._start_ns: int | None = None

    def row(self, row: AnyRow) -> None:
        if self._start_ns is None or isinstance(row, Anchor):
            self._start_ns = row.t_ns
        line = line_of(row)
        if line is not None:
            self.line(line, (row.t_ns - self._start_ns) / NS_PER_S)

    def line(self, line: Line, elapsed_s: float | None = None) -> None:
        when = " " * 8 if elapsed_s is None else f"{elapsed_s:7.1f}s"
        words = clean(line.text).replace("\n", f"\n{'':10}")  # the log lines of an error stay below each other
        body = Text(words, style=STYLES[line.tone] if self._styled else "")
        _show(self.console, Text(when + "  ", style="dim" if self._styled else "").append_text(body), wrap=self._styled)


class _Changes:
    """Turns one status after another into a line for each service, and the machine, whose state changed."""

    def __init__(self) -> None:
        self._starved_since_s: float | None = None
        self._before: dict[str, State] = {}
        self._changed_at_s: dict[str, float] = {}

    def lines(self, status: Status) -> list[Line]:
        found = []
        for service, now in status.services.items():
            before = self._before.get(service)
            if now.state == before:
                continue
            if before or now.state != "up":
                share = "no answer" if now.good_share is None else f"{now.good_share:.0%} good"
                lasted_s = status.elapsed_s - self._changed_at_s.get(service, status.elapsed_s)
                after = f", was {before} for {lasted_s:.1f} s" if before and before != "up" else ""
                tones: Mapping[State, Tone] = {"up": "good", "degraded": "warn", "down": "bad"}
                found.append(Line(f"{service} is {now.state} ({share}){after}", tones.get(now.state, "plain")))
            self._before[service] = now.state
            self._changed_at_s[service] = status.elapsed_s
        since_s = self._starved_since_s
        if status.starved and since_s is None:
            self._starved_since_s = status.elapsed_s
            found.append(Line(f"the machine is starved: {status.starved}", "warn"))
        elif since_s is not None and not status.starved:
            self._starved_since_s = None
            found.append(Line(f"the machine is no longer starved, after {status.elapsed_s - since_s:.0f} s", "good"))
        return found


def _phase_line(status: Status, width: int) -> RenderableType:
    words = PHASES[status.phase] if status.phase else "healing and cleaning up" if status.begun else "starting"
    line = Table.grid(padding=(0, 2, 0, 0))
    cells: list[RenderableType] = [Text(f"{status.elapsed_s:7.1f}s", style="dim"), Text(words, style="bold", no_wrap=True)]
    if status.left_s is not None and status.phase_length_s:
        done = min(1.0, 1 - status.left_s / status.phase_length_s)
        cells += [ProgressBar(total=1.0, completed=done, width=max(4, min(30, width - _NARROW + 30)))]
        left = f"until recovery, at most {status.left_s:.0f} s" if status.at_most else f"{status.left_s:.0f} s left"
        cells += [Text(left, style="cyan", no_wrap=True)]
    line.add_row(*cells)
    return line


def _objectives_table(result: Result, width: int) -> Table:
    """If there is no room for the reasons beside the verdicts, they are printed below them."""
    narrow = width < _NARROW
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=False)
    for title in ("service", "objective", "measured", "verdict") + (() if narrow else ("why",)):
        table.add_column(title, overflow="fold")
    for objective in result.objectives:
        service, name = split_objective(objective.id, result.services)
        texts = (service or "–", f"{name} {objective.objective}".strip(), objective.measured)
        verdict = Text(objective.verdict, style=STYLES[VERDICT_TONES[objective.verdict]])
        why = Text(shorten(one_line(objective.why)))
        table.add_row(*(Text(one_line(text)) for text in texts), verdict, *(() if narrow else (why,)))
        if narrow and objective.why:
            table.add_row("", "", why, "")
    return table


def _show(console: Console, what: RenderableType, *, wrap: bool = True) -> None:
    """Print. A reader that has gone (a closed pipe or terminal) must not end a run that still has to heal."""
    with contextlib.suppress(OSError):
        console.print(what, soft_wrap=not wrap)
