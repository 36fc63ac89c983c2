"""`chaoslab init`: adopt a Compose project."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaoslab.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from chaoslab.adopt.facts import Project
    from chaoslab.adopt.plan import Answers, Plan

_SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,20}")
_RESERVED = ("outside", "witness", "wan")


@click.command("init")
@click.argument("compose", nargs=-1, type=click.Path(path_type=Path), metavar="[COMPOSE FILE]...")
@click.option(
    "--sites", default=None, metavar="A,B", help="The sites, two or more; the first fire is in the first one. [default: a,b]"
)
@click.option("--yes", is_flag=True, help="Ask nothing; accept every guess.")
@click.option("--dry-run", is_flag=True, help="Print what would be written; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the guesses as JSON; ask nothing.")
def init_command(compose: tuple[Path, ...], sites: str | None, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Write what chaoslab needs next to your Compose file: sites, entry, journeys, and a first experiment.

    \b
    chaoslab init                       asks at most five questions
    chaoslab init --yes --sites seoul,busan
    chaoslab init deploy/compose.yaml deploy/compose.prod.yaml

    Writes new files only: chaoslab.yaml, experiments/first-fire.yaml, experiments/load/first_fire.py, runs/.gitignore. It never
    changes your own files. It prints every guess with its reason, and writes the reason into the file as a comment. If a server
    answers on the published port of the entry, init asks it for its OpenAPI document, with GET requests to the loopback.
    """
    from chaoslab.adopt.guess import plan_of
    from chaoslab.adopt.plan import Answers
    from chaoslab.adopt.read import find_files, openapi_document, read_project
    from chaoslab.adopt.write import files_of, write_new
    from chaoslab.run.host import is_installed
    from chaoslab.spec.yaml.problems import shown_path

    here = Path.cwd()
    files = find_files(here, compose)
    found = read_project(files)
    answers = Answers(sites=_sites(sites or "a,b"))
    draft = plan_of(found.project, answers)
    served = openapi_document(found.project.services[draft.entry.service].published.get(draft.entry.port), files[0].parent)
    if not (yes or as_json):
        answers = _answers_of_user(found.project, plan_of(found.project, answers, served), answers, ask_sites=sites is None)
    plan = plan_of(found.project, answers, served)
    if not plan.sites:
        raise SpecError(
            f"no service is in a site: {', '.join(found.project.services)} share the network of entry {plan.entry.service}",
            cure="give services networks of their own instead of network_mode, so that a site can be lost without the entry",
        )
    written = files_of(plan, files, here, has_locust=is_installed("locust"), enabled=found.enabled)
    if not dry_run:
        write_new(here, written)
    if as_json:
        click.echo(json.dumps(_as_data(plan, found.read_by, [] if dry_run else list(map(str, written))), indent=2))
        return ExitCode.PASS
    click.echo(f"read {', '.join(shown_path(file) for file in files)} with {found.read_by}")
    click.echo("\n".join(_plan_in_words(plan)))
    if dry_run:
        for path, text in written.items():
            click.echo(f"\n--- {path} (not written)\n{text}", nl=False)
        return ExitCode.PASS
    click.echo(f"wrote {', '.join(map(str, written))}; your own files are unchanged")
    click.echo("next: chaoslab run first-fire")
    return ExitCode.PASS


def _sites(text: str) -> tuple[str, ...]:
    sites = tuple(part.strip() for part in text.split(","))
    wrong = [site for site in sites if not _SITE.fullmatch(site) or site in _RESERVED]
    if wrong or len(set(sites)) < max(2, len(sites)):
        what = f"{wrong[0]!r} cannot name a site" if wrong else "at least two different sites are needed"
        raise SpecError(f"{what}: {text!r}", cure="use lowercase letters and digits, such as --sites seoul,busan")
    return sites


