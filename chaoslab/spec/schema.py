"""The JSON Schema of an experiment file, for editors: what may be written, with descriptions and examples. Pure."""

from __future__ import annotations

from typing import Any

from chaoslab.spec.model import Experiment
from chaoslab.spec.quantities import duration_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NOT_WRITTEN = ("name", "hypothesis")  # the file's name and its first comment say these


def json_schema() -> dict[str, Any]:
    """The schema of one experiment file, JSON Schema draft 2020-12."""
    schema = Experiment.model_json_schema(by_alias=True)
    for name in _NOT_WRITTEN:
        del schema["properties"][name]
        schema["required"].remove(name)
    stack = schema["properties"]["stack"]
    schema["properties"]["stack"] = {
        "description": stack["description"],
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        "examples": ["../compose/two-site/compose.yaml"],
    }
    about = "One claim about a stack, and how to test it. The first comment of the file is its hypothesis."
    return {"$schema": DIALECT, **_tidy(schema), "title": "chaoslab experiment", "description": about}


def _tidy(node: Any) -> Any:
    """Without the titles that pydantic makes of field names, and with defaults as they would be written."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidied = {key: _tidy(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    default = tidied.get("default")
    if isinstance(default, float) and {"const": 0} in tidied.get("anyOf", ()):
        tidied["default"] = duration_text(default)
    return tidied
