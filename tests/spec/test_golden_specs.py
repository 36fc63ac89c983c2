"""Every way to get a spec wrong is answered with its place, what is wrong, and what was probably meant."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from golden_files import FIXTURES, Case, cases, check, edited, raw_bytes

from chaoslab.errors import ExitCode
from chaoslab.spec.load import load_experiment
from chaoslab.spec.yaml.problems import SpecErrors


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the fixtures, as the working folder, so that messages have short names."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaints(path: str = "fire.yaml") -> str:
    with pytest.raises(SpecErrors) as refused:
        load_experiment(Path(path))
    assert refused.value.exit_code is ExitCode.USAGE
    return "".join(f"{problem}\n" for problem in refused.value.problems)


def test_the_fixtures_are_sound(project: Path) -> None:
    """Without a change nothing is complained about; else every golden case would prove little."""
    assert load_experiment(project / "fire.yaml").experiment.name == "fire"


@pytest.mark.parametrize("case", cases("yaml.golden"), ids=str)
def test_broken_files(case: Case, project: Path) -> None:
    """What is no spec at all is refused with the place where that shows."""
    (project / "fire.yaml").write_bytes(raw_bytes(case))
    check(case, complaints())


@pytest.mark.parametrize("case", cases("experiment.golden"), ids=str)
def test_wrong_experiments(case: Case, project: Path) -> None:
    """All mistakes of an experiment are told at once."""
    file = project / "fire.yaml"
    file.write_text(edited(case, file.read_text()))
    check(case, complaints())


@pytest.mark.parametrize("case", cases("stack.golden"), ids=str)
def test_wrong_stacks(case: Case, project: Path) -> None:
    """Mistakes of a stack point into the Compose file."""
    file = project / "stack.yaml"
    file.write_text(edited(case, file.read_text()))
    check(case, complaints())


RULE = re.compile(r"[a-z-]+\.[a-z-]+")


@pytest.mark.parametrize("case", [*cases("yaml.golden"), *cases("experiment.golden"), *cases("stack.golden")], ids=str)
def test_every_problem_has_a_rule(case: Case, project: Path) -> None:
    """Its id is for those who look for one kind of problem; the wording may change."""
    if case.file == "yaml.golden":
        (project / "fire.yaml").write_bytes(raw_bytes(case))
    else:
        file = project / ("stack.yaml" if case.file == "stack.golden" else "fire.yaml")
        file.write_text(edited(case, file.read_text()))
    with pytest.raises(SpecErrors) as refused:
        load_experiment(Path("fire.yaml"))
    assert all(RULE.fullmatch(problem.rule) and problem.level == "error" for problem in refused.value.problems)
