"""From the folder of a run that is over to its verdict and its reports. Nothing is known here but what is stored."""

from __future__ import annotations

from dataclasses import dataclass

from chaoslab.judging import judge_rows
from chaoslab.report import html
from chaoslab.report.junit import render_junit
from chaoslab.result import Result
from chaoslab.spec.resolved import load_resolved
from chaoslab.store import RunFolder, write_whole


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
    """Judge the run and write its reports. Raises ChaoslabError when the history is broken."""
    experiment, stack = load_resolved(folder.experiment)
    rows = folder.read_rows()
    result = judge_rows(experiment, stack, rows)
    return Drafted(result, html.render_html(result, experiment, stack, rows, {}), render_junit(result))
