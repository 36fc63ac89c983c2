"""The JSON Schema accepts what the loader accepts, refuses what it plainly refuses, and teaches on the way."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_files import FIXTURES
from jsonschema import Draft202012Validator

from chaoslab.spec.schema import json_schema, stack_schema

SCHEMA = json_schema()
STACK = stack_schema()
ROOT = Path(__file__).parents[2]


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


# --- of a stack


@pytest.mark.parametrize(
    "file",
    [FIXTURES / "stack.yaml", ROOT / "tests/mini/compose.yaml", *sorted((ROOT / "compose").glob("*/*.yaml"))],
    ids=lambda file: f"{file.parent.name}/{file.name}",
)
def test_stacks_and_their_overlays_fit_one_schema(file: Path) -> None:
    """Draft 2020-12. A part of a section is as good as a whole one: an overlay has what the Compose file lacks."""
    Draft202012Validator.check_schema(STACK)
    assert list(Draft202012Validator(STACK).iter_errors(yaml.safe_load(file.read_text()))) == []


@pytest.mark.parametrize(
    "section",
    [
        {"site": ["east"]},
        {"sites": "east"},
        {"sites": []},
        {"tiers": {"critical": {"rto": "> 5s"}}},
        {"journeys": {"web.look": {"service": "web", "request": {"pth": "/"}}}},
        {"conditions": {"c": {"gte": "http://db:1/", "expect": "x"}}},
        {"requires": {"programs": "postgres"}},
    ],
)
def test_the_schema_of_a_stack_refuses(section: dict[str, Any]) -> None:
    """Known bad: misspelt keys and wrong types; for a chaoslab.yaml as for a Compose file."""
    assert list(Draft202012Validator(STACK).iter_errors({"x-chaoslab": section}))


def test_the_schema_of_a_stack_teaches() -> None:
    """Every key of the section is explained, and so is everything that it is made of."""
    section = STACK["properties"]["x-chaoslab"]
    assert [name for name, field in section["properties"].items() if not field.get("description")] == []
    assert [name for name, definition in STACK["$defs"].items() if not definition.get("description")] == []
