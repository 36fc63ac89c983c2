"""A harness that is killed at any moment leaves nothing; without its reaper, `chaoslab heal --all` clears what it left."""

from __future__ import annotations

from pathlib import Path

import pytest
from kill_harness import control, kills, tally, where_in

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_killed_harness_leaves_nothing(tmp_path: Path) -> None:
    """Eight kills at moments of a fixed choice; `make kill-test` does fifty at random ones."""
    found = list(kills(8, seed=20221015, parent=tmp_path))
    assert [(one.where, one.left) for one in found if one.clean_s is None] == [], tally(found)
    assert len({one.where for one in found}) >= 5, tally(found)


def test_without_the_reaper_things_are_left_and_heal_clears_them(tmp_path: Path) -> None:
    """Known bad: the looking finds processes, ports, folders, the command's effect; healing says what it did, and once."""
    found = control(tmp_path)
    assert found.proves, found
    assert "store.py" in found.said
    assert "bitten" in found.said
    assert "healed" in found.said


def test_a_history_says_what_the_run_was_doing() -> None:
    """The tally counts what was hit, not what was meant."""
    begin, end = '{"kind":"phase","phase":"%s","event":"begin"}', '{"kind":"phase","phase":"%s","event":"end"}'
    fault = '{"kind":"fault","event":"%s"}'
    assert where_in([]) == "start"
    assert where_in([begin % "boot"]) == "boot"
    assert where_in([begin % "faults", fault % "inject"]) == "inject"
    assert where_in([begin % "down", end % "down"]) == "conclude"
