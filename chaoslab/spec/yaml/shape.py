"""Which keys may be written where, read off the models: what a misspelt key is compared with. Pure."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from chaoslab.spec.yaml.tagged import Tagged


def keys_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The keys that may be written at a location of pydantic's: keys, indexes, and tags behind an item of several kinds."""
    found: Any = model
    for step in loc:
        if isinstance(found, Tagged):
            found = found.model_for(step)
        elif isinstance(found, type) and issubclass(found, BaseModel):
            fields = {field.alias or name: field for name, field in found.model_fields.items()}
            found = _bare(fields[str(step)].annotation) if step in fields else None
        else:
            found = _bare(get_args(found)[-1]) if get_origin(found) in (list, dict) else None
    if isinstance(found, type) and issubclass(found, BaseModel):
        return [field.alias or name for name, field in found.model_fields.items()]
    return []


def _bare(annotation: Any) -> Any:
    """The type without Annotated, or its Tagged; and without None, where that leaves one type."""
    if get_origin(annotation) is Annotated:
        kind, *notes = get_args(annotation)
        return next((note for note in notes if isinstance(note, Tagged)), _bare(kind))
    if get_origin(annotation) in (Union, UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        return _bare(options[0]) if len(options) == 1 else annotation
    return annotation
