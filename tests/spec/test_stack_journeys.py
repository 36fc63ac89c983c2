"""Journeys, ledgers and conditions as they are written: short forms, and what the schema says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_files import FIXTURES
from jsonschema import Draft202012Validator

from chaoslab.spec.load import load_experiment
from chaoslab.spec.permission import unpermitted_commands
from chaoslab.spec.resolved import load_resolved, resolved_yaml
from chaoslab.spec.secrets import secrets_of
from chaoslab.spec.stackfile.model import StackSpec

SCHEMA = Draft202012Validator(StackSpec.model_json_schema(by_alias=True))
SECTION = yaml.safe_load("""
sites: [east, west]
entry: web
entries: {web: "entry:8080", api: {address: "entry:8080", tls: true}}
conditions:
  a: {run: [x], in: db-east}
  b: {get: "http://db-east:8008/", expect: a, bring_about: {post: "http://db-east:8008/", json: {}}}
  c: {redis: [ROLE], at: "db-east:5432", expect: b, bring_about: {sql: select 1, at: "db-east:5432"}}
journeys:
  a: {service: web, redis: [GET, a]}
  b: {service: web, sql: select 1, not_applied: ["23505"]}
  c: {service: web, python: "own:B", ledger: {}}
  d: {service: web, python: {class: "own:B", with: {a: 1}}, ledger: {sql: {statement: x, user: y}, from: db}}
  e:
    service: web
    before: {path: /login, form: {password: very-secret}, keep: {token: access.token}}
    request: {path: /, form: {a: b}}
  f: {service: web, tcp: {send: x, expect: y}, entry: api}
  g: {service: web, request: {path: /}, good: {status: 201}}
""")


def test_short_forms_are_read_in_full_and_written_back() -> None:
    """What is written out reads as the same."""
    spec = StackSpec.model_validate(SECTION)
    assert spec.entries["web"].address == "entry:8080" and spec.entries["api"].tls is not None
    assert spec.journeys["a"].redis is not None and spec.journeys["a"].redis.command == ["GET", "a"]
    assert spec.journeys["g"].good.status == [201]
    assert [journey.op for journey in spec.journeys.values()] == ["read", "read", "write", "write", "read", "read", "read"]
    assert StackSpec.model_validate(json.loads(spec.model_dump_json(by_alias=True))) == spec


def test_the_schema_accepts_short_forms_and_explains_every_model() -> None:
    assert list(SCHEMA.iter_errors(SECTION)) == []
    assert [name for name, model in SCHEMA.schema["$defs"].items() if not model.get("description")] == []


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"journeys": {"a": {"service": "s", "redis": 5}}}, "$.journeys.a.redis"),
        ({"journeys": {"a": {"service": "s", "good": {"status": "x"}}}}, "$.journeys.a.good.status"),
        ({"entries": {"a": 5}}, "$.entries.a"),
        ({"conditions": {"a": {"run": "ls"}}}, "$.conditions.a.run"),
    ],
)
def test_the_schema_refuses_other_forms(section: dict[str, Any], path: str) -> None:
    found = [error.json_path for error in SCHEMA.iter_errors({"sites": ["a"], "entry": "x:1"} | section)]
    assert found == [path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment on a stack with that section, in no project."""
    stack = yaml.safe_load((FIXTURES / "stack.yaml").read_text()) | {"x-chaoslab": SECTION}
    (tmp_path / "stack.yaml").write_text(yaml.safe_dump(stack))
    fire = "# It holds.\n" + yaml.safe_dump(
        {"title": "X", "stack": "stack.yaml", "timeline": [{"id": "f", "fault": "site.power-loss", "site": "east"}]}
    )
    (tmp_path / "x.yaml").write_text(fire)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "x.yaml"


def test_modules_are_beside_the_compose_file(project: Path) -> None:
    """Wherever the run is started; a stored run has the folder, too, and reads back the same."""
    loaded = load_experiment(project)
    own = loaded.compose.spec.journeys["c"].python
    assert own is not None and own.folder == project.parent.resolve()
    (project.parent / "resolved.yaml").write_text(resolved_yaml(loaded.experiment, loaded.compose.spec))
    assert load_resolved(project.parent / "resolved.yaml") == (loaded.experiment, loaded.compose.spec)


def test_classes_and_commands_of_others_need_permission(project: Path) -> None:
    """Known bad: a spec from somewhere that would import its own module as your user."""
    why = unpermitted_commands(load_experiment(project), project.parent) or ""
    assert "python own:B of c, own:B of d" in why
    assert "condition a" in why


def test_passwords_are_secret_and_what_is_kept_stays_readable(project: Path) -> None:
    """A token's place in an answer is no secret, though its name looks like one."""
    secrets = secrets_of(load_experiment(project), {})
    assert secrets.text("tried very-secret at access.token") == "tried *** at access.token"
