"""Which step runs a test, and which tests run alone, as tests/steps.py says it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import steps


@pytest.mark.parametrize(
    ("test", "marks"),
    [
        ("judge/test_verdict.py::test_any", []),
        ("e2e/test_two_site.py::test_a_good_stack_survives_the_fire[embedded]", []),
        ("e2e/test_two_site.py::test_a_good_stack_survives_the_fire[compose]", ["slow"]),
        ("e2e/test_two_site.py::test_a_controller_that_burns_with_the_site", ["nightly"]),
    ],
)
def test_a_test_is_left_to_the_step_that_is_named(test: str, marks: list[str]) -> None:
    """Nightly goes before slow; what is kept is not slow."""
    assert list(steps.marks(test)) == marks


def test_a_whole_run_is_alone() -> None:
    assert steps.is_alone("e2e/test_two_site.py::test_a_good_stack_survives_the_fire[embedded]")
    assert not steps.is_alone("judge/test_verdict.py::test_any")


def test_what_boots_stacks_comes_last() -> None:
    named = ["e2e/a.py::t", "spec/a.py::t", "engine/a.py::t"]
    assert sorted(named, key=steps.place) == ["spec/a.py::t", "engine/a.py::t", "e2e/a.py::t"]


def test_a_name_that_fits_no_test_is_found() -> None:
    """Known bad: a test was renamed, and would run in the wrong step. conftest.py refuses to collect all tests then."""
    assert "kill/test_ctrl_c.py::" in steps.unused(["judge/test_verdict.py::test_any"])


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports a test file by its name alone: the second of two would not be collected."""
    names = Counter(file.name for file in Path(steps.__file__).parent.rglob("test_*.py"))
    assert [name for name, files in names.items() if files > 1] == []
