"""The short form of gameday_kills.py: one game day, killed twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from gameday_kills import EXPERIMENTS, Killed, Project, killed_nights, page_of, wrong_with

from chaoslab.gameday.journal import NAME

SHORT = {name: EXPERIMENTS[name] for name in ("calm", "late")}


@pytest.mark.timeout(240)
def test_a_game_day_that_is_killed_ends_in_the_same_page(tmp_path: Path) -> None:
    """Killed twice; then what finds that is shown to find what must not be."""
    [night] = killed_nights(2, 1, 7, tmp_path, SHORT)
    assert night == Killed(night.after_s)
    assert len(night.after_s) == 2
    project = Project(tmp_path / "night-0")
    [folder] = project.nights()
    wanted = page_of(project)
    with (folder / NAME).open("ab") as journal:
        journal.write(b'{"type":"begun","case":"calm","at":"2026-11-26T02:00:00+00:00","elapsed_s":0}\n')
    (folder / "index.html").write_text((folder / "index.html").read_text().replace("as expected", "not run"))
    wrong = wrong_with(project, wanted, 2)
    assert "calm began again after its end" in wrong
    assert any(one.startswith("html: ") for one in wrong)
