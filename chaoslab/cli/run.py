"""`chaoslab run`: run an experiment."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaoslab.cli.options import project_here, runtime_option, use_binds_option
from chaoslab.errors import ExitCode
from chaoslab.redact import mask_shapes
from chaoslab.run import runtimes

if TYPE_CHECKING:
    from chaoslab.report.view import View
    from chaoslab.run.runtimes import Runtime
    from chaoslab.run.session import Options
    from chaoslab.spec.load import Loaded


@click.command("run")
@click.argument("experiment", metavar="NAME|PATH")
@runtime_option
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one value of the spec: --set load.users=5."
)
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Boot and run this many times; the worst verdict counts.",
)
@click.option("--same-stack", is_flag=True, help="Boot once, and verify before each repeat that the stack is clean.")
@click.option("--seed", type=int, default=None, help="Seed of the load, to repeat a run.")
@click.option("--keep", is_flag=True, help="Leave the stack up at the end; `chaoslab heal NAME` takes it down.")
@click.option("--allow-exec", is_flag=True, help="Allow a spec from outside this project to run its commands and classes.")
@use_binds_option
@click.option(
    "--attended/--unattended",
    default=None,
    show_default="attended on a terminal",
    help="Wait for people to confirm manual steps, or for the delay of each.",
)
@click.option("--end-early", is_flag=True, help="End once the objectives named under `expect` have failed for good.")
@click.option("--dry-run", is_flag=True, help="Print the targets and times of faults and steps; start nothing.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    show_default="runs/ in the project",
    help="Where the run's folder is created.",
)
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the result (with --dry-run, the plan) as JSON.")
def run_command(
    experiment: str,
    runtime: str,
    overrides: tuple[str, ...],
    repeat: int,
    same_stack: bool,
    seed: int | None,
    keep: bool,
    allow_exec: bool,
    use_binds: bool,
    attended: bool | None,
    end_early: bool,
    dry_run: bool,
    into: Path | None,
    as_json: bool,
) -> int:
    """Run an experiment from experiments/ (by name) or a file: boot, verify the steady state, inject, heal, judge.

    \b
    chaoslab run idc-fire
    chaoslab run idc-fire --set load.users=10 --set timeline.0.heal_after=40s
    chaoslab run my/own.yaml --dry-run

    Everything is written to runs/<experiment>/<time>/; start with report.html there.

    An attended run asks on the terminal when a manual step is due, and waits. `chaoslab confirm` answers from any other
    terminal. Closing the terminal does not end an attended run.
    """
    from chaoslab.spec.load import find_experiment, is_path, load_experiment

    here, project = Path.cwd(), project_here()
    pairs = [override.partition("=") for override in overrides]
    if same_stack and keep:
        raise click.BadParameter("a stack that is shared by several runs is taken down after the last one", param_hint="--keep")
    for key, equals, _ in pairs:
        if not (key and equals):
            raise click.BadParameter(f"{key!r} is not KEY=VALUE, such as load.users=5", param_hint="--set")
    changes = {key: value for key, _, value in pairs}
    loaded = load_experiment(find_experiment(experiment, project, here), changes, use_binds=use_binds)
    if dry_run:
        return _describe(loaded, *runtimes.runtime_to_plan(runtime, loaded), project, as_json=as_json)
    from chaoslab.run.host import run_facts

    gathering = ThreadPoolExecutor(1).submit(run_facts, project)  # starts programs, which run during the imports
    from chaoslab.history.folder import ROOT
    from chaoslab.run.session import Options
    from chaoslab.spec.step import ManualStep

    chosen, why = runtimes.choose_runtime(runtime, loaded)
    # The command is for the project's folder; the name may be a path from the working folder.
    named = os.path.relpath(loaded.file, project) if is_path(experiment) and loaded.file.is_relative_to(project) else experiment
    installed = Path(sys.executable).with_name("chaoslab")
    is_on_path = shutil.which("chaoslab") or not installed.exists()
    again = ["chaoslab" if is_on_path else os.path.relpath(installed, project), "run", named, "--runtime", chosen.name]
    again += [word for override in overrides for word in ("--set", override)]
    again += [flag for flag, given in (("--keep", keep), ("--allow-exec", allow_exec)) if given]
    again += [flag for flag, given in (("--use-binds", use_binds), ("--end-early", end_early)) if given]
    again += [] if attended is None else ["--attended" if attended else "--unattended"]
    if attended is None:  # whether people are there to answer, and there are manual steps
        asks = any(isinstance(step, ManualStep) for step in loaded.experiment.steps)
        attended = asks and sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    options = Options(
        project,
        chosen.name,
        keep=keep,
        seed=seed,
        root=ROOT if into is None else here / into,
        facts=gathering.result(),
        command=shlex.join(again),
        allow_exec=allow_exec,
        signals=True,
        attended=attended,
        end_early=end_early,
    )
    return _run(loaded, options, why, repeat, here, as_json, same_stack=same_stack)


def _describe(loaded: Loaded, runtime: Runtime, why: str, project: Path, *, as_json: bool) -> int:
    from chaoslab.run.dry_run import describe, describe_as_data
    from chaoslab.spec.permission import unpermitted_commands
    from chaoslab.spec.repository import is_own

    known = (loaded, runtime.name, why, unpermitted_commands(loaded, project))
    unfamiliar = not is_own(loaded.file, project)
    if as_json:
        text = json.dumps(describe_as_data(*known, unfamiliar=unfamiliar, limits=runtime.limits))
    else:
        text = describe(*known, unfamiliar=unfamiliar, limits=runtime.limits)
    click.echo(mask_shapes(text))
    return ExitCode.PASS


def _run(loaded: Loaded, options: Options, why: str, repeat: int, here: Path, as_json: bool, *, same_stack: bool) -> int:
    from chaoslab.history.result import repeats_json, result_json
    from chaoslab.judge.repeats import spread_of, worst_run
    from chaoslab.report.spread import print_repeats
    from chaoslab.report.terminal import make_console, make_view, print_verdict
    from chaoslab.report.view import JsonView
    from chaoslab.run.repeat import exit_code_of_runs, run_on_one_stack, run_while

    console = make_console(sys.stdout)
    if not as_json:
        console.print(f"runtime: {options.runtime} ({why})")

    def view_of(_number: int) -> View:
        return JsonView() if as_json else make_view(console)

    outcomes = []
    if same_stack:
        runs = run_on_one_stack(repeat, loaded, options, view_of)
    else:
        runs = run_while(lambda done: len(done) < repeat, loaded, options, view_of)
    for outcome in runs:
        outcomes.append(outcome)
        if not as_json:
            report = os.path.relpath(outcome.folder.report, here)
            print_verdict(outcome.result, console, report=report, exit_code=outcome.exit_code)
    results = [outcome.result for outcome in outcomes]
    worst, spread = worst_run(results), spread_of(results)
    if as_json:
        sys.stdout.buffer.write(repeats_json(results, worst, spread) if repeat > 1 else result_json(results[0]))
    elif repeat > 1:
        print_repeats(results, spread, worst, console, same_stack=same_stack)
    return exit_code_of_runs(outcomes)
