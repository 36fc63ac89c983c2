"""`chaoslab export`: pack a run into one file that others can check."""

from __future__ import annotations

from pathlib import Path

import click

from chaoslab.cli.options import stored_run
from chaoslab.errors import ExitCode


@click.command("export")
@click.argument("run")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=None, help="The .tar.gz to write.")
def export_command(run: str, output: Path | None) -> int:
    """Pack a run with checksums, versions, git state and host facts; `chaoslab analyze FILE` judges it anywhere.

    RUN is a run folder or an experiment's name (its latest run). Secrets are redacted; the same run gives the same bytes.
    """
    from chaoslab.history.bundle import pack

    folder = stored_run(run)
    target = output or Path(f"{folder.name.replace('/', '-')}.tar.gz")
    click.echo(f"{target}\nsha256 {pack(folder, target)}")
    return ExitCode.PASS
