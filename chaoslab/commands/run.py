"""`chaoslab run`: run an experiment."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaoslab.errors import ExitCode
from chaoslab.masking import mask_shapes

if TYPE_CHECKING:
    from rich.console import Console

    from chaoslab.runner import Options, Outcome
    from chaoslab.spec.load import Loaded


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
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Boot and run so many times; the worst decides.",
)
@click.option("--seed", type=int, default=None, help="Seed of the load, to run the same again.")
@click.option("--keep", is_flag=True, help="Leave the stack up at the end; `chaoslab heal NAME` takes it down.")
@click.option("--allow-exec", is_flag=True, help="Let `exec` faults of a spec run that is not this project's own.")
@click.option("--dry-run", is_flag=True, help="Print the resolved targets and times; start nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the result, or the plan, as JSON.")
def run_command(
    experiment: str,
    runtime: str,
    overrides: tuple[str, ...],
    repeat: int,
    seed: int | None,
    keep: bool,
    allow_exec: bool,
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
    if dry_run:
        return _describe(loaded, *_picked(runtime, loaded), as_json=as_json)
    gathering = ThreadPoolExecutor(1).submit(_facts)  # asks half a dozen programs, while we import the rest
    from chaoslab.runner import Options

    runtime, why = _picked(runtime, loaded)
    flags = {"--keep": keep, "--allow-exec": allow_exec}
    command = _command(experiment, runtime, overrides, [flag for flag, given in flags.items() if given])
    facts = gathering.result()
    options = Options(runtime, keep, seed, facts=facts, command=command, allow_exec=allow_exec)
    return _run(loaded, options, why, repeat, as_json)


def _picked(wanted: str, loaded: Loaded) -> tuple[str, str]:
    from chaoslab.runner import pick_runtime, require_possible

    runtime, why = pick_runtime(wanted, loaded)
    require_possible(loaded, runtime)
    return runtime, why


def _describe(loaded: Loaded, runtime: str, why: str, *, as_json: bool) -> int:
    from chaoslab.plan import describe, describe_as_data
    from chaoslab.trust import foreign_commands, is_own

    here = Path.cwd()
    warning, foreign = foreign_commands(loaded, here), not is_own(loaded.file, here)
    if as_json:
        plan = json.dumps(describe_as_data(loaded, runtime, why, warning, foreign=foreign))
    else:
        plan = describe(loaded, runtime, why, warning, foreign=foreign)
    click.echo(mask_shapes(plan))
    return ExitCode.PASS


def _facts() -> dict[str, Any]:
    from chaoslab.host import git_state, host_facts

    return {**host_facts(), "git": git_state(Path.cwd())}


def _command(experiment: str, runtime: str, overrides: tuple[str, ...], flags: list[str]) -> str:
    """What runs one of these runs again, but for its seed."""
    words = [_program(), "run", experiment, "--runtime", runtime]
    words += [word for override in overrides for word in ("--set", override)]
    return shlex.join(words + flags)


def _program() -> str:
    """What to type for this program, from here."""
    installed = Path(sys.executable).with_name("chaoslab")
    return "chaoslab" if shutil.which("chaoslab") or not installed.exists() else os.path.relpath(installed)


def _run(loaded: Loaded, options: Options, why: str, repeat: int, as_json: bool) -> int:
    from chaoslab.report.terminal import make_console

    console = make_console(sys.stdout)
    if not as_json:
        console.print(f"runtime: {options.runtime} ({why})")
    outcomes: list[Outcome] = []
    for _ in range(repeat):
        outcomes.append(_run_one(loaded, options, console, as_json))
        if outcomes[-1].result.interrupted or outcomes[-1].exit_code is ExitCode.INTERRUPTED:
            break
    return _conclude(outcomes, console, several=repeat > 1, as_json=as_json)


def _run_one(loaded: Loaded, options: Options, console: Console, as_json: bool) -> Outcome:
    from chaoslab.report.terminal import make_view, print_verdict
    from chaoslab.report.view import JsonView
    from chaoslab.runner import run_once

    view = JsonView() if as_json else make_view(console)
    try:
        outcome = run_once(loaded, options, view)
    finally:
        view.close()
    if not as_json:
        print_verdict(outcome.result, console, report=os.path.relpath(outcome.folder.report), exit_code=outcome.exit_code)
    return outcome


def _conclude(outcomes: list[Outcome], console: Console, *, several: bool, as_json: bool) -> int:
    """The result of a run, or what several came to; the worst run decides, but an interruption goes before all."""
    from chaoslab.repeats import spread_of, worst_of
    from chaoslab.report.spread import print_repeats
    from chaoslab.store import repeats_json, result_json

    results = [outcome.result for outcome in outcomes]
    worst, spread = worst_of(results), spread_of(results)
    if as_json:
        sys.stdout.buffer.write(repeats_json(results, worst, spread) if several else result_json(results[0]))
    elif several:
        print_repeats(results, spread, worst, console)
    interrupted = outcomes[-1].exit_code is ExitCode.INTERRUPTED
    return ExitCode.INTERRUPTED if interrupted else outcomes[worst].exit_code


def _pairs(overrides: tuple[str, ...]) -> dict[str, str]:
    pairs = [override.partition("=") for override in overrides]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise click.BadParameter(f"{key!r} is not KEY=VALUE, such as load.users=5", param_hint="--set")
    return {key: value for key, _, value in pairs}
