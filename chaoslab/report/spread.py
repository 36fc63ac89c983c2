"""Several runs of one experiment in a terminal: a line for each, then the spread of their measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chaoslab.history.result import Interval, Result
from chaoslab.judge.repeats import Spread
from chaoslab.report.labels import VERDICT_TONES, interval_in_words, one_line
from chaoslab.report.terminal import STYLES
from chaoslab.units import format_s


def print_repeats(
    results: Sequence[Result], spread: Mapping[str, Spread], worst: int, console: Console, *, same_stack: bool = False
) -> None:
    """The table of runs, the table of spreads, and which run decides; `worst` is its index."""
    runs = _table("run", "verdict", "seed", "started", "why")
    for number, result in enumerate(results, 1):
        verdict = Text(result.verdict, style=STYLES[VERDICT_TONES[result.verdict]])
        why = Text(one_line("; ".join(result.reasons[:2])))
        runs.add_row(str(number), verdict, str(result.seed), result.started_at[:19], why)
    console.print(runs)
    spreads = _table("objective", "spread", "p95", "worst", "in run")
    for id_, measured in spread.items():
        p95 = "–" if measured.p95 is None else format_s(measured.p95)
        texts = (id_, _in_words(id_, Interval(measured.low, measured.high)), p95, _in_words(id_, measured.worst))
        spreads.add_row(*(Text(one_line(text)) for text in texts), str(measured.worst_run))
    console.print(spreads)
    verdict_of_all = f"the worst verdict, that of run {worst + 1}, counts: {results[worst].verdict}"
    passed = f"{sum(result.verdict == 'pass' for result in results)} of {len(results)} runs passed"
    where = "all on one stack" if same_stack else "each on a freshly started stack"
    console.print(Text(f"{passed}, {where}; {verdict_of_all}"), soft_wrap=True)


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
