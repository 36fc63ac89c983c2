"""`chaoslab heal`: undo by hand what a run left behind."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

import click

from chaoslab.cleanup import active_runs
from chaoslab.cleanup.journal import open_steps, undo, undo_journal
from chaoslab.cli.options import project_here, stored_run
from chaoslab.errors import ExitCode, SpecError
from chaoslab.history.bundle import is_bundle
from chaoslab.history.folder import ROOT
from chaoslab.spec.repository import is_own

_NOT_OURS = "not a run of this project and this user, so its undo journal is not executed"


@click.command("heal")
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="Every run below runs/, and every run registered on this machine.")
def heal_command(run: str | None, everything: bool) -> int:
    """Undo what a run that was killed, or kept with --keep, left behind. Running it twice is safe.

    RUN is a run folder, the folder of a shared stack (runs/stacks/…) or an experiment's name (its latest run). A run that is
    still running is left alone.
    """
    if not run and not everything:
        raise SpecError("name a run, or use --all", cure="chaoslab heal idc-fire")
    project = project_here().resolve()
    known = {Path(entry.journal).resolve(): (entry.run_id, alive) for entry, alive in active_runs.entries() if entry.journal}
    if everything:
        journals = {*known}
        for journal in (project / ROOT).glob("*/*/undo.jsonl"):
            if _is_ours(journal, known, project):
                journals.add(journal.resolve())
            else:
                click.echo(f"{os.path.relpath(journal.parent)}: {_NOT_OURS}", err=True)
    else:
        journal = undo_journal(Path(run or ""))
        if not journal.is_file():  # else it is the folder of a stack that several runs shared, or of a run
            journal = undo_journal(stored_run(run or "").path.resolve())
        if not _is_ours(journal, known, project):
            raise SpecError(f"{journal.parent}: {_NOT_OURS}", cure="run chaoslab heal in the project where the run was made")
        journals = {journal.resolve()}
    healed = [_heal(journal, *known.get(journal, ("", False))) for journal in sorted(journals)]
    if not any(something for something, _ in healed):
        click.echo("there was nothing to heal")
    return ExitCode.PASS if all(clean for _, clean in healed) else ExitCode.UNCLEAN


def _heal(journal: Path, run_id: str, alive: bool) -> tuple[bool, bool]:
    """Undo one run and print what was done; returns whether anything was printed, and whether nothing is left."""
    folder = os.path.relpath(journal.parent)
    if alive:
        click.echo(f"{folder}: still running; end it with Ctrl-C, or: chaoslab stop --all")
        return True, True
    something = bool(open_steps(journal))
    left = undo(journal, lambda line: click.echo(f"{folder}: {line}"))
    if something:
        click.echo(f"{folder}: " + (f"left: {', '.join(left)}" if left else "healed"))
    if run_id and not left:
        active_runs.forget(run_id)
    return something, not left


def _is_ours(journal: Path, known: Container[Path], project: Path) -> bool:
    """Whether the journal may be executed. Undoing removes folders and runs commands, so the journal must belong to this user,
    links followed, and to a run that was made here or lies in the project, and not to a bundle.
    """
    place = journal.resolve()
    if not place.exists():
        return True  # nothing to undo
    mine = all(path.stat().st_uid == os.geteuid() for path in (place, place.parent))
    here = place in known or place.is_relative_to(project / ROOT) or is_own(place, project)
    return mine and here and not is_bundle(place.parent)
