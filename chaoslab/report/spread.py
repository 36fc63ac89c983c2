"""Several runs of one experiment in a terminal: one line each, then how far the figures lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chaoslab.repeats import Spread
from chaoslab.report.terminal import STYLES
from chaoslab.report.words import VERDICT_TONES, interval_in_words, one_line
from chaoslab.result import Interval, Result


def print_repeats(results: Sequence[Result], spread: Mapping[str, Spread], worst: int, console: Console) -> None:
    """The table of runs, the table of spreads, and which run decides."""
    console.print(_runs(results))
    console.print(_spreads(spread))
    console.print(
        Text(
            f"{len(results)} runs, each on a stack booted anew; the worst, run {worst + 1}, decides: {results[worst].verdict}"
        ),
        soft_wrap=True,
    )


def _runs(results: Sequence[Result]) -> Table:
    table = _table("run", "verdict", "seed", "started", "why")
    for number, result in enumerate(results, 1):
        why = "; ".join(result.reasons[:2])
        verdict = Text(result.verdict, style=STYLES[VERDICT_TONES[result.verdict]])
        table.add_row(str(number), verdict, str(result.seed), result.started_at[:19], Text(one_line(why)))
    return table


def _spreads(spread: Mapping[str, Spread]) -> Table:
    table = _table("objective", "spread", "worst", "in run")
    for id_, one in spread.items():
        texts = (id_, _in_words(id_, Interval(one.low, one.high)), _in_words(id_, one.worst))
        table.add_row(*(Text(one_line(text)) for text in texts), str(one.worst_run))
    return table


def _in_words(id_: str, interval: Interval) -> str:
    if not id_.endswith(".availability") or interval.high is None:
        return interval_in_words(interval)
    shares = f"{100 * interval.low:.2f}", f"{100 * interval.high:.2f}"
    return f"{' to '.join(dict.fromkeys(shares))} %"


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table
