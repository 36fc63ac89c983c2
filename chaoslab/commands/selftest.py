"""`chaoslab selftest`: run what is known to be bad, and see that the tool says so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from chaoslab.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoslab.expectations import Compared
    from chaoslab.result import Result
    from chaoslab.spec.load import Loaded


@click.command("selftest")
@click.option("--only", multiple=True, metavar="NAME", help="Run this experiment alone; may be said several times.")
@click.option(
    "--runtime",
    type=click.Choice(["auto", "embedded", "compose"]),
    default="auto",
    show_default=True,
    help="Where the stacks run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print nothing but one object for each experiment, for machines.")
def selftest_command(only: tuple[str, ...], runtime: str, as_json: bool) -> int:
    """Run what is known to be bad and hold its verdict against what it expects, and an outage of known length to be measured.

    These are the experiments tagged known-bad, and those tagged instrument.

    \b
    chaoslab selftest
    chaoslab selftest --only ack-before-persist --runtime embedded

    Exit code 0: each failed, and for the stated objective. 1: one did not, so the tool cannot be believed.
    3: one stayed inconclusive when it was asked three times. 6: all as expected, but something was left behind.
    """
    from chaoslab.expectations import compare, exit_code_of

    compared: list[Compared] = []
    for loaded in _chosen(only):
        results, interrupted = _told(loaded, runtime)
        if interrupted:
            return ExitCode.INTERRUPTED
        compared.append(compare(loaded.experiment, results))
        click.echo(f"{compared[-1].name}: {compared[-1].outcome}; {compared[-1].why}", err=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(compared)).decode())
    else:
        _print_table(compared)
    return exit_code_of(compared)


def _chosen(only: tuple[str, ...]) -> list[Loaded]:
    """What to run. Raises SpecError before anything is started when a name is no experiment of a selftest."""
    from chaoslab.expectations import in_selftest
    from chaoslab.spec.load import find_experiment, list_experiments, load_experiment

    here = Path.cwd()
    names = only or tuple(listed.name for listed in list_experiments(here))
    loaded = [load_experiment(find_experiment(name, here)) for name in names]
    chosen = [one for one in loaded if in_selftest(one.experiment)]
    others = [one.experiment.name for one in loaded if not in_selftest(one.experiment)]
    if only and others:
        raise SpecError(f"not of the selftest: {', '.join(others)}", cure="tag it known-bad and say in `expect` what must fail")
    if not chosen:
        raise SpecError("no experiment here is known to be bad", cure="run this at the top of a chaoslab project")
    return chosen


def _told(loaded: Loaded, runtime: str) -> tuple[list[Result], bool]:
    """The runs of one experiment until it can be told, and whether somebody ended them."""
    from chaoslab.expectations import TRIES, ask_again
    from chaoslab.report.view import JsonView
    from chaoslab.runner import Options, pick_runtime, require_possible, run_once

    runtime, _ = pick_runtime(runtime, loaded)
    require_possible(loaded, runtime)
    results: list[Result] = []
    while ask_again(results):
        click.echo(f"{loaded.experiment.name}: run {len(results) + 1} of at most {TRIES}, {runtime} …", err=True)
        view = JsonView()
        try:
            outcome = run_once(loaded, Options(runtime), view)
        finally:
            view.close()
        results.append(outcome.result)
        if outcome.exit_code is ExitCode.INTERRUPTED:
            return results, True
    return results, False


def _print_table(compared: Sequence[Compared]) -> None:
    from rich import box
    from rich.table import Table

    from chaoslab.report.terminal import make_console

    table = Table("name", "expected", "got", "as expected?", box=box.SIMPLE_HEAD)
    for one in compared:
        table.add_row(one.name, one.expected, one.got, "yes" if one.outcome == "as expected" else f"NO: {one.why}")
    make_console(sys.stdout).print(table)
