"""The JSON Schema accepts what the loader accepts, refuses what it plainly refuses, and teaches on the way."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from golden_files import FIXTURES
from jsonschema import Draft202012Validator

from chaoslab.spec.schema import json_schema

SCHEMA = json_schema()


@pytest.fixture
def written() -> Any:
    return copy.deepcopy(yaml.safe_load((FIXTURES / "fire.yaml").read_text()))


def test_it_is_a_schema_that_accepts_a_sound_experiment(written: Any) -> None:
    """Draft 2020-12; the fixture validates."""
    Draft202012Validator.check_schema(SCHEMA)
    assert list(Draft202012Validator(SCHEMA).iter_errors(written)) == []


def test_name_and_hypothesis_are_not_written() -> None:
    """They come from the file's name and first comment."""
    assert not {"name", "hypothesis"} & set(SCHEMA["properties"])
    assert set(SCHEMA["required"]) == {"title", "stack", "timeline"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("titel",), "x"),
        (("stack",), 5),
        (("load", "users"), 0),
        (("load", "users"), "5"),
        (("timeline", 0, "at"), 5),
        (("timeline", 0, "heal_after"), "5 seconds"),
        (("timeline", 0, "fault"), "meteor"),
        (("objectives", "web", "rto"), "> 5s"),
        (("objectives", "web", "rto"), "quick"),
        (("steady_state", "journeys", "good"), "> 99"),
    ],
)
def test_it_refuses(written: Any, path: tuple[Any, ...], value: Any) -> None:
    """Misspelt keys, wrong types and texts that are no quantities show up in the editor already."""
    holder = written
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    assert list(Draft202012Validator(SCHEMA).iter_errors(written))


def test_it_teaches() -> None:
    """Every key of an experiment is explained, faults too, and quantities have examples; defaults are as they are written."""
    for name, field in SCHEMA["properties"].items():
        target = field if "description" in field else SCHEMA["$defs"][_reference(field).rpartition("/")[2]]
        assert target["description"], name
    for name, definition in SCHEMA["$defs"].items():
        assert definition["description"], name
    hold = SCHEMA["$defs"]["SteadyState"]["properties"]["hold"]
    assert hold["default"] == "8s"
    assert "30s" in hold["examples"]


def _reference(field: dict[str, Any]) -> str:
    return str(field.get("$ref") or next(option["$ref"] for option in field["anyOf"] if "$ref" in option))
