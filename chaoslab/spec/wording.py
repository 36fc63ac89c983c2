"""pydantic's complaints as problems: placed in the file, in plain words, with what was probably meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from chaoslab.masking import MASK, looks_secret
from chaoslab.spec.problems import Place, Problem, shorten, suggest
from chaoslab.spec.shape import keys_at
from chaoslab.spec.source import KeyPath


class Located(Protocol):
    """Whatever knows where things were written: a document, or several merged."""

    def key_at(self, path: KeyPath) -> Place: ...

    def value_at(self, path: KeyPath) -> Place: ...


@dataclass(frozen=True)
class Complaint:
    """One error of pydantic, with its path in the data as written (tags of unions left out)."""

    path: KeyPath
    kind: str
    problem: Problem


def complaints(
    broken: ValidationError, model: type[BaseModel], data: Any, located: Located, under: KeyPath = ()
) -> list[Complaint]:
    """Every error of a validation. `under`: where `data` itself lies in the file."""
    found = []
    for error in broken.errors(include_url=False):
        path = _path_in(data, error["loc"], error["type"])
        at_key = error["type"] in ("missing", "extra_forbidden")
        parent = under + path[:-1] if error["type"] == "missing" else under + path
        place = located.key_at(parent) if at_key else located.value_at(parent)
        about = _Error(
            error["type"], error["loc"], under[-1:] + path, error["input"], error.get("ctx", {}), model, error["msg"]
        )
        found.append(Complaint(path, error["type"], Problem.at(place, _message(about))))
    return found


def _path_in(data: Any, loc: Iterable[str | int], kind: str) -> KeyPath:
    """The error's location without what pydantic adds for tagged unions."""
    path: list[str | int] = []
    steps = list(loc)
    for index, step in enumerate(steps):
        if _holds(data, step):
            data = data[step]
        elif not (kind == "missing" and index == len(steps) - 1):
            continue
        path.append(step)
    return tuple(path)


def _holds(data: Any, step: str | int) -> bool:
    return (isinstance(data, dict) and step in data) or (isinstance(data, list) and isinstance(step, int) and step < len(data))


@dataclass(frozen=True)
class _Error:
    """One of pydantic's errors and what the sentences about it are made of."""

    kind: str
    loc: tuple[str | int, ...]
    path: KeyPath
    value: Any
    context: dict[str, Any]
    model: type[BaseModel]
    fallback: str

    @property
    def label(self) -> str:
        return _owner(self.path)


def _message(error: _Error) -> str:
    if error.kind in _SENTENCES:
        return _SENTENCES[error.kind](error)
    if error.kind in _MUST:
        return f"{error.label} {_MUST[error.kind](error.context)}, not {_said(error.value, error.path)}"
    return f"{error.label}: {error.fallback[:1].lower()}{error.fallback[1:]}"


def _unknown_key(error: _Error) -> str:
    name, parent = str(error.path[-1]), error.path[:-1]
    inside = f" in {_owner(parent)}" if parent else ""
    return f"unknown key {shorten(name)}{inside}{suggest(name, keys_at(error.model, error.loc[:-1]))}"


def _unknown_fault(error: _Error) -> str:
    tag, known = error.context["tag"], sorted(_quoted(error.context["expected_tags"]))
    hint = suggest(str(tag), known) or f"; known: {', '.join(known)}"
    return f"unknown fault {shorten(tag)}{hint}"


def _unknown_word(error: _Error) -> str:
    return f"{error.label} cannot be {_said(error.value)}{suggest(str(error.value), _quoted(error.context['expected']))}"


def _quoted(listed: str) -> list[str]:
    return re.findall(r"'([^']+)'", listed)


_SENTENCES: dict[str, Callable[[_Error], str]] = {
    "extra_forbidden": _unknown_key,
    "union_tag_invalid": _unknown_fault,
    "literal_error": _unknown_word,
    "missing": lambda error: f"{_owner(error.path[:-1])} needs the key {error.path[-1]!r}",
    "union_tag_not_found": lambda error: f"{error.label} does not say which fault; add a line such as fault: site.power-loss",
    "too_long": lambda error: f"{error.label} has more than {error.context['max_length']} items",
    "value_error": lambda error: f"{error.label}: {error.context['error']}",
}
_MUST: dict[str, Callable[[dict[str, Any]], str]] = {
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "bool_type": lambda _: "must be true or false",
    "string_type": lambda _: "must be text",
    "path_type": lambda _: "must be a path",
    "list_type": lambda _: "must be a list, such as [a, b]",
    "dict_type": lambda _: "must be a mapping of keys to values",
    "model_type": lambda _: "must be a mapping of keys to values",
    "model_attributes_type": lambda _: "must be a mapping of keys to values",
    "greater_than": lambda ctx: f"must be above {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"must be {ctx['ge']:g} or more",
    "less_than": lambda ctx: f"must be below {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"must be {ctx['le']:g} or less",
    "too_short": lambda _: "must have at least one item",
    "string_too_short": lambda _: "must not be empty",
    "string_pattern_mismatch": lambda _: "must be lower-case letters, digits, '.', '_' or '-', such as fire-1",
}


def _said(value: Any, path: KeyPath = ()) -> str:
    if any(looks_secret(str(key)) for key in path[-1:]):
        return MASK
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return shorten(value)


def _owner(path: KeyPath) -> str:
    """The nearest thing with a name: `load`, `item 2 of timeline`."""
    if not path:
        return "this file"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of {path[-2]}" if len(path) > 1 else f"item {path[-1] + 1}"
    return str(path[-1])
