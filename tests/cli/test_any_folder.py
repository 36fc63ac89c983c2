"""Commands find the project from any folder inside it, and say what to do where there is none."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mini_stack import MINI, start_chaoslab

from chaoslab.cli.program import cli
from chaoslab.errors import SpecError
from chaoslab.history.folder import RunFolder
from chaoslab.run.session import Options
from chaoslab.spec.project import find_project, own_stack

SUITE = "# All of it.\ntitle: All\nexperiments: [{glob: '*'}]\n"
FIRE = """# East loses all power: the app is back in time.
title: Fire
stack: ../stack.yaml
timeline:
  - {id: fire, fault: site.power-loss, site: east, heal_after: 20s}
"""
PLAIN = "services: {web: {image: nginx}, db: {image: 'postgres:16'}}\n"


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's repository: an experiment, a suite and folders of code."""
    for folder in (".git", "experiments/gameday", "svc/web"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(MINI / "compose.yaml", tmp_path / "stack.yaml")
    (tmp_path / "experiments/fire.yaml").write_text(FIRE)
    (tmp_path / "experiments/gameday/nightly.yaml").write_text(SUITE)
    return tmp_path


@pytest.fixture(params=[".", "svc/web", "experiments", "experiments/gameday"])
def here(request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Wherever in the project one stands."""
    monkeypatch.chdir(project / request.param)
    return project / request.param


def test_names_are_found_from_every_folder(here: Path, project: Path) -> None:
    """By list, check, run and gameday; known bad: only at the top of the project."""
    assert [row["name"] for row in json.loads(ask("list", "--json").stdout)] == ["fire"]
    checked = ask("check")
    assert checked.return_value == 0
    assert checked.stdout.splitlines() == ["fire: ok", "nightly: ok, a suite; run it with: chaoslab gameday nightly"]
    assert "site.power-loss" in ask("run", "fire", "--dry-run", "--runtime", "embedded").stdout
    assert "fire" in ask("gameday", "nightly", "--dry-run").stdout
    assert ask("check", "experiments/fire.yaml").return_value == 0, "a path that does not exist here counts from the project"
    assert ask("check", os.path.relpath(project / "experiments/fire.yaml")).return_value == 0


def test_runs_are_those_of_the_project(here: Path, project: Path) -> None:
    """By name, by `latest`, and as reports name them; the message for another says where runs are looked for."""
    stored = RunFolder.create(project / "runs", "fire")
    stored.history.write_bytes(b"")
    for name in ("fire", "latest", "runs/fire/latest"):
        assert "there was nothing to heal" in ask("heal", name).stdout
    with pytest.raises(SpecError, match=r"no run of 'flood' in .*runs/; there are runs of: fire"):
        ask("analyze", "flood")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("/nowhere/at-all", "there is no such folder or file"),
        ("runs/flood/latest", "there is no such folder or file"),
        ("flood", "no run of 'flood' in runs/; there are none yet"),
        ("svc", "this is not the folder of a run: it has no history.jsonl"),
    ],
)
def test_a_run_that_is_not_there_is_told_by_what_was_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, wrong: str
) -> None:
    """Known bad: "There are no runs below runs/" for a path elsewhere."""
    monkeypatch.chdir(project)
    with pytest.raises(SpecError) as refused:
        ask("analyze", name)
    assert wrong in str(refused.value)
    assert "no runs below" not in str(refused.value)


def test_a_run_works_in_the_project_wherever_it_was_called(here: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: the runs of a project lay in the folder in which one happened to stand."""
    seen = []

    def no_run(_more: object, _loaded: object, options: Options, _view: object) -> None:
        seen.append((options.project, options.root, options.command))
        raise SpecError("enough")

    monkeypatch.setattr("chaoslab.run.repeat.run_while", no_run)
    into = os.path.relpath(project / "svc/results")
    for more in ([], ["--into", into]):
        with pytest.raises(SpecError, match="enough"):
            ask("run", os.path.relpath(project / "experiments/fire.yaml"), "--runtime", "embedded", *more)
    folders = [(run_for, (project / root).resolve()) for run_for, root, _ in seen]
    assert folders == [(project, project / "runs"), (project, project / "svc/results")]
    assert "run experiments/fire.yaml" in seen[0][2], "what is typed to run it again works from everywhere in the project"


# --- which folder that is


def test_a_chaoslab_yaml_makes_a_project_and_is_a_stack_with_the_compose_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "chaoslab.yaml").write_text("x-chaoslab: {}\n")
    (tmp_path / "docker-compose.yml").write_text(PLAIN)
    (tmp_path / "compose.yaml").write_text(PLAIN)
    assert find_project(tmp_path / "deep") == tmp_path
    assert own_stack(tmp_path) == (tmp_path / "compose.yaml", tmp_path / "chaoslab.yaml"), "Compose prefers compose.yaml"
    (tmp_path / "compose.override.yml").write_text(PLAIN)
    assert [file.name for file in own_stack(tmp_path)] == ["compose.yaml", "compose.override.yml", "chaoslab.yaml"]


def test_the_search_ends_at_the_repository(project: Path) -> None:
    """A repository below a project, and a folder of experiments of another kind, are none of it."""
    inner = project / "svc/web"
    (inner / "experiments").mkdir()
    (inner / "experiments/notes.ipynb").write_text("")
    assert find_project(inner) == project
    (inner / ".git").mkdir()
    assert find_project(inner) is None


def test_a_folder_above_that_is_not_the_user_s_is_no_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: /tmp/experiments, which everybody may write, would be run from every folder below. Who stands in it, chose."""
    (project / ".git").rmdir()
    deep = project / "svc/web"
    project.chmod(0o777)
    assert find_project(deep) is None
    assert find_project(project) == project
    project.chmod(0o755)
    monkeypatch.setenv("HOME", str(project))
    assert find_project(deep) is None
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    assert find_project(deep) is None


def test_without_a_project_the_cure_is_to_begin_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["check"], ["list"], ["run", "fire"]):
        with pytest.raises(SpecError, match="`chaoslab init` creates"):
            ask(*command)


# --- files that are no experiment


def test_a_compose_file_is_told_for_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By check and by run, exit 2, with what to do next."""
    monkeypatch.chdir(tmp_path)
    Path("docker-compose.yml").write_text(PLAIN)
    checked = ask("check", "docker-compose.yml")
    assert checked.return_value == 2
    assert "docker-compose.yml:1:1: error: this is a Compose file with 2 services (web, db)" in checked.stderr
    assert "`chaoslab init`" in checked.stderr
    assert json.loads(ask("check", "docker-compose.yml", "--json").stdout)["problems"][0]["rule"] == "file.compose-file"
    with pytest.raises(SpecError, match="this is a Compose file with 2 services"):
        ask("run", "docker-compose.yml")


def test_a_stack_is_checked_with_its_overlay(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With chaoslab.yaml beside it, or in the stack of an experiment that names it; alone where it is complete."""
    monkeypatch.chdir(project)
    assert ask("check", "stack.yaml").stdout == "stack.yaml: ok, a stack\n"
    Path("over.yaml").write_text("services: {app-east: {environment: {X: '1'}}}\n")
    text = Path("experiments/fire.yaml").read_text()
    Path("experiments/fire.yaml").write_text(text.replace("stack: ../stack.yaml", "stack: [../stack.yaml, ../over.yaml]"))
    assert ask("check", "over.yaml").stdout == "stack.yaml + over.yaml: ok, a stack\n"
    Path("compose.yaml").write_text(PLAIN)
    Path("chaoslab.yaml").write_text("x-chaoslab: {sites: [a], entry: 'web:80'}\n")
    checked = ask("check", "compose.yaml")
    assert checked.return_value == 2
    assert "chaoslab.yaml:1:22: error: no service is in site 'a'" in checked.stderr
    assert ask("check").return_value == 2, "the stack of the project is checked although no experiment names it"
    Path("svc/compose.yaml").write_text(Path("stack.yaml").read_text())
    Path("chaoslab.yaml").write_text("x-chaoslab: {requires: {programs: [x]}}\n")
    text = text.replace("stack: ../stack.yaml", "stack: [../svc/compose.yaml, ../chaoslab.yaml]")
    Path("experiments/fire.yaml").write_text(text)
    assert ask("check").return_value == 0, "the overlay is that of a Compose file elsewhere, as the experiment says"
    assert ask("check", "chaoslab.yaml").stdout == "svc/compose.yaml + chaoslab.yaml: ok, a stack\n"


def test_a_mistake_that_experiments_share_is_told_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: once for each experiment on a stack."""
    monkeypatch.chdir(project)
    shutil.copy("experiments/fire.yaml", "experiments/flood.yaml")
    Path("stack.yaml").write_text(Path("stack.yaml").read_text().replace("sites: [", "sites: [nowhere, "))
    shown = ask("check").stderr.splitlines()
    assert len([line for line in shown if "no service is in site 'nowhere'" in line]) == 1
    assert shown[-1] == "1 error"


@pytest.mark.parametrize("name", ["nightly", "experiments/gameday/nightly.yaml"])
def test_a_suite_is_told_for_what_it_is(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Check reads it as one, and run says which command it is for."""
    monkeypatch.chdir(project)
    assert ask("check", name).stdout == "nightly: ok, a suite; run it with: chaoslab gameday nightly\n"
    with pytest.raises(SpecError, match=r"is a suite of experiments[\s\S]*chaoslab gameday nightly"):
        ask("run", name)
    Path("experiments/gameday/nightly.yaml").write_text(SUITE.replace("'*'", "flood"))
    checked = ask("check", name)
    assert (checked.return_value, "no experiment has the glob 'flood'" in checked.stderr) == (2, True)


def test_the_record_of_a_run_is_told_for_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiment.yaml").write_text("format: chaoslab/resolved/v1\nexperiment: {}\nstack: {}\n")
    assert "chaoslab analyze" in ask("check", "experiment.yaml").stderr


# --- slips of the finger


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["chekc"], "Did you mean 'check'?"), (["lsit"], "Did you mean 'list'?"), (["run", "--dryrun", "x"], "--dry-run")],
)
def test_a_mistyped_command_or_option_is_answered_with_what_was_meant(tmp_path: Path, typed: list[str], meant: str) -> None:
    """Exit 2, and something like nothing gets no wrong advice."""
    child = start_chaoslab(tmp_path, *typed)
    _, err = child.communicate(timeout=30)
    assert (child.returncode, meant in err) == (2, True), err


@pytest.mark.parametrize("api", ["foo", "0.0.0.0:8474", "127.0.0.1:99999"])
def test_a_relay_at_an_address_that_cannot_be_is_a_wrong_command_line(tmp_path: Path, api: str) -> None:
    """Known bad: exit 5, as if the machine were broken."""
    child = start_chaoslab(tmp_path, "relay", "--api", api)
    _, err = child.communicate(timeout=30)
    assert (child.returncode, "--api" in err) == (2, True), err


# --- names that are no text


def test_a_file_name_that_is_not_utf8_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: a traceback of check and of list, whatever else there was. All others are listed and checked."""
    monkeypatch.chdir(project)
    for folder in ("experiments", "experiments/gameday"):
        Path(folder, os.fsdecode(b"caf\xe9.yaml")).write_bytes(b"title: x\n")
    checked = start_chaoslab(project, "check")
    out, err = checked.communicate(timeout=60)
    assert checked.returncode == 2
    assert "fire: ok" in out
    for folder in ("experiments", "experiments/gameday"):
        assert rf"{folder}/caf\xe9.yaml: error: the name of this file is not UTF-8; rename it" in err
    listed = start_chaoslab(project, "list")
    out, err = listed.communicate(timeout=60)
    assert (listed.returncode, err) == (0, "")
    assert r"caf\xe9" in out and "fire" in out
    for command in ("run", "gameday"):
        with pytest.raises(SpecError) as refused:
            ask(command, "nothing")
        assert str(refused.value).encode()