def _answers_of_user(project: Project, plan: Plan, answers: Answers, *, ask_sites: bool) -> Answers:
    """At most five questions; an empty answer accepts the guess. Raises SpecError when there is no answer."""
    from dataclasses import replace

    from chaoslab.spec.yaml.problems import suggest
    from chaoslab.units import parse_duration_s

    def ask(question: str, default: str) -> str:
        try:
            answer: str = click.prompt(question, default=default)
        except click.Abort:
            raise SpecError("the question was not answered", cure="chaoslab init --yes accepts every guess") from None
        return answer.strip()

    if ask_sites:
        answers = replace(
            answers, sites=_sites(ask("Sites that can be lost; the first fire is in the first one", ",".join(answers.sites)))
        )
    guess = f"{plan.entry.service}:{plan.entry.port}"
    entry = ask(f"Where users connect, as service:port ({plan.entry.why})", guess)
    name, _, port = entry.partition(":")
    if name not in project.services or not (port == "" or (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65_536)):
        hint = suggest(name, project.services) if name not in project.services else ""
        raise SpecError(f"{entry!r} is not service:port{hint}", cure=f"such as {guess}")
    path = ask(f"A path that users GET there ({plan.journeys[0].why})", plan.journeys[0].path)
    if not re.fullmatch(r"/[!-z|~]*", path):
        raise SpecError(f"{path!r} is not a path", cure="begin it with a slash, and use no spaces or braces")
    rto = ask("How long a recovery may take (RTO)", f"{answers.rto_s}s")
    try:
        rto_s = round(parse_duration_s(rto))
    except ValueError as wrong:
        raise SpecError(str(wrong), cure="write it with its unit, such as 30s or 2m") from None
    if not 1 <= rto_s <= 3600:
        raise SpecError(f"an RTO of {rto} cannot be rehearsed", cure="write one from 1s to 1h")
    return replace(
        answers,
        entry=entry if entry != guess else None,
        path=path if path != plan.journeys[0].path else None,
        rto_s=rto_s,
    )


def _plan_in_words(plan: Plan) -> list[str]:
    """The guesses and their reasons."""
    width = max(len(one.name) for one in plan.placed)
    lines = []
    for place in (*plan.sites, *sorted({one.site for one in plan.placed} - set(plan.sites))):
        for one in plan.placed:
            if one.site == place:
                server = f"{one.title}; " if one.title else ""
                lines.append(f"  {place:<9} {one.name:<{width}}  {server}{one.why}")
    lines.append(f"  entry     {plan.entry.service}:{plan.entry.port}  ({plan.entry.why})")
    lines += [f"  journey   {one.name}: GET {one.path} is {one.status}  ({one.why})" for one in plan.journeys]
    lines.append(f"  objective recovered within {plan.rto_s} s  (your choice; change it in chaoslab.yaml)")
    lines += [f"  volume    {volume} is external: rehearsals use an empty one instead" for volume in plan.own_volumes]
    for note in plan.notes:
        lines.append(f"  note      {note.about}: {note.text}" + (f"\n            write: {note.line}" if note.line else ""))
    if plan.empty:
        lines.append(f"  note      {', '.join(plan.empty)}: no service has a replica there, so none can survive yet")
    if plan.alone and len(plan.placed) > 1:
        it = "it" if len(plan.alone) == 1 else "them"
        lines.append(
            f"  expect    {', '.join(plan.alone)} only in site {plan.burns}: what depends on {it} fails when that site is lost"
        )
    return lines


def _as_data(plan: Plan, read_by: str, written: list[str]) -> dict[str, Any]:
    return {
        "read_by": read_by,
        "written": written,
        "sites": plan.sites,
        "entry": plan.entry._asdict(),
        "replicas": [{"name": one.name, "service": one.service, "site": one.site, "why": one.why} for one in plan.placed],
        "journeys": [{"name": one.name, "path": one.path, "status": one.status, "why": one.why} for one in plan.journeys],
        "notes": [note._asdict() for note in plan.notes],
    }
