"""What a Python user is promised: every public name is there, documented, and nothing else leaks."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import chaoslab

NAMES = [name for name in chaoslab.__all__ if name != "__version__"]
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    """In the package's own list, and by a docstring where it can have one; it is the very object that the program uses."""
    public = getattr(chaoslab, name)
    assert name in (chaoslab.__doc__ or "")
    if inspect.isclass(public) or inspect.isfunction(public):
        home = sys.modules[public.__module__]
        assert getattr(home, name) is public
        own = public.__dict__.get("__doc__") if inspect.isclass(public) else public.__doc__
        assert own and not own.startswith(f"{name}("), f"{name} has no docstring of its own"


def test_functions_that_raise_on_purpose_say_so() -> None:
    """Each that reads a file or starts something."""
    for name in ("choose_runtime", "find_experiment", "judge_stored", "load_experiment", "load_run", "run_once"):
        assert "Raises " in (inspect.getdoc(getattr(chaoslab, name)) or ""), name


def test_the_list_is_sorted_and_complete() -> None:
    """What a star import brings is what the list has; each error of the tree is in it."""
    assert chaoslab.__all__ == sorted(chaoslab.__all__, key=lambda name: (name[0].islower(), name))
    taken: dict[str, object] = {}
    exec("from chaoslab import *", taken)  # noqa: S102 -- a star import is what it is about
    assert taken.keys() - {"__builtins__"} == set(chaoslab.__all__)
    from chaoslab import errors

    tree = {name for name, found in vars(errors).items() if inspect.isclass(found) and issubclass(found, errors.ChaoslabError)}
    assert tree <= set(chaoslab.__all__)


def test_nothing_else_leaks() -> None:
    """Private names and the package's own modules aside."""
    leaked = {name for name, found in vars(chaoslab).items() if not name.startswith("_") and not inspect.ismodule(found)}
    assert leaked <= set(chaoslab.__all__)
    assert dir(chaoslab) == sorted(chaoslab.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'engine_of_doom'"):
        chaoslab.engine_of_doom  # noqa: B018


@pytest.mark.parametrize("script", ["import chaoslab", "import chaoslab.cli.program", "from chaoslab import ExitCode"])
def test_an_import_brings_nothing_that_was_not_asked_for(script: str) -> None:
    """So that it is quick: no model, no engine, no Docker."""
    heavy = "[m for m in ('pydantic', 'docker', 'requests', 'rich', 'jinja2', 'chaoslab.engine') if m in sys.modules]"
    answer = subprocess.run(
        [sys.executable, "-c", f"{script}; import sys; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "[]\n"


def test_a_stored_run_is_judged_from_python(tmp_path: Path) -> None:
    """The same verdict as the program's; known bad: an empty folder is an error with its name."""
    sys.path.insert(0, str(TESTS / "judge"))
    try:
        from test_finalize import run_folder
    finally:
        sys.path.remove(str(TESTS / "judge"))
    folder = chaoslab.load_run(run_folder(tmp_path).path)
    result = chaoslab.judge_stored(folder)
    assert (result.verdict, chaoslab.exit_code_of(result)) == ("pass", chaoslab.ExitCode.PASS)
    assert chaoslab.load_run(str(folder.path)) == folder
    with pytest.raises(chaoslab.SpecError, match="nothing: there is no such folder or file"):
        chaoslab.load_run(tmp_path / "nothing")
