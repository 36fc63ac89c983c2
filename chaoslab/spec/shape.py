"""Which keys may be written where, read off the models: what a misspelt key is compared with. Pure."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel


def keys_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The keys that may be written at a location of pydantic's."""
    found: Any = model
    for step in loc:
        found = _step(found, step)
    return _keys_of(found) if isinstance(found, type) and issubclass(found, BaseModel) else []


def _step(annotation: Any, step: str | int) -> Any:
    """The type of what a key, an index or a union's tag leads to."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        return _bare(fields[str(step)].annotation) if step in fields else None
    if get_origin(annotation) in (list, dict):
        return _bare(get_args(annotation)[-1])
    if get_origin(annotation) in (Union, UnionType):
        return next((option for option in get_args(annotation) if _has_tag(option, step)), None)
    return None


def _bare(annotation: Any) -> Any:
    """The type without Annotated, and without None where that leaves one type."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        return _bare(options[0]) if len(options) == 1 else annotation
    return annotation


def _has_tag(option: Any, tag: str | int) -> bool:
    field = option.model_fields.get("fault") if isinstance(option, type) and issubclass(option, BaseModel) else None
    return field is not None and get_origin(field.annotation) is Literal and tag in get_args(field.annotation)


def _keys_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
