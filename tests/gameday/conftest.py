"""A project of small experiments."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretended import FIRE, PROGRAM, RED, write_suite


@pytest.fixture(autouse=True)
def _pretended_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Game days in this process have the stand-in for every run."""
    monkeypatch.setattr("chaoslab.gameday.night.PROGRAM", PROGRAM)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Experiments `calm`, `fire` and `flood` that should pass, and `red`, a known-bad; a suite `all` of them."""
    folder = tmp_path / "experiments"
    (folder / "gameday").mkdir(parents=True)
    for name in ("calm", "fire", "flood"):
        (folder / f"{name}.yaml").write_text(FIRE)
    (folder / "red.yaml").write_text(RED)
    write_suite(tmp_path, 'experiments: [{glob: "*"}]')
    return tmp_path
