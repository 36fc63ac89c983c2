"""The loop over runs of an experiment, and their common exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from chaoslab.errors import ExitCode
from chaoslab.judge.repeats import worst_run
from chaoslab.report.view import JsonView, View
from chaoslab.run.session import Options, RunOutcome, run_once
from chaoslab.run.shared_stack import SharedStack
from chaoslab.spec.load import Loaded

MakeView = Callable[[int], View]
WantsMore = Callable[[Sequence[RunOutcome]], bool]


def run_while(wants_more: WantsMore, loaded: Loaded, options: Options, make_view: MakeView) -> Iterator[RunOutcome]:
    """Run an experiment until `wants_more`, which is given the runs so far, says no, or until a run is interrupted.

    Yields each run once it is over and its view is closed. `make_view` is given the run's number, from 1. Raises as `run_once`.
    """
    outcomes: list[RunOutcome] = []
    while wants_more(outcomes) and not any(outcome.interrupted for outcome in outcomes):
        view = make_view(len(outcomes) + 1)
        try:
            outcomes.append(run_once(loaded, options, view))
        finally:
            view.close()
        yield outcomes[-1]


def run_on_one_stack(times: int, loaded: Loaded, options: Options, make_view: MakeView) -> Iterator[RunOutcome]:
    """As `run_while`, so many times at most, on one booted stack. One that is not clean is rebooted, which the view shows.

    Raises SpecError with `keep`.
    """
    view: View = JsonView()

    def show(text: str) -> None:
        view.message(text)  # the view of the run that is under way

    with SharedStack(options, show) as stack:
        for number in range(1, times + 1):
            view = make_view(number)
            try:
                outcome = stack.run(loaded, view, last=number == times)
            finally:
                view.close()
            yield outcome
            if outcome.interrupted:
                return


def exit_code_of_runs(outcomes: Sequence[RunOutcome]) -> ExitCode:
    """The exit code of at least one run: the worst run's, or INTERRUPTED when the last run was interrupted."""
    if outcomes[-1].exit_code is ExitCode.INTERRUPTED:
        return ExitCode.INTERRUPTED
    return outcomes[worst_run([outcome.result for outcome in outcomes])].exit_code
