"""Reads runbooks, and puts their steps into the timelines that name them: spec/runbook says how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chaoslab.spec.runbook import Runbook, RunbookUse
from chaoslab.spec.step import fill_variables, variables_in
from chaoslab.spec.yaml.partial import validate
from chaoslab.spec.yaml.problems import KeyPath, Problem, SpecErrors, shorten, suggest
from chaoslab.spec.yaml.source import Document, Span, read

_TIMES = ("at", "after", "after_heal")


def put_in_runbooks(document: Document, folder: Path) -> bool:
    """Put the steps of each runbook in the place of the item that names it. False where one of them could not be.

    What is wrong is added to the problems of the document, each at its place in its own file. `folder`: of the document.
    """
    written = document.data.get("timeline")
    if not isinstance(written, list) or not any(isinstance(item, dict) and "runbook" in item for item in written):
        return True
    timeline: list[Any] = []
    spans = {path: span for path, span in document.spans.items() if path[:1] != ("timeline",) or len(path) == 1}
    last: dict[str, str] = {}  # the last step of each runbook, by the id of its use
    named = [(place, item.get("id"), "runbook" in item) for place, item in enumerate(written) if isinstance(item, dict)]
    complete = True
    for number, item in enumerate(written):
        if isinstance(item, dict) and isinstance(item.get("after"), str):
            item["after"] = last.get(item["after"], item["after"])
        if not (isinstance(item, dict) and "runbook" in item):
            _move(document.spans, ("timeline", number), spans, ("timeline", len(timeline)))
            timeline.append(item)
            continue
        # Of two uses of a runbook the later one is wrong; of a use and anything else, the use.
        twin = next((at for at, id_, is_use in named if id_ == item.get("id") and (at < number or not is_use)), None)
        if isinstance(item.get("id"), str) and twin is not None:
            message = f"id {item['id']!r} is used twice; item {twin + 1} of the timeline has it too"
            document.problems.append(Problem.at(document.value_at(("timeline", number, "id")), message, "timeline.id-twice"))
            complete = False
            continue
        source, steps = _steps_of(item, ("timeline", number), document, folder)
        complete = complete and source is not None
        for index, step in enumerate(steps if source is not None else ()):
            place = ("timeline", len(timeline))
            _move(source.spans if source is not None else {}, ("steps", index), spans, place)
            for key in _TIMES if index == 0 else ():
                _move(document.spans, ("timeline", number, key), spans, (*place, key))
            timeline.append(step)
        if steps and isinstance(steps[-1].get("id"), str):
            last[item["id"]] = steps[-1]["id"]
    document.data["timeline"] = timeline
    document.spans.clear()
    document.spans.update(spans)
    return complete


def _steps_of(
    item: dict[str, Any], at: KeyPath, document: Document, folder: Path
) -> tuple[Document | None, list[dict[str, Any]]]:
    """The steps of one runbook as items of the timeline, and their file; no file where the use or the runbook is broken."""
    used = validate(RunbookUse, item, document, under=at, stand_ins={})
    document.problems.extend(used.problems)
    if used.value is None or used.problems:
        return None, []
    file = folder / used.value.runbook
    if not _is_file(file):
        message = f"runbook {shorten(str(used.value.runbook))} does not exist; paths are relative to the experiment's folder"
        document.problems.append(Problem.at(document.value_at((*at, "runbook")), message, "file.missing"))
        return None, []
    try:
        source = read_runbook(file)
    except SpecErrors as broken:
        document.problems.extend(broken.problems)
        return None, []
    known, given = source.data.get("with", {}), used.value.values
    unknown = [name for name in given if name not in known]
    for name in unknown:
        message = f"the runbook takes no value {shorten(name)}{suggest(name, known) or '; it declares none'}"
        document.problems.append(Problem.at(document.key_at((*at, "with", name)), message, "runbook.value-unknown"))
    if unknown:
        return None, []
    first = {key: item[key] for key in _TIMES if key in item}
    environment = {name: f"${{{name}}}" for name in variables_in(source.data)}  # what is no value of the runbook stays
    filled = fill_variables(source.data, {**environment, **known, **given})
    return source, _prefixed(filled, used.value.id, first)


def read_runbook(file: Path) -> Document:
    """The runbook in a file, whose own keys are sound; what its steps say is checked in a timeline. Raises SpecErrors."""
    source = read(file)
    problems = [*source.problems]
    if not isinstance(source.data, dict):
        problems.append(
            Problem.at(source.key_at(()), "a runbook must be a mapping, with title and steps", "runbook.not-a-mapping")
        )
        raise SpecErrors(problems)
    if not source.comment:
        message = "no purpose; begin the file with a comment: one sentence that says what the runbook is for"
        problems.append(Problem.at(source.key_at(()), message, "runbook.no-purpose"))
    problems += validate(Runbook, source.data, source, stand_ins={}).problems
    if problems:
        raise SpecErrors(problems)
    return source


def _prefixed(runbook: dict[str, Any], use: str, first: dict[str, Any]) -> list[dict[str, Any]]:
    """Its steps with the ids, the order and the owners that they have in a timeline."""
    own = [step.get("id") for step in runbook["steps"]]
    found: list[dict[str, Any]] = []
    for written in runbook["steps"]:
        step = dict(written)
        if isinstance(step.get("id"), str):
            step["id"] = f"{use}.{step['id']}"
        if not found:
            step |= first
        elif isinstance(step.get("after"), str) and step["after"] in own:
            step["after"] = f"{use}.{step['after']}"
        elif "after" not in step and isinstance(found[-1].get("id"), str):
            step["after"] = found[-1]["id"]
        if "manual" in step and runbook.get("owner") is not None:
            step.setdefault("owner", runbook["owner"])
        if "from" in runbook:
            step.setdefault("from", runbook["from"])
        found.append(step)
    return found


def _move(spans: dict[KeyPath, Span], old: KeyPath, into: dict[KeyPath, Span], new: KeyPath) -> None:
    """The places of a part of a file, under another path."""
    for path, span in spans.items():
        if path[: len(old)] == old:
            into[new + path[len(old) :]] = span


def runbooks_of(experiment: Path) -> set[Path]:
    """The files of the runbooks that an experiment names, links followed; none where it cannot be read."""
    timeline = _written(experiment).get("timeline")
    items = [item for item in timeline if isinstance(item, dict)] if isinstance(timeline, list) else []
    named = [experiment.parent / item["runbook"] for item in items if isinstance(item.get("runbook"), str)]
    return {file.resolve() for file in named if _is_file(file)}


def is_known_bad(experiment: Path) -> bool:
    """Whether an experiment says which objectives it expects to fail."""
    return "expect" in _written(experiment)


def _written(experiment: Path) -> dict[str, Any]:
    """What an experiment says, unchecked; nothing where it cannot be read."""
    try:
        data = read(experiment).data
    except SpecErrors:
        return {}
    return data if isinstance(data, dict) else {}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return False
