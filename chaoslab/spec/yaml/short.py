"""Short forms: a plain value in place of a mapping, or of a list, for what is usually all that is written. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_TYPES: dict[type, dict[str, Any]] = {
    str: {"type": "string"},
    list: {"type": "array", "items": {"type": "string"}, "minItems": 1},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
}


class Short:
    """For `Annotated[Model, Short(long, str)]`: a value of these types is read as `long` of it; JSON Schema says so, too."""

    def __init__(self, long: Callable[[Any], Any], *kinds: type) -> None:
        self._long, self._kinds = long, kinds

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda raw: self._long(raw) if type(raw) in self._kinds else raw, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), *(_TYPES[kind] for kind in self._kinds)]}


def short_for(key: str, *kinds: type) -> Short:
    """The value of one key of a mapping in place of the mapping."""
    return Short(lambda raw: {key: raw}, *kinds)
