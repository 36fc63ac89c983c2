"""Whatever the bytes, a load ends soon, and either loads or raises SpecErrors: no traceback, no hang, no blow-up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_files import FIXTURES
from hostile import HOSTILE, LONGEST_S, MESSAGE_MAX, WORDS_OF_A_SPEC
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaoslab.spec.load import load_experiment
from chaoslab.spec.overrides import apply_overrides
from chaoslab.spec.yaml.problems import SpecErrors
from chaoslab.spec.yaml.source import Document, parse


def load_soon(raw: bytes, tmp_path: Path) -> list[str]:
    """The problems of these bytes as an experiment; none when it loads. Fails when it takes long or ends in another way."""
    file = tmp_path / "hostile.yaml"
    file.write_bytes(raw)
    began = time.process_time()
    try:
        load_experiment(file)
        problems = []
    except SpecErrors as refused:
        problems = [str(problem) for problem in refused.problems]
        assert problems
    assert time.process_time() - began < LONGEST_S
    return problems


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input(name: str, tmp_path: Path) -> None:
    """None of these is an experiment, and each gets an answer with a place that fits on a few lines."""
    problems = load_soon(HOSTILE[name], tmp_path)
    assert problems
    for problem in problems:
        assert "hostile.yaml:" in problem
        assert len(problem) < MESSAGE_MAX
        assert problem.isprintable()


def test_hostile_input_as_a_stack(tmp_path: Path) -> None:
    """The other dialect has the same limits."""
    fire = (FIXTURES / "fire.yaml").read_bytes()
    for raw in HOSTILE.values():
        (tmp_path / "stack.yaml").write_bytes(raw)
        assert load_soon(fire, tmp_path)


def test_limits_are_wide_enough_for_honest_files() -> None:
    """Ten thousand values and twenty levels are no problem."""
    document = parse(yaml.safe_dump({"a": list(range(10_000))}).encode() + b"b: " + b"[" * 20 + b"]" * 20, "f")
    assert len(document.data["a"]) == 10_000
    assert document.problems == []


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """What cannot be opened is a problem like any other."""
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / ("x" * 5000), tmp_path / "a\0b"):
        with pytest.raises(SpecErrors):
            load_experiment(path)


BOUNDED = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.sampled_from(WORDS_OF_A_SPEC)
KEYS = WORDS | st.text(max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=10)
STRUCTURES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=30
)


@BOUNDED
@given(raw=st.binary(max_size=200))
def test_any_bytes(raw: bytes, tmp_path: Path) -> None:
    """Random bytes, as an experiment."""
    load_soon(raw, tmp_path)


@BOUNDED
@given(tokens=st.lists(WORDS | st.sampled_from(["\n", "\n  ", " ", ": "]), max_size=60))
def test_any_tokens(tokens: list[str], tmp_path: Path) -> None:
    """Words of the language in random order get past the parser more often."""
    load_soon("".join(tokens).encode(), tmp_path)


@BOUNDED
@given(data=st.data())
def test_any_structure_in_an_experiment(data: Any, tmp_path: Path) -> None:
    """Well-formed YAML with anything anywhere, on top of a sound experiment."""
    _prepare(tmp_path)
    spec = yaml.safe_load((FIXTURES / "fire.yaml").read_text())
    _disturb(spec, data)
    load_soon(b"# H.\n" + yaml.safe_dump(spec, allow_unicode=False).encode("utf-8", "surrogatepass"), tmp_path)


@BOUNDED
@given(data=st.data())
def test_any_structure_in_a_stack(data: Any, tmp_path: Path) -> None:
    """The same for Compose files and their section."""
    _prepare(tmp_path)
    spec = yaml.safe_load((FIXTURES / "stack.yaml").read_text())
    _disturb(spec, data)
    (tmp_path / "stack.yaml").write_bytes(yaml.safe_dump(spec, allow_unicode=False).encode("utf-8", "surrogatepass"))
    load_soon((FIXTURES / "fire.yaml").read_bytes(), tmp_path)


@BOUNDED
@given(dotted=st.lists(KEYS | st.integers(-1, 5).map(str), max_size=6).map(".".join), value=st.text(max_size=20))
def test_any_override(dotted: str, value: str) -> None:
    """No word on the command line gets a traceback out of --set."""
    document = Document("f", yaml.safe_load((FIXTURES / "fire.yaml").read_text()))
    apply_overrides(document, {dotted: value})


def _prepare(folder: Path) -> None:
    (folder / "load").mkdir(exist_ok=True)
    (folder / "load" / "everyday.py").touch()
    (folder / "stack.yaml").write_bytes((FIXTURES / "stack.yaml").read_bytes())


def _disturb(spec: Any, data: Any) -> None:
    """Put a random structure at a random place of a spec."""
    holder = spec
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys) if keys else st.just("new"))
        inner = holder[key] if keys else None
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 3)) == 0:
            break
        holder = inner
    if isinstance(holder, dict) and data.draw(st.booleans()):
        key = data.draw(KEYS)
    if isinstance(holder, dict) or isinstance(key, int):
        holder[key] = data.draw(STRUCTURES)
