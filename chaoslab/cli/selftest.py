"""`chaoslab selftest`: run the known-bad experiments, and check that each one fails as expected."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from chaoslab.cli.options import project_here, runtime_option, use_binds_option
from chaoslab.errors import ChaoslabError, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoslab.report.view import View
    from chaoslab.run.selftest import Compared
    from chaoslab.run.session import RunOutcome
    from chaoslab.spec.load import Loaded


@click.command("selftest")
@click.option("--only", multiple=True, metavar="NAME", help="Run only this experiment; may be given several times.")
@runtime_option
@use_binds_option
@click.option("--whole", is_flag=True, help="Run each to its scripted end, even after it has failed as expected.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but one object for each experiment, for machines.")
def selftest_command(only: tuple[str, ...], runtime: str, use_binds: bool, whole: bool, as_json: bool) -> int:
    """Check that known-bad experiments fail as expected, and that an outage of known length is measured correctly.

    These are the experiments tagged known-bad, and those tagged instrument. A known-bad run ends once the objectives that it
    names have failed for good.

    \b
    chaoslab selftest
    chaoslab selftest --only ack-before-persist --runtime embedded

    Exit code 0: each failed for the stated objective. 1: one did not, so the verdicts of this tool cannot be trusted.
    3: one was still inconclusive after three runs, or cannot run here. 6: all as expected, but something was left behind.
    """
    from chaoslab.run.selftest import compare, not_run, selftest_exit_code

    compared: list[Compared] = []
    project = project_here()
    chosen = _chosen(only, project, use_binds=use_binds)
    with contextlib.chdir(project):
        runtimes = _runtimes(chosen, runtime, may_refuse=not only)
    for loaded, found in zip(chosen, runtimes, strict=True):
        if isinstance(found, ChaoslabError):
            compared.append(not_run(loaded.experiment, str(found)))
        else:
            with contextlib.chdir(project):
                outcomes = _run_until_decided(loaded, found, project, end_early=not whole)
            if outcomes[-1].interrupted:
                return outcomes[-1].exit_code
            compared.append(compare(loaded.experiment, [outcome.result for outcome in outcomes]))
        click.echo(f"{compared[-1].name}: {compared[-1].outcome}; {compared[-1].why}", err=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(compared)).decode())
        return selftest_exit_code(compared)

    from rich import box
    from rich.table import Table

    from chaoslab.report.terminal import make_console

    table = Table("name", "expected", "got", "as expected?", box=box.SIMPLE_HEAD)
    for row in compared:
        table.add_row(row.name, row.expected, row.got, "yes" if row.outcome == "as expected" else f"NO: {row.why}")
    make_console(sys.stdout).print(table)
    return selftest_exit_code(compared)


def _chosen(only: tuple[str, ...], project: Path, *, use_binds: bool) -> list[Loaded]:
    """What to run. Raises SpecError, before anything starts, for a name that is not an experiment of the selftest."""
    from chaoslab.run.selftest import in_selftest
    from chaoslab.spec.load import find_experiment, list_experiments, load_experiment

    names = only or tuple(listed.name for listed in list_experiments(project))
    every = [load_experiment(find_experiment(name, project, Path.cwd()), use_binds=use_binds) for name in names]
    chosen = [loaded for loaded in every if in_selftest(loaded.experiment)]
    others = [loaded.experiment.name for loaded in every if not in_selftest(loaded.experiment)]
    if only and others:
        raise SpecError(
            f"not part of the selftest: {', '.join(others)}", cure="tag it known-bad, and state in `expect` what must fail"
        )
    if not chosen:
        raise SpecError("no experiment is tagged known-bad or instrument", cure="run this inside a chaoslab project")
    return chosen


def _runtimes(chosen: Sequence[Loaded], wanted: str, *, may_refuse: bool) -> list[str | ChaoslabError]:
    """Where each of them runs, or why it cannot run here. Raises that when it may not, or when none can run."""
    from chaoslab.run.runtimes import choose_runtime

    found: list[str | ChaoslabError] = []
    for loaded in chosen:
        try:
            found.append(choose_runtime(wanted, loaded)[0].name)
        except ChaoslabError as refused:
            if not may_refuse:
                raise
            found.append(refused)
    refusals = [one for one in found if isinstance(one, ChaoslabError)]
    if len(refusals) == len(found):
        raise refusals[0]
    return found


def _run_until_decided(loaded: Loaded, runtime: str, project: Path, *, end_early: bool) -> list[RunOutcome]:
    from chaoslab.report.view import JsonView
    from chaoslab.run.repeat import run_while
    from chaoslab.run.selftest import TRIES, ask_again
    from chaoslab.run.session import Options

    def view_of(number: int) -> View:
        click.echo(f"{loaded.experiment.name}: run {number} of at most {TRIES}, {runtime} …", err=True)
        return JsonView()

    def wants_more(done: Sequence[RunOutcome]) -> bool:
        return ask_again([outcome.result for outcome in done])

    return list(run_while(wants_more, loaded, Options(project, runtime, signals=True, end_early=end_early), view_of))
