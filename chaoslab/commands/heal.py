"""`chaoslab heal`: undo by hand what a run left behind."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from pathlib import Path

import click

from chaoslab import registry
from chaoslab.errors import ExitCode, SpecError
from chaoslab.evidence import is_bundle
from chaoslab.store import ROOT, load_run
from chaoslab.trust import is_own
from chaoslab.undo import open_steps, undo, undo_journal

_NOT_OURS = "not a run of this project and user, and its journal is not carried out"


@click.command("heal")
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="Every run below runs/, and every one that this machine knows of.")
def heal_command(run: str | None, everything: bool) -> int:
    """Undo what a run that was killed, or kept with --keep, left behind. Does nothing the second time.

    RUN is a run folder or an experiment's name (its latest run). A run that is still going is left alone.
    """
    if not run and not everything:
        raise SpecError("say which run, or --all", cure="chaoslab heal idc-fire")
    known = {Path(entry.journal).resolve(): (entry.run_id, alive) for entry, alive in registry.entries() if entry.journal}
    journals = {*_ours_below(ROOT.resolve(), known), *known} if everything else {_journal_of(run or "", known)}
    healed = [_heal(journal, *known.get(journal, ("", False))) for journal in sorted(journals)]
    if not any(something for something, _ in healed):
        click.echo("there was nothing to heal")
    return ExitCode.PASS if all(clean for _, clean in healed) else ExitCode.UNCLEAN


def _heal(journal: Path, run_id: str, alive: bool) -> tuple[bool, bool]:
    """Undo one run and say what was done: whether there was something to say, and whether nothing is left."""
    folder = os.path.relpath(journal.parent)
    if alive:
        click.echo(f"{folder}: still going; end it with Ctrl-C, or: chaoslab stop --all")
        return True, True
    something = bool(open_steps(journal))
    left = undo(journal, lambda did: click.echo(f"{folder}: {did}"))
    if something:
        click.echo(f"{folder}: " + (f"left: {', '.join(left)}" if left else "healed"))
    if run_id and not left:
        registry.forget(run_id)
    return something, not left


def _ours_below(root: Path, known: Container[Path]) -> Iterator[Path]:
    """The journals of all runs in a folder; what is not ours is named and left alone."""
    for journal in root.glob("*/*/undo.jsonl"):
        if _is_ours(journal, known):
            yield journal.resolve()
        else:
            click.echo(f"{os.path.relpath(journal.parent)}: {_NOT_OURS}", err=True)


def _journal_of(run: str, known: Container[Path]) -> Path:
    journal = undo_journal(load_run(Path(run)).path.resolve())
    if not _is_ours(journal, known):
        raise SpecError(f"{journal.parent}: {_NOT_OURS}", cure="heal it where it ran")
    return journal.resolve()


def _is_ours(journal: Path, known: Container[Path]) -> bool:
    """Undoing removes folders and runs commands, which nobody else's journal may: it has to be this user's own, links followed,
    of a run that was here or lies in the project, and no bundle.
    """
    place = journal.resolve()
    if not place.exists():
        return True  # nothing to undo
    mine = all(path.stat().st_uid == os.geteuid() for path in (place, place.parent))
    here = place in known or place.is_relative_to(ROOT.resolve()) or is_own(place, Path.cwd())
    return mine and here and not is_bundle(place.parent)
