"""`include` and `extends` of a Compose file, followed as Compose follows them, to other files of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chaoslab.spec.stackfile.merge import long_form, merged
from chaoslab.spec.yaml.problems import Problem, SpecErrors
from chaoslab.spec.yaml.report import Report
from chaoslab.spec.yaml.source import Document, read

RULE = "compose.not-followed"
DEPTH_MAX = 16  # files that include or extend files


def followed(path: Path, problems: list[Problem], depth: int = 0) -> list[Document]:
    """The files that one includes, and then the file itself, each with its `extends` filled in.

    `problems` fills up with what is wrong in any of them. Raises SpecErrors when the file itself cannot be read.
    """
    document = read(path, "compose")
    problems.extend(document.problems)
    if not isinstance(document.data, dict):
        message = "a Compose file must be a mapping with services"
        raise SpecErrors([Problem.at(document.value_at(()), message, "compose.not-a-mapping")])
    report = Report(document, problems)
    documents = []
    for number, file in enumerate(_included(document.data.get("include"), report)):
        where = ("include", number)
        if depth == DEPTH_MAX:
            report(where, f"files include each other more than {DEPTH_MAX} levels deep; remove the circle", RULE)
        elif "$" in file or "://" in file:
            message = (
                f"cannot follow include {file!r}: only plain paths are read; write the path, or add it to the stack's files"
            )
            report(where, message, RULE)
        else:
            try:
                documents += followed(path.parent / file, problems, depth + 1)
            except SpecErrors as refused:
                problems.extend(refused.problems)
    services = document.data.get("services")
    if isinstance(services, dict):
        document.data["services"] = {name: _complete(name, services, path, report) for name in services}
    return [*documents, document]


def _included(raw: Any, report: Report) -> Iterator[str]:
    """The paths of `include`: texts, or mappings with a path or several."""
    if raw is not None and not isinstance(raw, list):
        report(("include",), "include must be a list of files", RULE)
        return
    for number, entry in enumerate(raw or []):
        paths = entry.get("path") if isinstance(entry, dict) else entry
        for path in paths if isinstance(paths, list) else [paths]:
            if isinstance(path, str):
                yield path
            else:
                report(("include", number), "an include is a file, or a mapping with its path", RULE)


def _complete(name: str, services: Mapping[str, Any], path: Path, report: Report, seen: tuple[str, ...] = ()) -> Any:
    """A service of this file in long form, laid over what it extends."""
    entry = services[name]
    if not isinstance(entry, dict):
        return entry
    entry = long_form(entry)
    given = entry.pop("extends", None)
    if given is None:
        return entry
    wanted = given if isinstance(given, dict) else {"service": given}
    base, file, at = wanted.get("service"), wanted.get("file"), report.below("services", name)
    source = path.parent / str(file) if file else path
    mark = f"{source.resolve()}:{base}"
    if mark in seen or len(seen) == DEPTH_MAX:
        at(("extends",), f"{name} extends itself, by way of others; remove the circle", RULE)
        return entry
    others: Any = services
    if source != path:
        try:
            others = read(source, "compose").data
        except SpecErrors as refused:
            at(("extends",), f"cannot follow extends: {refused.problems[0].message} ({file})", RULE)
            return entry
        others = others.get("services") if isinstance(others, dict) else None
    if not isinstance(others, dict) or not isinstance(base, str) or base not in others:
        at(("extends",), f"{name} extends service {base!r}, which is not in {file or 'this file'}", RULE)
        return entry
    under = _complete(base, others, source, report, (*seen, mark))
    return merged(under, entry, ("services", name)) if isinstance(under, dict) else entry
