"""`chaoslab confirm`: answer a manual step that an attended run waits for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from chaoslab.cli.options import project_here, stored_run
from chaoslab.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from chaoslab.history.confirmations import Ask
    from chaoslab.history.folder import RunFolder


@click.command("confirm")
@click.argument("run", required=False)
@click.argument("step", required=False)
@click.option(
    "--failed", metavar="WHY", default=None, help="Answer that the step did not succeed; it fails, and the run goes on."
)
def confirm_command(run: str | None, step: str | None, failed: str | None) -> int:
    """Confirm that a person has done a manual step, from any terminal.

    \b
    chaoslab confirm                          the steps that wait, in every run of this project
    chaoslab confirm idc-fire                 the steps that wait in one run: a run folder, or an experiment (its latest run)
    chaoslab confirm idc-fire approve         the step `approve` is done; the run goes on at once
    chaoslab confirm idc-fire approve --failed "the bridge is blocked"

    Only a run that was started on a terminal, or with --attended, waits: for the step's budget or, if its delay is longer than
    its budget, for the sum of both. Ctrl-C and `chaoslab stop --all` end the run; closing its terminal does not. The time that
    the person takes counts in the RTO.
    """
    from chaoslab.history.confirmations import Answer, Confirmations
    from chaoslab.history.folder import ROOT, RunFolder
    from chaoslab.run.people import answering_as

    if run is None:
        asks = sorted((project_here() / ROOT).glob("*/*/asks"))
        return _list([RunFolder(asked.parent) for asked in asks if not asked.parent.is_symlink()])
    folder = stored_run(run)
    if step is None:
        if failed is not None:
            raise SpecError("name the step that failed", cure=f"chaoslab confirm {run} STEP --failed WHY")
        return _list([folder])
    if step not in [ask.step for ask in _waiting(folder)]:
        raise SpecError(f"{step!r} does not wait for a person: {_why_not(folder, step)}", cure=f"chaoslab confirm {run}")
    if not Confirmations(folder.path).answer(step, Answer(by=answering_as(), failed=failed)):
        raise SpecError(f"{step!r} has been answered already")
    click.echo(f"{step}: {'confirmed' if failed is None else 'answered that it failed'}; the run goes on")
    return ExitCode.PASS


def _waiting(folder: RunFolder) -> list[Ask]:
    """The steps that wait in running runs; a run that was killed leaves its questions behind."""
    from chaoslab.cleanup import active_runs
    from chaoslab.history.confirmations import Confirmations

    return [ask for ask in Confirmations(folder.path).waiting() if active_runs.alive(ask.run_id, ask.registry)]


def _list(folders: list[RunFolder]) -> int:
    found = [(folder, ask) for folder in folders for ask in _waiting(folder)]
    for folder, ask in found:
        whose = f"{ask.owner}: " if ask.owner else ""
        click.echo(f"{ask.step}, since {ask.since}, until {ask.until}: {whose}{ask.what}")
        click.echo(f"  when it is done: chaoslab confirm {os.path.relpath(folder.path)} {ask.step}")
    if not found:
        click.echo("no step waits for a person")
    return ExitCode.PASS


def _why_not(folder: RunFolder, step: str) -> str:
    """Why a step does not wait, as text."""
    from chaoslab.cleanup import active_runs
    from chaoslab.history.confirmations import Confirmations
    from chaoslab.history.rows import Anchor, Step
    from chaoslab.spec.resolved import load_resolved
    from chaoslab.spec.step import ManualStep
    from chaoslab.spec.yaml.problems import suggest

    steps = {own.id: own for own in load_resolved(folder.experiment)[0].steps}
    people = [id_ for id_, own in steps.items() if isinstance(own, ManualStep)]
    if step not in steps:
        return f"this run has no such step{suggest(step, people) or '; it has no manual steps' * (not people)}"
    if step not in people:
        return f"it is not a manual step{suggest(step, people)}"
    rows = [*folder.read_rows()]
    facts = next((row.facts for row in rows if isinstance(row, Anchor)), {})
    own = [row for row in rows if isinstance(row, Step) and row.id == step]
    why = "it has not begun" if active_runs.alive(str(facts.get("run_id", ""))) else "the run is over"
    if not facts.get("attended"):
        why = "the run is unattended, so it waited or will wait for the delay of each manual step"
    elif failed := next((row for row in own if row.event == "failed"), None):
        why = f"it has failed: {failed.detail.get('why', '')}"
    elif any(row.event == "returned" for row in own):
        why = "it is done"
    elif (answer := Confirmations(folder.path).answer_to(step)) is not None:
        why = f"it has been answered already, by {answer.by}"
    return why
