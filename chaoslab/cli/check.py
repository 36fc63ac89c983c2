"""`chaoslab check`: read experiments, stacks and suites, and report every problem in them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaoslab.cli.options import project_here
from chaoslab.errors import ExitCode, SpecError
from chaoslab.redact import mask_shapes

if TYPE_CHECKING:
    from chaoslab.spec.yaml.problems import Level, Problem

_COLORS: dict[Level, str] = {"error": "red", "warning": "yellow", "note": "cyan"}


@dataclass
class _Found:
    """What was found. Each list is in the order of the checks; a problem that several files share is listed once."""

    fine: list[str] = field(default_factory=list)
    stacks: list[str] = field(default_factory=list)
    suites: list[str] = field(default_factory=list)
    problems: dict[Problem, None] = field(default_factory=dict)
    advice: dict[Problem, None] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)
    impossible: dict[str, dict[str, str]] = field(default_factory=dict)


@click.command("check")
@click.argument("names", nargs=-1, metavar="[NAME|PATH]...")
@click.option("--json", "as_json", is_flag=True, help="One object with every problem, for machines.")
def check_command(names: tuple[str, ...], as_json: bool) -> int:
    """Read experiments and their stacks; report every problem with its file, line and column.

    \b
    chaoslab check                       every experiment, stack and suite of this project
    chaoslab check idc-fire              one experiment, and its stack
    chaoslab check docker-compose.yml    a stack; for any other Compose file, what is missing

    Exit code 2 if there is any error; warnings and notes are advice. A runtime that cannot run an experiment is reported, but
    is not a problem.
    """
    here, project = Path.cwd(), project_here()
    found = _Found()
    if names:
        for name in names:
            _check_named(name, project, here, found)
    else:
        _check_all(project, found)
    if as_json:
        data = {
            "ok": found.fine,
            "stacks": found.stacks,
            "suites": found.suites,
            "problems": [_row(problem) for problem in found.problems],
            "advice": [_row(problem) for problem in found.advice],
            "needs_allow_exec": found.needs,
            "impossible_on": found.impossible,
        }
        click.echo(json.dumps(data, indent=2))
    else:
        _print(found)
    return ExitCode.USAGE if found.problems else ExitCode.PASS


def _check_all(project: Path, found: _Found) -> None:
    """Raises SpecError where there is nothing to check."""
    from chaoslab.spec.project import SUITES, experiment_files, name_of, own_stack

    experiments, stack = experiment_files(project), own_stack(project)
    if not experiments and not stack:
        raise SpecError(
            f"nothing to check: neither {project} nor a folder above it has a chaoslab.yaml or experiments in experiments/",
            cure="run this inside a chaoslab project, or name a file; `chaoslab init` creates a project",
        )
    used = {part for file in experiments for part in _stack_named_in(file)}
    for file in experiments:
        _check_experiment(name_of(file), file, project, found)
    if stack and stack[-1].resolve() not in used:
        _check_stack(stack, found)
    for file in sorted((project / SUITES).glob("*.y*ml")):
        _check_suite(file, project, found)


def _check_named(name: str, project: Path, here: Path, found: _Found) -> None:
    from chaoslab.gameday.suite import find_suite
    from chaoslab.spec.kind import kind_of
    from chaoslab.spec.load import find_experiment, find_file, is_path
    from chaoslab.spec.project import SUITES
    from chaoslab.spec.yaml.problems import SpecErrors
    from chaoslab.spec.yaml.source import read

    if not is_path(name):
        is_suite = any((project / SUITES).glob(f"{name}.y*ml")) and not any((project / SUITES.parent).glob(f"{name}.y*ml"))
        if is_suite:
            _check_suite(find_suite(name, project), project, found)
        else:
            _check_experiment(name, find_experiment(name, project), project, found)
        return
    file = find_file(name, project, here)
    try:
        kind = kind_of(read(file, "compose").data)
    except SpecErrors:
        kind = "experiment"  # which reports files that cannot be read
    if kind == "suite":
        _check_suite(file, project, found)
    elif kind in ("compose-file", "overlay") and (stacks := _stacks_with(file, project)):
        for stack in stacks:
            _check_stack(stack, found)
    else:
        _check_experiment(name, file, project, found)


def _check_experiment(name: str, file: Path, project: Path, found: _Found) -> None:
    from chaoslab.run.runtimes import impossible_on
    from chaoslab.spec.load import load_experiment
    from chaoslab.spec.permission import unpermitted_commands
    from chaoslab.spec.yaml.problems import SpecErrors

    try:
        loaded = load_experiment(file)
    except SpecErrors as wrong:
        found.problems |= dict.fromkeys(wrong.problems)
        return
    found.fine.append(name)
    found.advice |= dict.fromkeys(loaded.advice)
    if note := unpermitted_commands(loaded, project):
        found.needs[name] = note
    if why := impossible_on(loaded):
        found.impossible[name] = why


def _check_stack(files: Sequence[Path], found: _Found) -> None:
    from chaoslab.spec.stackfile.compose import load_stack
    from chaoslab.spec.yaml.problems import SpecErrors, shown_path

    try:
        compose = load_stack(files)
    except SpecErrors as wrong:
        found.problems |= dict.fromkeys(wrong.problems)
    else:
        found.advice |= dict.fromkeys(compose.advice)
        found.stacks.append(" + ".join(shown_path(file) for file in files))


def _check_suite(file: Path, project: Path, found: _Found) -> None:
    from chaoslab.gameday.suite import load_suite
    from chaoslab.spec.yaml.problems import SpecErrors

    try:
        suite = load_suite(file, project)
    except SpecErrors as wrong:
        found.problems |= dict.fromkeys(wrong.problems)
    else:
        found.suites.append(suite.name)


def _stack_named_in(experiment: Path) -> tuple[Path, ...]:
    """The files that an experiment names as its stack, links followed; empty if they cannot be read."""
    from chaoslab.spec.yaml.problems import SpecErrors
    from chaoslab.spec.yaml.source import read

    try:
        data = read(experiment).data
    except SpecErrors:
        return ()
    written = data.get("stack") if isinstance(data, dict) else None
    named = [written] if isinstance(written, str) else written if isinstance(written, list) else []
    return tuple((experiment.parent / str(file)).resolve() for file in named)


def _stacks_with(file: Path, project: Path) -> list[tuple[Path, ...]]:
    """The stacks to check for a Compose file or an overlay; empty for a Compose file without sites that is part of no stack.

    A complete file is checked alone; another one in every stack of the project's experiments that uses it, or else with the
    chaoslab.yaml or the Compose file in its folder.
    """
    from chaoslab.spec.project import OVERLAY, experiment_files, own_stack
    from chaoslab.spec.yaml.source import EXTENSION, read

    data = read(file, "compose").data
    if EXTENSION in data and "services" in data and file.name != OVERLAY:
        return [(file,)]
    named = dict.fromkeys(_stack_named_in(one) for one in experiment_files(project))
    for stacks in (named, [own_stack(file.parent)]):
        if among := [stack for stack in stacks if file.resolve() in [part.resolve() for part in stack]]:
            return among
    return [(file,)] if EXTENSION in data else []


def _print(found: _Found) -> None:
    for name in found.fine:
        notes = [f"{found.needs[name]}; it runs only with --allow-exec"] if name in found.needs else []
        click.echo("; ".join([f"{name}: ok", *notes, *found.impossible.get(name, {}).values()]))
    for name in found.stacks:
        click.echo(f"{name}: ok, a stack")
    for name in found.suites:
        click.echo(f"{name}: ok, a suite; run it with: chaoslab gameday {name}")
    every = [*found.advice, *found.problems]
    for problem in every:
        level = click.style(problem.level, fg=_COLORS[problem.level], bold=True if problem.level == "error" else None)
        click.echo(f"{problem.place}: {level}: {mask_shapes(problem.message)}", err=True)
    if every:
        counts = Counter(problem.level for problem in every)
        totals = [f"{counts[level]} {level}{'s' * (counts[level] > 1)}" for level in _COLORS if counts[level]]
        click.echo(", ".join(totals), err=True)


def _row(problem: Problem) -> dict[str, Any]:
    place = {"file": str(problem.file), "line": problem.line, "column": problem.column}
    return {**place, "message": mask_shapes(problem.message), "level": problem.level, "rule": problem.rule}
