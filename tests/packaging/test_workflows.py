"""The files of continuous integration pass the linters for them; their scripts are run by tests/gameday/test_pipelines.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
BIN = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
SCHEMAS = {
    "vendor.github-workflows": sorted(GITHUB.glob("workflows/*.yml")),
    "vendor.github-actions": sorted(GITHUB.glob("actions/*/action.yml")),
    "vendor.gitlab-ci": sorted(ROOT.glob(".ci/gitlab/*.yml")),
}


def lint(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which(program, path=BIN)
    assert found is not None, f"{program} is missing: make setup-dev"
    return subprocess.run([found, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_file_fits_its_schema(schema: str) -> None:
    """With the schemas that the linter brings along."""
    transform = ("--data-transform", "gitlab-ci") if "gitlab" in schema else ()
    assert SCHEMAS[schema]
    done = lint("check-jsonschema", "--builtin-schema", schema, *transform, *SCHEMAS[schema])
    assert done.returncode == 0, done.stdout


def test_no_workflow_has_a_known_weakness() -> None:
    """Such as text of a pull request that becomes part of a script, or an action that is not pinned."""
    done = lint("zizmor", "--offline", "--no-progress", "--config", GITHUB / "zizmor.yml", GITHUB)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("sound", "broken", "program", "words"),
    [
        ("runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04", "check-jsonschema", ("--builtin-schema", "vendor.github-workflows")),
        (
            "      - uses: ./",
            "      - run: echo ${{ inputs.suite }}\n      - uses: ./",
            "zizmor",
            ("--offline", "--no-progress"),
        ),
    ],
)
def test_the_linters_find_what_is_wrong(sound: str, broken: str, program: str, words: tuple[str, ...], tmp_path: Path) -> None:
    """Known bad: an unknown key, and an input that becomes part of a script."""
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    text = (GITHUB / "workflows" / "gameday.yml").read_text()
    assert sound in text
    (folder / "gameday.yml").write_text(text.replace(sound, broken, 1))
    assert lint(program, *words, folder / "gameday.yml").returncode != 0
