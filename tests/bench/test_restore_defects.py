"""Every defect of a backup is found, with its cause, and every sound one is restored: bench_restore, in full."""

from __future__ import annotations

from pathlib import Path

import pytest
from backup_archive import Made, make, restore
from backup_defects import DEFECTS, Case, copy_of, sound

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One archive for all."""
    return make(tmp_path_factory.mktemp("restore") / "made")


@pytest.mark.parametrize("case", DEFECTS, ids=lambda case: case.name.replace(" ", "-"))
def test_a_defect_is_found(made: Made, case: Case, tmp_path: Path) -> None:
    """Made on a copy of the archive's bytes, and restored alone; its cause is named."""
    archive = copy_of(made, tmp_path / "archive")
    case.change(made, archive)
    found = restore(made, archive, tmp_path / "restored", tools=case.tools(tmp_path))
    assert case.says in found.why, found


@pytest.mark.timeout(600)
def test_what_is_sound_is_restored(made: Made, tmp_path: Path) -> None:
    """Twenty, ten of them to random moments: none is red, so that the finding of a defect means something."""
    red = {}
    for case in sound(made, seed=1):
        archive = copy_of(made, tmp_path / "archive")
        case.change(made, archive)
        found = restore(made, archive, tmp_path / "restored", until=case.until)
        if found.red:
            red[case.name] = found.why
    assert red == {}
