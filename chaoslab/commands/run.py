"""`chaoslab run`: run an experiment."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaoslab.errors import ExitCode

if TYPE_CHECKING:
    from chaoslab.runner import Outcome
    from chaoslab.spec.load import Loaded

_SEVERITY = ("pass", "inconclusive", "aborted", "error", "fail")  # the worst of several runs decides


@click.command("run")
@click.argument("experiment", metavar="NAME|PATH")
@click.option(
    "--runtime",
    type=click.Choice(["auto", "embedded", "compose"]),
    default="auto",
    show_default=True,
    help="Where the stack runs.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one value of the spec: --set load.users=5."
)
@click.option(
    "--repeat", type=click.IntRange(1, 1000), default=1, show_default=True, help="Run so many times; the worst run decides."
)
@click.option("--seed", type=int, default=None, help="Seed of the load, to run the same again.")
@click.option("--keep", is_flag=True, help="Leave the stack up at the end; `chaoslab heal NAME` takes it down.")
@click.option("--dry-run", is_flag=True, help="Print the resolved targets and times; start nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the result, as JSON.")
def run_command(
    experiment: str,
    runtime: str,
    overrides: tuple[str, ...],
    repeat: int,
    seed: int | None,
    keep: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run an experiment of experiments/ (by name) or a file: boot, prove the steady state, hurt, heal, judge.

    \b
    chaoslab run idc-fire
    chaoslab run idc-fire --set load.users=10 --set timeline.0.heal_after=40s
    chaoslab run my/own.yaml --dry-run

    Everything is written to runs/<experiment>/<time>/; report.html there tells the whole story.
    """
    from chaoslab.spec.load import find_experiment, load_experiment

    loaded = load_experiment(find_experiment(experiment, Path.cwd()), _pairs(overrides))
    runtime, why = _pick_runtime(runtime)
    if dry_run:
        from chaoslab.plan import describe

        click.echo(describe(loaded, runtime, why))
        return ExitCode.PASS
    return _run(loaded, runtime, why, repeat, seed, keep, as_json)


def _run(loaded: Loaded, runtime: str, why: str, repeat: int, seed: int | None, keep: bool, as_json: bool) -> int:
    from chaoslab.host import host_facts
    from chaoslab.report.terminal import make_console, make_view, print_verdict
    from chaoslab.report.view import JsonView
    from chaoslab.runner import Options, run_once
    from chaoslab.store import result_json

    console = make_console(sys.stdout)
    options = Options(runtime, keep, seed, facts=host_facts(), command=shlex.join(["chaoslab", *sys.argv[1:]]))
    outcomes: list[Outcome] = []
    if not as_json:
        console.print(f"runtime: {runtime} ({why})")
    for _ in range(repeat):
        view = JsonView() if as_json else make_view(console)
        try:
            outcome = run_once(loaded, options, view)
        finally:
            view.close()
        outcomes.append(outcome)
        if as_json:
            sys.stdout.buffer.write(result_json(outcome.result))
        else:
            print_verdict(outcome.result, console, report=os.path.relpath(outcome.folder.report), exit_code=outcome.exit_code)
        if outcome.exit_code is ExitCode.INTERRUPTED:
            break
    return _worst(outcomes)


def _worst(outcomes: list[Outcome]) -> int:
    def severity(outcome: Outcome) -> tuple[bool, int]:
        return outcome.exit_code is ExitCode.INTERRUPTED, _SEVERITY.index(outcome.result.verdict)

    return max(outcomes, key=severity).exit_code


def _pairs(overrides: tuple[str, ...]) -> dict[str, str]:
    pairs = [override.partition("=") for override in overrides]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise click.BadParameter(f"{key!r} is not KEY=VALUE, such as load.users=5", param_hint="--set")
    return {key: value for key, _, value in pairs}


def _pick_runtime(wanted: str) -> tuple[str, str]:
    return "embedded", "asked for" if wanted == "embedded" else "no Docker Engine answers"
