"""Validate data into a model; when parts are wrong, keep what is right, so that later checks can speak up as well."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from chaoslab.spec.problems import Problem
from chaoslab.spec.source import KeyPath
from chaoslab.spec.wording import Complaint, Located, complaints

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Validated(Generic[M]):
    """`value` is whole when there are no problems; otherwise it lacks `removed`, and is None when nothing is left."""

    value: M | None
    problems: tuple[Problem, ...] = ()
    removed: frozenset[KeyPath] = frozenset()


def validate(
    model: type[M],
    data: Any,
    located: Located,
    *,
    under: KeyPath = (),
    whole: tuple[str, ...] = (),
    stand_ins: Mapping[str, Any],
) -> Validated[M]:
    """`under`: where `data` lies in the file. `whole`: lists whose items are kept or dropped as one.

    `stand_ins` take the place of required keys that are missing or wrong, for the sake of the later checks.
    """
    try:
        return Validated(model.model_validate(data))
    except ValidationError as broken:
        found = complaints(broken, model, data, located, under)
    problems = tuple(complaint.problem for complaint in found)
    removed = frozenset(_wrong_part(complaint, whole) for complaint in found)
    if not isinstance(data, dict):
        return Validated(None, problems, removed)
    try:
        return Validated(model.model_validate({**stand_ins, **_without(data, removed)}), problems, removed)
    except ValidationError:
        return Validated(None, problems, removed)


def _wrong_part(complaint: Complaint, whole: tuple[str, ...]) -> KeyPath:
    path = complaint.path[:-1] if complaint.kind == "missing" else complaint.path
    return path[:2] if path[:1] and path[0] in whole else path


def _without(data: dict[str, Any], removed: Iterable[KeyPath]) -> dict[str, Any]:
    """A copy without these paths; later items of a list go first, so that the others keep their places."""
    kept = copy.deepcopy(data)
    for path in sorted((path for path in removed if path), key=_order, reverse=True):
        holder: Any = kept
        for step in path[:-1]:
            holder = holder[step]
        del holder[path[-1]]
    return kept


def _order(path: KeyPath) -> tuple[tuple[int, str], ...]:
    return tuple((step, "") if isinstance(step, int) else (-1, step) for step in path)
