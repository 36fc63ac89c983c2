"""Whose commands may run: the rule, its edges, and what the command line says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from mini_stack import start_chaoslab, write_experiment

from chaoslab.spec.repository import is_own, repository_of

EXEC = {"id": "f", "fault": "exec", "inject": ["touch", "hurt"], "heal": ["rm", "-f", "hurt"], "verify": ["test", "-e", "hurt"]}


@pytest.fixture
def place(tmp_path: Path) -> SimpleNamespace:
    """A project, a folder inside it, and a folder outside with a spec."""
    project, outside = tmp_path / "project", tmp_path / "downloads"
    for folder in (project / ".git", project / "deep/er", outside):
        folder.mkdir(parents=True)
    return SimpleNamespace(project=project, deep=project / "deep/er", outside=outside)


def test_a_spec_below_the_project_is_its_own(place: SimpleNamespace) -> None:
    """From wherever in the project one stands."""
    for folder in (place.project, place.deep):
        assert repository_of(folder) == place.project
        assert is_own(place.project / "experiments/x.yaml", folder)


def test_a_spec_outside_is_not(place: SimpleNamespace) -> None:
    """Neither by `..`, nor by a link inside that leads out."""
    foreign = place.outside / "x.yaml"
    foreign.write_text("")
    link = place.project / "x.yaml"
    link.symlink_to(foreign)
    for file in (foreign, place.project / "../downloads/x.yaml", link):
        assert not is_own(file, place.project)


def test_git_goes_before_a_makefile(place: SimpleNamespace) -> None:
    """Somebody's pyproject.toml deeper down makes no smaller project; without git it does."""
    (place.deep / "pyproject.toml").write_text("")
    assert repository_of(place.deep) == place.project
    (place.project / ".git").rmdir()
    assert repository_of(place.deep) == place.deep


def test_a_folder_of_everybody_or_of_others_is_no_project(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: a `.git` in /tmp, in the home folder, or made by another user."""
    place.project.chmod(0o777)
    assert repository_of(place.deep) is None
    place.project.chmod(0o755)
    monkeypatch.setenv("HOME", str(place.project))
    assert repository_of(place.deep) is None
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    assert repository_of(place.deep) is None


def ask(folder: Path, *arguments: str) -> tuple[int, str, str]:
    child = start_chaoslab(folder, *arguments)
    out, err = child.communicate(timeout=30)
    return child.returncode, out, err


def test_commands_of_others_are_refused_before_anything_starts(place: SimpleNamespace) -> None:
    """Exit 2 with the cure; check and --dry-run say it; no folder, no process, no command."""
    spec = str(write_experiment(place.outside, timeline=[EXEC]))
    code, _, err = ask(place.project, "run", spec)
    assert code == 2
    assert "lies outside this project" in err
    assert "--allow-exec" in err
    assert not (place.project / "runs").exists()
    assert not (place.project / "hurt").exists()
    for command in (("check", spec), ("run", spec, "--dry-run")):
        code, out, _ = ask(place.project, *command)
        assert code == 0
        assert "it runs only with --allow-exec" in out
    assert "starts    store: python store.py" in out, "what a stranger's stack would start is shown"


def test_commands_of_ones_own_need_no_permission(place: SimpleNamespace) -> None:
    """The same spec inside the project; known bad for the check above."""
    code, out, _ = ask(place.project, "run", str(write_experiment(place.project, timeline=[EXEC])), "--dry-run")
    assert code == 0
    assert "--allow-exec" not in out
    assert "starts" not in out


def test_the_journal_of_others_is_not_carried_out(place: SimpleNamespace, tmp_path: Path) -> None:
    """Known bad: a run folder from somewhere whose journal would remove what is ours."""
    precious, run = tmp_path / "precious", place.outside / "run"
    precious.mkdir()
    run.mkdir()
    (run / "history.jsonl").write_text("")
    (run / "undo.jsonl").write_text(f'{{"undo":"remove-folder","path":"{precious}"}}\n')
    code, _, err = ask(place.project, "heal", str(run))
    assert code == 2
    assert "not a run of this project" in err
    assert precious.exists()


def test_errors_about_a_spec_do_not_quote_its_secrets(place: SimpleNamespace) -> None:
    """A header that is no text, a URL with a password in the wrong place, a process with a secret that is a list."""
    journey = {
        "service": "app",
        "request": {"path": "/x", "headers": {"Authorization": ["planted-1"], "X-Token": 271828182845}},
    }
    overlay = {
        "services": {"store": {"healthcheck": {"test": "curl http://u:planted-2@store"}}},
        "x-chaoslab": {
            "journeys": {"app.bad": journey},
            "conditions": {"c": {"get": "http://u:planted-3@nowhere:1/", "expect": "x"}},
            "processes": {"store": {"environment": {"PASSWORD": {"a": "planted-4"}}}},
        },
    }
    spec = str(write_experiment(place.project, overlay=overlay))
    for command in (("check", spec), ("check", spec, "--json"), ("run", spec)):
        code, out, err = ask(place.project, *command)
        assert code == 2
        assert "must be" in out + err
        assert [word for word in ("planted", "271828182845") if word in out + err] == [], out + err
