"""A harness that is killed at any moment leaves nothing; without its reaper, `chaoslab heal --all` clears what it left."""

from __future__ import annotations

from pathlib import Path

import pytest
from kill_harness import Traces, Workspace, control, kills, tally, wait_until_clean, where_in, workspace_of
from mini_stack import speaks_of

from chaoslab.clock import Deadline, wait_until

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


@pytest.mark.docker
@pytest.mark.usefixtures("engine")
def test_a_killed_harness_leaves_no_containers(tmp_path: Path) -> None:
    """Three of the moments; `make kill-test RUNTIME=compose` does fifty at random ones."""
    found = list(kills(3, seed=20221015, parent=tmp_path, runtime="compose"))
    assert [(one.where, one.left) for one in found if one.clean_s is None] == [], tally(found)


@pytest.mark.docker
@pytest.mark.usefixtures("engine")
def test_what_docker_compose_was_about_to_create_is_not_left_either(tmp_path: Path) -> None:
    """The command would go on without the harness: it is ended first, and what the engine makes after that is looked for."""
    with workspace_of(tmp_path, 0, "compose") as workspace:
        child = workspace.start_run()
        wait_until("docker compose create", lambda: (creating(workspace), None), Deadline.after(30), poll_s=0.01)
        child.kill()
        child.wait()
        clean_s, left = wait_until_clean(workspace, Traces())
        assert clean_s is not None, left


def creating(workspace: Workspace) -> bool:
    return any(speaks_of(process, "--no-build") for process in workspace.processes())


@pytest.mark.docker
@pytest.mark.usefixtures("engine")
def test_without_the_reaper_containers_are_left_and_heal_clears_them(tmp_path: Path) -> None:
    """Known bad: containers, networks and volumes too; the second heal finds nothing to do."""
    found = control(tmp_path, "compose")
    assert found.proves, found
    assert "chaoslab.stack.compose.sweep" in found.said


def test_a_history_says_what_the_run_was_doing() -> None:
    """The tally counts what was hit, not what was meant."""
    begin, end = '{"kind":"phase","phase":"%s","event":"begin"}', '{"kind":"phase","phase":"%s","event":"end"}'
    fault = '{"kind":"fault","event":"%s"}'
    assert where_in([]) == "start"
    assert where_in([begin % "boot"]) == "boot"
    assert where_in([begin % "faults", fault % "inject"]) == "inject"
    assert where_in([begin % "down", end % "down"]) == "conclude"
