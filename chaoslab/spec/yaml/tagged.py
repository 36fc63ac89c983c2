"""Lists of mappings of several kinds: a key, the tag, says which model a mapping is read as.

pydantic's own unions need all their models when a class is defined. Here they are asked for when the first mapping is read,
so that a model can have a field whose kinds are registered elsewhere; errors, dumps and JSON Schema are those of the union.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

Models = tuple[type[BaseModel], ...]


class Tagged:
    """For `Annotated[Base, Tagged("kind", models)]`: one of `models`, each with `kind: Literal[...]`. Objects are kept."""

    def __init__(self, tag: str, models: Callable[[], Models]) -> None:
        self.tag, self.models = tag, models

    def model_for(self, tag: object) -> type[BaseModel] | None:
        """The model that a tag names."""
        return next((model for model in self.models() if tag in get_args(model.model_fields[self.tag].annotation)), None)

    def read(self, raw: Any) -> Any:
        """What was written as its model. Raises ValidationError."""
        return _union(self.tag, self.models()).validate_python(raw)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(raw: Any) -> Any:
            return raw if isinstance(raw, source) else self.read(raw)

        as_it_is = core_schema.wrap_serializer_function_ser_schema(
            lambda model, dump: dump(model), schema=core_schema.any_schema()
        )
        return core_schema.no_info_plain_validator_function(validate, serialization=as_it_is)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(_union(self.tag, self.models()).core_schema)


@cache
def _union(tag: str, models: Models) -> TypeAdapter[Any]:
    union: Any = reduce(or_, models)
    return TypeAdapter(Annotated[union, Field(discriminator=tag)])


class OneOrMore:
    """For `Annotated[list[...], OneOrMore()]`: a list of one item may be written as that item."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda raw: [raw] if isinstance(raw, str | dict) else raw, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}
