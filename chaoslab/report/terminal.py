"""A run in a terminal: a live table while it goes, plain lines where there is no terminal, the verdict at the end.

Everything that comes from outside (ids, errors, titles) is shown as text, never read as markup or control codes.
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
from chaoslab.errors import ExitCode
from chaoslab.events import Anchor, AnyRow
from chaoslab.report.status import FaultNow, ServiceNow, State, Status
from chaoslab.report.view import View
from chaoslab.report.words import (
    PHASES,
    VERDICT_TONES,
    VERDICTS,
    Line,
    Tone,
    clean,
    exit_code_of,
    in_short,
    ledger_in_words,
    line_of,
    one_line,
    split_objective,
)
from chaoslab.result import ObjectiveResult, Result

STYLES: Mapping[Tone, str] = {"plain": "", "good": "green", "bad": "bold red", "warn": "yellow", "quiet": "dim"}
_STATES: Mapping[State, tuple[str, str]] = {  # a sign as well as a colour, for those who cannot tell colours apart
    "up": ("● up", "green"),
    "degraded": ("◐ degraded", "yellow"),
    "down": ("○ down", "bold red"),
    "unknown": ("· unknown", "dim"),
}
_FAULT_STYLES = {"inject": "yellow", "effective": "bold red", "heal": "yellow", "healed": "green"}
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

    def tell(self, text: str) -> None:
        self._log.line(Line(text))

    def tick(self, status: Status) -> None:
        for line in self._changes.lines(status):
            self._log.line(line, status.elapsed_s)

    def close(self) -> None:
        """Nothing to give back."""


class LiveView:
    """What happened scrolls by above; how things stand is repainted below. Ends with `close`."""

    def __init__(self, console: Console) -> None:
        self._log = _Log(console, styled=True)
        self._changes = _Changes()
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._live.start()

    def row(self, row: AnyRow) -> None:
        self._log.row(row)

    def tell(self, text: str) -> None:
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
    """How things stand: the phase and what is left of it, faults, services, load."""
    faults = [fault for fault in status.faults.items() if fault[1].state != "healed"]
    parts: list[RenderableType] = [Text(), _phase_line(status, width)]
    parts += [_fault_line(id_, fault) for id_, fault in faults]
    if status.services:
        parts += [_services_table(status.services), _load_line(status)]
    if status.starved:
        parts += [Text(one_line(f"the machine is starved: {status.starved}"), style=STYLES["warn"])]
    return Group(*parts)


def print_verdict(result: Result, console: Console, *, report: str | None = None, exit_code: ExitCode | None = None) -> None:
    """The objectives, the ledgers, why, where the report lies and, last, the verdict with the exit code.

    `exit_code` is given where the result alone does not decide it, as for a signal that came after the end. Of a run that was
    interrupted nobody wants to read what could not be judged; the report has it. What was found before is told.
    """
    _show(console, Text())
    untold = result.interrupted and result.verdict == "inconclusive"
    if not untold:
        _show_findings(result, console)
    for prefix, lines in (("warning: ", result.warnings), ("left behind: ", result.left_behind)):
        for line in lines:
            _show(console, Text(one_line(prefix + line), style=STYLES["warn"]))
    if report:
        _show(console, Text(f"report: {one_line(report)}"), wrap=False)
    _show(console, Text(f"\n{'The run was interrupted.' if result.interrupted else VERDICTS[result.verdict]}", style="bold"))
    for reason in [why for why in in_short(result) if not untold or why.startswith("interrupted")]:
        _show(console, Text(clean(f"- {reason}")))
    if result.command:
        _show(console, Text(f"run it again: {one_line(result.command)}"), wrap=False)
    code = exit_code_of(result) if exit_code is None else exit_code
    verdict = f"{result.verdict}, interrupted" if result.interrupted else result.verdict
    _show(console, Text(f"verdict: {verdict} (exit {int(code)})", style=STYLES[VERDICT_TONES[result.verdict]]))


def _show_findings(result: Result, console: Console) -> None:
    if result.objectives:
        _show(console, _objectives_table(result, console.width))
    for service, ledger in result.ledger.items():
        _show(console, Text(one_line(f"ledger {service}: {ledger_in_words(ledger)}")))


class _Console(Console):
    """Falls silent when its reader goes away. rich would exit with 1, which here means that an objective was missed."""

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
            if now.state != before:
                lasted_s = status.elapsed_s - self._changed_at_s.get(service, status.elapsed_s)
                found += [_change(service, before, now, lasted_s)] if before or now.state != "up" else []
                self._before[service] = now.state
                self._changed_at_s[service] = status.elapsed_s
        return [*found, *self._of_machine(status)]

    def _of_machine(self, status: Status) -> list[Line]:
        since_s = self._starved_since_s
        if (since_s is None) == (status.starved is None):
            return []
        self._starved_since_s = status.elapsed_s if status.starved else None
        if status.starved:
            return [Line(f"the machine is starved: {status.starved}", "warn")]
        return [Line(f"the machine is in time again, after {status.elapsed_s - (since_s or 0.0):.0f} s", "good")]


def _change(service: str, before: State | None, now: ServiceNow, lasted_s: float) -> Line:
    share = "no answer" if now.good_share is None else f"{now.good_share:.0%} good"
    after = f", was {before} for {lasted_s:.1f} s" if before and before != "up" else ""
    tone: Mapping[State, Tone] = {"up": "good", "degraded": "warn", "down": "bad"}
    return Line(f"{service} is {now.state} ({share}){after}", tone.get(now.state, "plain"))


def _phase_line(status: Status, width: int) -> RenderableType:
    words = PHASES[status.phase] if status.phase else "healing and cleaning up" if status.begun else "starting"
    line = Table.grid(padding=(0, 2, 0, 0))
    cells: list[RenderableType] = [Text(f"{status.elapsed_s:7.1f}s", style="dim"), Text(words, style="bold", no_wrap=True)]
    if status.left_s is not None and status.phase_length_s:
        done = min(1.0, 1 - status.left_s / status.phase_length_s)
        cells += [ProgressBar(total=1.0, completed=done, width=max(4, min(30, width - _NARROW + 30)))]
        cells += [Text(f"{status.left_s:.0f} s left", style="cyan", no_wrap=True)]
    line.add_row(*cells)
    return line


def _fault_line(id_: str, fault: FaultNow) -> Text:
    words = "in effect" if fault.state == "effective" else fault.state
    text = f"{'':8}  fault {id_}: {fault.name} {fault.target}: {words} for {fault.since_s:.0f} s"
    return Text(one_line(text), style=_FAULT_STYLES.get(fault.state, "yellow"), no_wrap=True, overflow="ellipsis")


def _services_table(services: Mapping[str, ServiceNow]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in ("service", "now", "for", "good", "p95"):
        table.add_column(title, justify="left" if title in ("service", "now") else "right", no_wrap=True, overflow="ellipsis")
    for service, now in services.items():
        words, style = _STATES[now.state]
        share = "–" if now.good_share is None else f"{now.good_share:.0%}"
        p95 = "–" if now.p95_ms is None else f"{now.p95_ms:.0f} ms"
        table.add_row(Text(one_line(service)), Text(words, style=style), f"{now.since_s:.0f} s", share, p95)
    return table


def _load_line(status: Status) -> Text:
    words = f"load  {status.users} users  {status.rps:.0f} requests/s  "
    return Text(words).append(f"{status.failures_per_s:.0f} failures/s", style="red" if status.failures_per_s else "")


def _objectives_table(result: Result, width: int) -> Table:
    narrow = width < _NARROW
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=False)
    for title in ("service", "objective", "measured", "verdict") + (() if narrow else ("why",)):
        table.add_column(title, overflow="fold")
    for objective in result.objectives:
        cells = _objective_cells(objective, result)
        table.add_row(*(cells[:-1] if narrow else cells))
        if narrow and objective.why:
            table.add_row("", "", Text(one_line(objective.why)), "")
    return table


def _objective_cells(objective: ObjectiveResult, result: Result) -> list[Text]:
    service, name = split_objective(objective.id, result.services)
    wanted = f"{name} {objective.objective}".strip()
    verdict = Text(objective.verdict, style=STYLES[VERDICT_TONES[objective.verdict]])
    texts = [Text(one_line(text)) for text in (service or "–", wanted, objective.measured)]
    return [*texts, verdict, Text(one_line(objective.why))]


def _show(console: Console, what: RenderableType, *, wrap: bool = True) -> None:
    """Print; a reader that went away (a closed pipe or terminal) must not end a run that still has to heal."""
    with contextlib.suppress(OSError):
        console.print(what, soft_wrap=not wrap)
