"""Commands that read specs and start nothing: check, list, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaoslab.errors import ExitCode, SpecError
from chaoslab.masking import mask_shapes

if TYPE_CHECKING:
    from chaoslab.spec.load import Listed


@click.command("check")
@click.argument("experiments", nargs=-1, metavar="[NAME|PATH]...")
@click.option("--json", "as_json", is_flag=True, help="One object with every problem, for machines.")
def check_command(experiments: tuple[str, ...], as_json: bool) -> int:
    """Read experiments and their stacks; say everything that is wrong, each with file, line and column.

    Without names all of experiments/ is read. Exit code 2 when anything is wrong.
    """
    from chaoslab.spec.load import find_experiment, load_experiment
    from chaoslab.spec.problems import Problem, SpecErrors
    from chaoslab.trust import foreign_commands

    names = experiments or tuple(one.name for one in _all_here())
    problems: list[Problem] = []
    fine: list[str] = []
    notes: dict[str, str | None] = {}
    for name in names:
        try:
            loaded = load_experiment(find_experiment(name, Path.cwd()))
            fine.append(name)
            notes[name] = foreign_commands(loaded, Path.cwd())
        except SpecErrors as wrong:
            problems.extend(wrong.problems)
    if as_json:
        rows = [{"file": str(p.file), "line": p.line, "column": p.column, "message": mask_shapes(p.message)} for p in problems]
        needs = {name: note for name, note in notes.items() if note}
        click.echo(json.dumps({"ok": fine, "problems": rows, "needs_allow_exec": needs}, indent=2))
    else:
        for name in fine:
            click.echo(f"{name}: ok" + (f"; {note}; it runs with --allow-exec only" if (note := notes[name]) else ""))
        for problem in problems:
            click.echo(mask_shapes(str(problem)), err=True)
    return ExitCode.USAGE if problems else ExitCode.PASS


def _all_here() -> list[Listed]:
    from chaoslab.spec.load import list_experiments

    listed = list_experiments(Path.cwd())
    if not listed:
        raise SpecError(f"no experiments in {Path.cwd() / 'experiments'}", cure="run this at the top of a chaoslab project")
    return listed


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="One object per experiment, for machines.")
def list_command(as_json: bool) -> int:
    """List the experiments of experiments/ and the hypothesis each one tests."""
    listed = _all_here()
    if as_json:
        rows = [{"name": e.name, "hypothesis": e.hypothesis, "title": e.title, "tags": e.tags} for e in listed]
        click.echo(json.dumps(rows, indent=2))
        return ExitCode.PASS
    width = max(len(e.name) for e in listed)
    for one in listed:
        click.echo(f"{one.name:<{width}}  {one.hypothesis or f'(does not read: chaoslab check {one.name})'}")
    return ExitCode.PASS


@click.command("schema")
def schema_command() -> int:
    """Print the JSON Schema of an experiment file.

    Save it and name it in a file's first line: `# yaml-language-server: $schema=experiment.schema.json`
    """
    from chaoslab.spec.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
    return ExitCode.PASS
