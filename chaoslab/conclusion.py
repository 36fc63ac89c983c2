"""From the folder of a run that is over to its verdict and its reports. Nothing is known here but what is stored."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass
from functools import partial

import msgspec

from chaoslab.errors import ChaoslabError
from chaoslab.judging import judge_rows
from chaoslab.report import html, plain
from chaoslab.report.junit import render_junit
from chaoslab.result import Result
from chaoslab.said import objective
from chaoslab.spec.resolved import load_resolved
from chaoslab.store import RunFolder, write_whole
from chaoslab.verdict import worst_of


def warm_up() -> None:
    """Do what the first report would have to wait for; made to be called in a thread beside a run."""
    html.warm_up()


@dataclass(frozen=True)
class Drafted:
    """A result and its reports, not yet on the disk."""

    result: Result
    page: str
    junit: str

    def publish(self, folder: RunFolder) -> Result:
        """Put them in place. Raises EnvironmentFault when the disk is full."""
        write_whole(folder.report, self.page.encode())
        write_whole(folder.junit, self.junit.encode())
        folder.write_result(self.result)
        return self.result


def draft(folder: RunFolder) -> Drafted:
    """Judge the run and write its reports. Raises ChaoslabError when the history is broken.

    Where judging or drawing crashes, the reports say so, and the verdict is at least error.
    """
    experiment, stack = load_resolved(folder.experiment)
    result, record = judge_rows(experiment, stack, folder.read_rows(), partial(_log, folder))
    try:
        page = html.render_html(result, experiment, stack, record) if record else plain.page(result)
        return Drafted(result, page, render_junit(result))
    except Exception as bug:
        _log(folder, bug)
        result = _undrawn(result, bug)
        return Drafted(result, plain.page(result), plain.junit(result))


def _log(folder: RunFolder, bug: Exception) -> None:
    """Add the traceback to what the harness has to say of itself; where that cannot be written, the result says enough."""
    log = folder.logs / "harness.log"
    with contextlib.suppress(OSError, ChaoslabError):
        before = log.read_bytes() if log.exists() else b""
        write_whole(log, before + "".join(traceback.format_exception(bug)).encode(errors="replace"))


def _undrawn(result: Result, bug: Exception) -> Result:
    why = f"the report could not be drawn: {type(bug).__name__}: {bug} (see logs/harness.log)"
    return msgspec.structs.replace(
        result,
        verdict=worst_of([result.verdict, "error"]),
        objectives=[*result.objectives, objective("report", ("error", why), "not drawn", "")],
        reasons=[*result.reasons, why],
    )
