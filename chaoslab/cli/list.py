"""`chaoslab list`: the experiments of this project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaoslab.cli.options import project_here
from chaoslab.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from chaoslab.spec.load import Listed


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="One object per experiment, for machines.")
def list_command(as_json: bool) -> int:
    """List the experiments of this project and the hypothesis each one tests."""
    listed = experiments_of(project_here())
    if as_json:
        rows = [{"name": e.name, "hypothesis": e.hypothesis, "title": e.title, "tags": e.tags} for e in listed]
        click.echo(json.dumps(rows, indent=2))
        return ExitCode.PASS
    width = max(len(experiment.name) for experiment in listed)
    for experiment in listed:
        words = experiment.hypothesis or f"(cannot be read; see: chaoslab check {experiment.name})"
        click.echo(f"{experiment.name:<{width}}  {words}")
    return ExitCode.PASS


def experiments_of(project: Path) -> list[Listed]:
    """Raises SpecError when a project has no experiments."""
    from chaoslab.spec.load import list_experiments

    listed = list_experiments(project)
    if not listed:
        raise SpecError(
            f"no experiments in {project / 'experiments'}",
            cure="run this inside a chaoslab project; `chaoslab init` creates one",
        )
    return listed
