"""pydantic's errors as problems: with their place in the file, in plain words, and with a suggestion. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from chaoslab.redact import MASK, looks_secret
from chaoslab.spec.yaml.problems import KeyPath, Located, Problem, shorten, suggest
from chaoslab.spec.yaml.shape import keys_at


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
    for raw in broken.errors(include_url=False):
        kind, steps, part = raw["type"], list[str | int](), data  # `steps`: without what pydantic adds for tagged unions
        for index, step in enumerate(raw["loc"]):
            is_item = isinstance(part, list) and isinstance(step, int) and step < len(part)
            if is_item or (isinstance(part, dict) and step in part):
                part = part[step]
            elif not (kind == "missing" and index == len(raw["loc"]) - 1):
                continue
            steps.append(step)
        path = tuple(steps)
        parent = under + path[:-1] if kind == "missing" else under + path
        place = located.key_at(parent) if kind in ("missing", "extra_forbidden") else located.value_at(parent)
        error = _Error(raw["loc"], under[-1:] + path, raw["input"], raw.get("ctx", {}), model)
        if kind in _SENTENCES:
            message = _SENTENCES[kind](error)
        elif kind in _MUST:
            message = f"{error.label} {_MUST[kind](error.context)}, not {_quote(error.value, error.path)}"
        else:
            message = f"{error.label}: {raw['msg'][:1].lower()}{raw['msg'][1:]}"
        found.append(Complaint(path, kind, Problem.at(place, message, _RULES.get(kind, "value.type"))))
    return found


@dataclass(frozen=True)
class _Error:
    """One of pydantic's errors and what the sentences about it are made of."""

    loc: tuple[str | int, ...]
    path: KeyPath
    value: Any
    context: dict[str, Any]
    model: type[BaseModel]

    @property
    def label(self) -> str:
        return _owner(self.path)


def _quoted(listed: str) -> list[str]:
    return re.findall(r"'([^']+)'", listed)


_RULES = {  # by pydantic's name of the error; all others are of the wrong type
    "extra_forbidden": "key.unknown",
    "missing": "key.missing",
    "union_tag_invalid": "timeline.fault-unknown",
    "union_tag_not_found": "timeline.fault-missing",
    "literal_error": "value.unknown",
    "value_error": "value.malformed",
    "string_pattern_mismatch": "value.malformed",
    **dict.fromkeys(("greater_than", "greater_than_equal", "less_than", "less_than_equal"), "value.out-of-range"),
    **dict.fromkeys(("too_long", "too_short", "string_too_short"), "value.length"),
}
_SENTENCES: dict[str, Callable[[_Error], str]] = {
    "extra_forbidden": lambda error: (
        f"unknown key {shorten(str(error.path[-1]))}{' in ' + _owner(error.path[:-1]) if error.path[1:] else ''}"
        f"{suggest(str(error.path[-1]), keys_at(error.model, error.loc[:-1]))}"
    ),
    "union_tag_invalid": lambda error: (
        f"unknown fault {shorten(error.context['tag'])}"
        + (
            suggest(str(error.context["tag"]), _quoted(error.context["expected_tags"]))
            or f"; known: {', '.join(sorted(_quoted(error.context['expected_tags'])))}"
        )
    ),
    "literal_error": lambda error: (
        f"{error.label} cannot be {_quote(error.value)}{suggest(str(error.value), _quoted(error.context['expected']))}"
    ),
    "missing": lambda error: f"{_owner(error.path[:-1])} needs the key {error.path[-1]!r}",
    "union_tag_not_found": lambda error: (
        f"{error.label} is neither a fault nor a step; add a key such as fault: site.power-loss, or run: [program]"
    ),
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


def _quote(value: Any, path: KeyPath = ()) -> str:
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
