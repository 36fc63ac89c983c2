"""The JSON Schemas of an experiment, a runbook and a stack: what may be written, with descriptions and examples. Pure."""

from __future__ import annotations

from typing import Any

from chaoslab.spec.model import Experiment
from chaoslab.spec.runbook import Runbook
from chaoslab.spec.stackfile.model import StackSpec
from chaoslab.spec.step import steps
from chaoslab.spec.yaml.quantities import duration_text
from chaoslab.spec.yaml.source import EXTENSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NOT_WRITTEN = ("name", "hypothesis")  # they are the file's name and its first comment


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


def runbook_schema() -> dict[str, Any]:
    """The schema of a runbook, a file of steps that an experiment's timeline names, draft 2020-12."""
    schema = Runbook.model_json_schema(by_alias=True)
    step = steps().json_schema(by_alias=True)
    definitions = step.pop("$defs")
    schema["properties"]["steps"]["items"] = step
    about = "A list of steps, which an experiment's timeline names. The first comment of the file says what it is for."
    return {"$schema": DIALECT, **_tidy(schema), "$defs": _tidy(definitions), "title": "chaoslab runbook", "description": about}


def stack_schema() -> dict[str, Any]:
    """The schema of a Compose file with an `x-chaoslab` section, or of an overlay such as chaoslab.yaml, draft 2020-12.

    What else a Compose file says is left to Compose's own schema. No key of the section, or of a journey, is required, since
    it may be divided between a file and its overlays; `chaoslab check` knows them all.
    """
    section = StackSpec.model_json_schema(by_alias=True)
    definitions = section.pop("$defs")
    for divided in (section, definitions["Journey"]):
        divided.pop("required", None)
    tidied = {"type": "object", "properties": {EXTENSION: _tidy(section)}, "$defs": _tidy(definitions)}
    about = f"A Compose file, or an overlay of one, whose {EXTENSION} section says what Compose cannot: sites, entry, journeys."
    return {"$schema": DIALECT, **tidied, "title": "chaoslab stack", "description": about}


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
