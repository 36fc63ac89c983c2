"""`chaoslab runbook check`: find out whether the steps of a runbook would still work, without a fire."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaoslab.cli.options import project_here, runtime_option
from chaoslab.errors import ExitCode, SpecError
from chaoslab.redact import mask_shapes

if TYPE_CHECKING:
    from chaoslab.spec.load import Loaded
    from chaoslab.spec.yaml.problems import Place


@click.group("runbook")
def runbook_command() -> None:
    """Runbooks: files of steps that a timeline names as `{id: switch, after: fire, runbook: runbooks/failover.yaml}`."""


@runbook_command.command("check")
@click.argument("names", nargs=-1, metavar="[NAME|PATH]...")
@runtime_option
@click.option("--no-boot", is_flag=True, help="Check only what can be known without the stack; takes a second.")
@click.option("--allow-exec", is_flag=True, help="Allow a spec from outside this project to run the checks of its steps.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but one object, for machines.")
def check_runbooks(names: tuple[str, ...], runtime: str, no_boot: bool, allow_exec: bool, as_json: bool) -> int:
    """Find steps that would not work when they are needed. No step is carried out.

    \b
    chaoslab runbook check                          every experiment with steps that is not known to be bad
    chaoslab runbook check idc-fire                 the steps of one experiment
    chaoslab runbook check failover                 every experiment that uses experiments/runbooks/failover.yaml; one that
                                                    is known to be bad only if no other does
    chaoslab runbook check idc-fire --no-boot       without booting the stack

    Each step is checked as of the moment when it would begin, with the sites lost that the timeline has taken down by then:

    \b
    without the stack   programs, scripts and folders of commands; environment variables and files that the step `needs`, or
                        names as ${NAME}; tokens (JWT) that have expired; steps that depend on a replica in a lost site, or
                        run `from` there; conditions and replicas that do not exist; SQL drivers; manual steps without an owner
    on the stack        it is booted, and the lost sites are cut off. From the place where the step would run, it connects to
                        addresses, evaluates conditions, prepares SQL statements, and runs the `check` of the step: a command
                        or a request that changes nothing and shows that the step would work

    Exit code 0: no problem was found. 1: a step would not work. 2: a file is wrong. 5: the stack could not be booted.
    """
    from chaoslab.run.runbook import find_rot
    from chaoslab.run.runtimes import choose_runtime
    from chaoslab.run.session import Options
    from chaoslab.spec.load import load_experiment
    from chaoslab.spec.yaml.problems import Problem, SpecErrors

    def show(text: str) -> None:
        if not as_json and sys.stderr.isatty():
            click.echo(f"  {text}", err=True)

    project = project_here()
    chosen: list[Loaded] = []
    wrong: dict[Problem, None] = {}  # problems in files that cannot be checked further
    for file in _experiments(names, project):
        try:
            experiment = (loaded := load_experiment(file)).experiment
            chosen += [loaded] if experiment.steps and (names or experiment.expect is None) else []
        except SpecErrors as broken:
            wrong |= dict.fromkeys(broken.problems)
    if not chosen and not wrong:
        raise SpecError("no experiment here has steps", cure="name an experiment with `run`, `http`, `sql` or `manual` steps")
    rows = [_row(problem.place, problem.rule, problem.message) for problem in wrong]
    for problem in () if as_json else wrong:
        _print_problem(problem.place, problem.message)
    for loaded in chosen:
        options = None if no_boot else Options(project, choose_runtime(runtime, loaded)[0].name, allow_exec=allow_exec)
        rot = find_rot(loaded, options, show)
        rows += [_row(loaded.places[one.step], one.rule, one.message, one.step, loaded.experiment.name) for one in rot]
        for one in () if as_json else rot:
            _print_problem(loaded.places[one.step], f"step {one.step}: {one.message}")
        if not as_json:
            found = f"{len({one.step for one in rot})} of them would not work" if rot else "no problem found"
            click.echo(f"{loaded.experiment.name}: {len(loaded.experiment.steps)} steps; {found}")
    if as_json:
        report = {"checked": [loaded.experiment.name for loaded in chosen], "booted": not no_boot, "rot": rows}
        click.echo(json.dumps(report, indent=2))
    return ExitCode.USAGE if wrong else ExitCode.FAIL if rows else ExitCode.PASS


def _experiments(names: tuple[str, ...], project: Path) -> list[Path]:
    """The files of the experiments that are named, or that use a runbook that is named. Raises SpecError."""
    from chaoslab.spec.load import find_experiment
    from chaoslab.spec.project import experiment_files
    from chaoslab.spec.runbook_steps import is_known_bad, read_runbook, runbooks_of

    here = Path.cwd()
    if not names:
        return experiment_files(project)
    files: dict[Path, None] = {}
    for name in names:
        book = _runbook(name, project, here)
        if book is None:
            files[find_experiment(name, project, here)] = None
            continue
        read_runbook(book)
        users = [file for file in experiment_files(project) if book.resolve() in runbooks_of(file)]
        if not users:
            raise SpecError(f"{name}: no experiment of {project} uses this runbook, so nothing says which site is lost")
        sound = [file for file in users if not is_known_bad(file)]  # in the others a sound runbook may be meant to fail
        files |= dict.fromkeys(sound or users)
    return [*files]


def _runbook(name: str, project: Path, here: Path) -> Path | None:
    """The runbook with this path or name; None if there is none."""
    from chaoslab.spec.kind import kind_of
    from chaoslab.spec.load import find_file, is_path
    from chaoslab.spec.project import RUNBOOKS, SUFFIXES, experiment_files
    from chaoslab.spec.yaml.source import read

    if is_path(name):
        file = find_file(name, project, here)
        written = read(file, "compose").data
        return file if kind_of(written) == "runbook" else None
    if name in [file.stem for file in experiment_files(project)]:
        return None
    return next((file for suffix in SUFFIXES if (file := project / RUNBOOKS / f"{name}{suffix}").is_file()), None)


def _print_problem(place: Place, message: str) -> None:
    click.echo(f"{place}: {click.style('error', fg='red', bold=True)}: {mask_shapes(message)}", err=True)


def _row(place: Place, rule: str, message: str, step: str | None = None, experiment: str | None = None) -> dict[str, Any]:
    """The row of a problem in a file, whose step and experiment are not known."""
    where = {"file": place.file, "line": place.line, "column": place.column}
    return {"experiment": experiment, "step": step, **where, "rule": rule, "message": mask_shapes(message)}
