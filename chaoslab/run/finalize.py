"""From the folder of a finished run to its verdict and its reports. Uses only what is stored."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass
from functools import partial

import msgspec

from chaoslab.errors import ChaoslabError, worst_verdict
from chaoslab.history.folder import RunFolder
from chaoslab.history.result import Result
from chaoslab.history.writer import write_whole
from chaoslab.judge.outcome import objective
from chaoslab.judge.verdict import OnCrash, judge_rows
from chaoslab.report import html, plain
from chaoslab.report.junit import render_junit
from chaoslab.run import runtimes
from chaoslab.spec.resolved import load_resolved, spec_sha256


@dataclass(frozen=True)
class Finalized:
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


def finalize_run(folder: RunFolder, on_crash: OnCrash | None = None) -> Finalized:
    """Judge the run and write its reports. Raises ChaoslabError when the history is broken.

    Where judging or drawing crashes, the reports say so, and the verdict is at least error. `on_crash` is given what it crashed
    with, which is else added to the run's own log.
    """
    on_crash = on_crash or partial(_log, folder)
    experiment, stack = load_resolved(folder.experiment)
    result, record = judge_rows(experiment, stack, folder.read_rows(), on_crash)
    result = msgspec.structs.replace(result, spec_sha256=spec_sha256(folder.experiment.read_bytes()))
    try:
        limits = runtimes.limits_of(result.runtime)
        page = html.render_html(result, experiment, stack, record, limits=limits) if record else plain.page(result)
        return Finalized(result, page, render_junit(result))
    except Exception as bug:
        on_crash(bug)
        why = f"the report could not be rendered: {type(bug).__name__}: {bug} (see logs/harness.log)"
        result = msgspec.structs.replace(
            result,
            verdict=worst_verdict([result.verdict, "error"]),
            objectives=[*result.objectives, objective("report", ("error", why), "not drawn", "")],
            reasons=[*result.reasons, why],
        )
        return Finalized(result, plain.page(result), plain.junit(result))


def _log(folder: RunFolder, bug: Exception) -> None:
    """Add the traceback to the harness's own log; where that cannot be written, the result says enough."""
    log = folder.logs / "harness.log"
    with contextlib.suppress(OSError, ChaoslabError):
        before = log.read_bytes() if log.exists() else b""
        write_whole(log, before + "".join(traceback.format_exception(bug)).encode(errors="replace"))
