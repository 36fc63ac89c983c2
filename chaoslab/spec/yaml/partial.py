"""Validate data into a model; if parts are wrong, keep the valid ones, so that later checks can run as well."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from chaoslab.spec.yaml.problems import KeyPath, Located, Problem
from chaoslab.spec.yaml.wording import complaints

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
    paths = [complaint.path[:-1] if complaint.kind == "missing" else complaint.path for complaint in found]
    removed = frozenset(path[:2] if path[:1] and path[0] in whole else path for path in paths)
    if not isinstance(data, dict):
        return Validated(None, problems, removed)
    kept = copy.deepcopy(data)
    last_first = sorted(  # so that the items of a list before one that is removed keep their places
        (path for path in removed if path),
        key=lambda path: tuple((step, "") if isinstance(step, int) else (-1, step) for step in path),
        reverse=True,
    )
    for path in last_first:
        holder: Any = kept
        for step in path[:-1]:
            holder = holder[step]
        del holder[path[-1]]
    try:
        return Validated(model.model_validate({**stand_ins, **kept}), problems, removed)
    except ValidationError:
        return Validated(None, problems, removed)
