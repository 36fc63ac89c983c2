"""From the folder of a run that is over to its verdict and its reports. Nothing is known here but what is stored."""

from __future__ import annotations

from chaoslab.judging import judge_rows
from chaoslab.report import html
from chaoslab.report.junit import render_junit
from chaoslab.result import Result
from chaoslab.spec.resolved import load_resolved
from chaoslab.store import RunFolder, write_whole


def warm_up() -> None:
    """Do what the first report would have to wait for; made to be called in a thread beside a run."""
    html.warm_up()


def conclude(folder: RunFolder) -> Result:
    """Judge the run and write its result and reports. Raises ChaoslabError when the history is broken or the disk full."""
    experiment, stack = load_resolved(folder.experiment)
    rows = folder.read_rows()
    result = judge_rows(experiment, stack, rows)
    write_whole(folder.report, html.render_html(result, experiment, stack, rows, {}).encode())
    write_whole(folder.junit, render_junit(result).encode())
    folder.write_result(result)
    return result
