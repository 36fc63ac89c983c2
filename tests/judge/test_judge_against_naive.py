"""Random timelines, read by the judge and by the naive model of judge/README.md, Clocks: both must say the same.

CLOCK_EXAMPLES=5000 looks at more of them, and at others each time.
"""

from __future__ import annotations

import ast
import os
import sys
from dataclasses import replace
from pathlib import Path

import naive_clocks
import pytest
from clock_readings import difference, read_by_judge, read_by_naive
from clock_scenes import RARE
from hypothesis import HealthCheck, given, settings
from timelines import Scene, scenes

MORE = os.environ.get("CLOCK_EXAMPLES")
MANY = settings(
    max_examples=int(MORE or 300),
    derandomize=MORE is None,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@MANY
@given(scenes())
def test_the_judge_reads_a_timeline_as_the_naive_model_does(scene: Scene) -> None:
    """Clocks with their numbers, and what became of RTO and failback."""
    assert difference(read_by_naive(scene), read_by_judge(scene)) == ""


@settings(MANY, max_examples=int(MORE or 100))
@given(scenes())
def test_the_judge_reads_a_journey_that_may_fail_as_the_naive_model_does(scene: Scene) -> None:
    """The first journey of each timeline may fail while a fault is active; its service may have others."""
    first, *others = scene.facts.journeys
    facts = replace(scene.facts, journeys=[replace(first, may_fail=True), *others])
    scene = replace(scene, facts=facts)
    assert difference(read_by_naive(scene), read_by_judge(scene)) == ""


@pytest.mark.parametrize("scene", RARE)
def test_the_judge_reads_what_is_rare_as_the_naive_model_does(scene: Scene) -> None:
    """Made by hand."""
    assert difference(read_by_naive(scene), read_by_judge(scene)) == ""


def test_the_naive_model_is_one_of_its_own() -> None:
    """It shares nothing with the judge: no import but of the standard library."""
    tree = ast.parse(Path(naive_clocks.__file__).read_text(encoding="utf-8"))
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in named} <= sys.stdlib_module_names
