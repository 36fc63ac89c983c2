"""Projects for the tests of `chaoslab init`, and the command in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from chaoslab.adopt.facts import Project, project_of
from chaoslab.cli.check import check_command
from chaoslab.cli.init import init_command
from chaoslab.spec.load import Loaded, load_experiment

WRITTEN = ["chaoslab.yaml", "experiments/first-fire.yaml", "experiments/load/first_fire.py", "runs/.gitignore"]


def project(text: str, texts: Mapping[str, Mapping[str, str]] | None = None) -> Project:
    """A project from the text of a Compose file, and the files of its services by service and name."""
    data = yaml.safe_load(text)
    return project_of(data, texts or {}, whole=data["services"])


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@contextmanager
def no_docker() -> Iterator[None]:
    """A machine without the `docker` command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        yield


def init(*words: str, answers: str = "") -> str:
    """What `chaoslab init` prints here. Raises what it raises."""
    return _output(init_command, words, answers)


def check() -> list[str]:
    """What is fine, and all advice but that about the project's own Compose file, which `init` did not write."""
    said = json.loads(_output(check_command, ("--json",), ""))
    advice = [one["message"] for one in said["advice"] if not one["rule"].startswith("compose.")]
    return [*said["ok"], *said["stacks"], *advice, *said["impossible_on"], *said["needs_allow_exec"]]


def loaded() -> Loaded:
    return load_experiment(Path("experiments/first-fire.yaml"))


def _output(command: Any, words: tuple[str, ...], answers: str) -> str:
    ran = CliRunner().invoke(command, list(words), input=answers, standalone_mode=False)
    if ran.exception is not None:
        raise ran.exception
    assert ran.return_value == 0, ran.output
    return ran.output
