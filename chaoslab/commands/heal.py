"""`chaoslab heal`: undo by hand what a run left behind."""

from __future__ import annotations

from pathlib import Path

import click

from chaoslab.errors import ExitCode, SpecError
from chaoslab.store import ROOT, load_run
from chaoslab.undo import open_steps, undo, undo_journal


@click.command("heal")
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="Every run below runs/ that has something left to undo.")
def heal_command(run: str | None, everything: bool) -> int:
    """Undo what a run that was killed, or kept with --keep, left behind. Does nothing the second time.

    RUN is a run folder or an experiment's name (its latest run).
    """
    if not run and not everything:
        raise SpecError("say which run, or --all", cure="chaoslab heal idc-fire")
    journals = sorted(ROOT.glob("*/*/undo.jsonl")) if everything else [undo_journal(load_run(Path(run or "")).path)]
    unclean = False
    for journal in {path.resolve() for path in journals if open_steps(path)}:
        left = undo(journal)
        unclean |= bool(left)
        click.echo(f"{journal.parent}: " + (f"left: {', '.join(left)}" if left else "healed"))
    return ExitCode.UNCLEAN if unclean else ExitCode.PASS
