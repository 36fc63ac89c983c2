"""The list of mutations that `make mutations` plants is up to date, and a mutation is what it says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mutations import MUTATIONS, Mutation, found, functions, mutated, present_tests

ROOT = Path(__file__).parents[2]
LAYERS = {path.name for path in (ROOT / "chaoslab").iterdir() if (path / "__init__.py").exists()}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_its_function_and_its_tests_are_there(mutation: Mutation) -> None:
    """Exactly one function of that name in the layer."""
    file, function = found(ROOT, mutation)
    changed = dict(functions(ast.parse(mutated(file.read_text(), function))))[mutation.function]
    assert ast.unparse(changed.body[-1]) == "return None"
    assert present_tests(ROOT, mutation)


def test_every_layer_has_one() -> None:
    assert {mutation.layer for mutation in MUTATIONS} >= LAYERS


def test_a_function_that_is_not_there_is_named() -> None:
    """Known bad."""
    with pytest.raises(LookupError, match="judge: no_such_function: found 0 times"):
        found(ROOT, Mutation("judge", "no_such_function", ()))
