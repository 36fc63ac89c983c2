"""Steps as they are written: where their commands run, which programs are missing, and what needs permission."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from mini_stack import write_experiment

from chaoslab.clock import Deadline
from chaoslab.faults.command import Exec, ExecFault
from chaoslab.spec.load import Loaded, dump_resolved, load_experiment
from chaoslab.spec.objectives import objectives_for, promised_names
from chaoslab.spec.permission import unpermitted_commands
from chaoslab.spec.resolved import load_resolved
from chaoslab.spec.schema import json_schema
from chaoslab.spec.secrets import secrets_of
from chaoslab.spec.yaml.problems import SpecErrors

FIRE: dict[str, Any] = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "6s"}
WEST: dict[str, Any] = {"get": "http://app-west:8000/where", "expect": "site == 'west'"}
STEPS: list[dict[str, Any]] = [
    {"id": "run", "run": ["true"], "verify": "east-serves", "undo": ["true"], "within": "< 5s", "cwd": "tools"},
    {"id": "http", "http": {"path": "/x", "json": {"a": [1]}, "status": 201}, "verify": [WEST, "east-serves"]},
    {"id": "call", "manual": "Call", "owner": "sre", "delay": "2s", "after": "run", "precondition": WEST},
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """With a folder of experiments, and one of tools."""
    for name in ("experiments", "tools"):
        (tmp_path / name).mkdir()
    (tmp_path / "Makefile").touch()
    return tmp_path


def loaded(project: Path, *steps: dict[str, Any]) -> Loaded:
    return load_experiment(write_experiment(project / "experiments", timeline=[FIRE, *steps]))


def test_what_is_resolved_reads_back(project: Path, tmp_path: Path) -> None:
    """Every kind, with its defaults; the fault stays the only fault."""
    found, stored = loaded(project, *STEPS), tmp_path / "experiment.yaml"
    stored.write_text(dump_resolved(found))
    experiment = load_resolved(stored)[0]
    assert experiment == found.experiment
    assert [fault.id for fault in experiment.faults] == ["fire"]
    assert [step.kind for step in experiment.steps] == ["run", "http", "manual"]


def test_the_schema_accepts_and_refuses_steps(project: Path) -> None:
    """One condition needs no brackets; a key that no step has, and two kinds at once, show up in the editor."""
    written = yaml.safe_load(write_experiment(project, timeline=[FIRE, *STEPS]).read_text())
    validator = Draft202012Validator(json_schema())
    assert list(validator.iter_errors(written)) == []
    for wrong in ({"id": "x", "run": ["true"], "budgte": "5s"}, {"id": "x", "run": ["true"], "manual": "y"}, {"id": "x"}):
        assert list(validator.iter_errors({**written, "timeline": [FIRE, wrong]})), wrong


def test_commands_run_in_the_project_of_the_spec(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any folder and thread: it is found when the spec is read; `cwd` is relative to it."""
    monkeypatch.chdir("/")
    steps = loaded(project, {"id": "a", "run": ["true"]}, {"id": "b", "run": ["true"], "cwd": "tools"}).experiment.steps
    assert [step.cwd for step in steps] == [project, project / "tools"]


def test_the_commands_of_a_fault_run_there_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red before: the process's folder of the moment was taken."""
    timeline = [{"id": "bite", "fault": "exec", "inject": ["touch", "x"], "heal": ["rm", "x"], "verify": ["test", "-e", "x"]}]
    (spec,) = load_experiment(write_experiment(project / "experiments", timeline=timeline)).experiment.faults
    assert isinstance(spec, Exec)
    monkeypatch.chdir("/")
    fault = ExecFault(spec, None)  # type: ignore[arg-type]
    thread = threading.Thread(target=fault.inject)
    thread.start()
    thread.join()
    assert (project / "x").exists()
    fault.heal(Deadline.after(5.0))
    assert not (project / "x").exists()


def test_a_folder_that_is_not_there_is_an_error(project: Path) -> None:
    """At its place."""
    with pytest.raises(SpecErrors, match=r"mini.yaml:\d+:\d+: folder 'tolls' does not exist; cwd is relative to the project"):
        loaded(project, {"id": "a", "run": ["true"], "cwd": "tolls"})


def test_a_missing_program_is_a_warning(project: Path) -> None:
    """On the PATH or relative to the folder of its commands; one that is there is none, nor is an `undo` that is."""
    script = project / "tools" / "promote.sh"
    script.write_text("#!/bin/sh\n")
    steps = [{"id": "a", "run": ["tools/promote.sh"], "undo": ["no-such-program"]}]
    assert [advice.rule for advice in loaded(project, *steps).advice] == ["timeline.program-missing"] * 2, "not executable yet"
    script.chmod(0o755)
    (advice,) = loaded(project, *steps).advice
    assert (advice.level, advice.rule) == ("warning", "timeline.program-missing")
    assert "program 'no-such-program' was not found" in advice.message


def test_commands_of_steps_need_permission_elsewhere(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The command and the undo of a step; a request, or a person's work, is no command."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    undone = {"id": "b", "manual": "x", "delay": "1s", "undo": ["true"]}
    found = loaded(project, {"id": "a", "run": ["true"]}, undone, STEPS[1])
    assert (unpermitted_commands(found, elsewhere) or "").endswith("would run its own commands as your user: step a, b")
    assert unpermitted_commands(found, project) is None
    assert unpermitted_commands(loaded(project, STEPS[1]), elsewhere) is None


def test_secrets_that_steps_name_are_covered(project: Path) -> None:
    """Those of headers and of accounts, and what a command needs; the spec itself holds the names alone."""
    steps: list[dict[str, Any]] = [
        {"id": "a", "http": {"path": "/x", "headers": {"Authorization": "Bearer ${TOKEN_A}"}}},
        {"id": "b", "sql": {"at": "store:7000", "statement": "SELECT 1", "password": "${PASSWORD_B}"}},
        {"id": "c", "run": ["true"], "needs": {"env": ["KEY_C", "NOT_SET"]}},
    ]
    found = loaded(project, *steps)
    values = {"TOKEN_A": "bear-of-a", "PASSWORD_B": "word-of-b", "KEY_C": "lock-of-c"}
    covered = secrets_of(found, values)
    assert covered.text("bear-of-a, word-of-b and lock-of-c") == "***, *** and ***"
    assert "${TOKEN_A}" in found.experiment.steps[0].http.headers["Authorization"]  # type: ignore[attr-defined]


def test_variables_with_a_secret_name_are_covered_wherever_a_step_names_them(project: Path) -> None:
    """Known bads: in a path, in JSON or in a header of another name; and dollars, which nothing fills in here."""
    call = {"path": "/hooks/${HOOK_TOKEN}", "headers": {"X-Auth": "${PROXY_PASSWORD}"}, "json": {"with": "${API_KEY}"}}
    steps: list[dict[str, Any]] = [
        {"id": "a", "http": call},
        {"id": "b", "sql": {"at": "store:7000", "statement": "SELECT 1", "password": "pa$word$$of-b"}},
        {"id": "c", "run": ["true"], "needs": {"env": ["KEY_C"]}},
    ]
    values = {"HOOK_TOKEN": "hook-of-a", "PROXY_PASSWORD": "word-of-a", "API_KEY": "key-of-a", "KEY_C": "lo$ck-of-$$c"}
    covered = secrets_of(loaded(project, *steps), values)
    assert covered.text("hook-of-a word-of-a key-of-a pa$word$$of-b lo$ck-of-$$c") == "*** *** *** *** ***"


def test_a_delay_beyond_the_budget_is_a_note(project: Path) -> None:
    """What an unattended run waits for, and what it adds."""
    (advice,) = loaded(project, {"id": "a", "manual": "x", "delay": "15m"}).advice
    assert (advice.level, advice.rule) == ("note", "step.delay-beyond-budget")
    assert "an unattended run waits for 60s, and adds 840s" in advice.message


def test_steps_without_a_fault_are_a_planned_change(project: Path, tmp_path: Path) -> None:
    """They are what is tested, so no RTO is promised; what must hold in the end, and the prober's patience, are read back."""
    changes = {"failback": {"conditions": ["east-serves"]}, "probe": {"rate": 10, "timeout": "10s"}}
    found = load_experiment(write_experiment(project / "experiments", timeline=[{"id": "a", "run": ["true"]}], **changes))
    stored = tmp_path / "experiment.yaml"
    stored.write_text(dump_resolved(found))
    experiment = load_resolved(stored)[0]
    assert experiment == found.experiment
    assert (experiment.is_planned_change, loaded(project).experiment.is_planned_change) == (True, False)
    assert (experiment.conditions_in_the_end, experiment.probe.timeout) == (["east-serves"], 10.0)
    objectives = objectives_for(experiment, found.compose.spec)["app"]
    assert "rto" in promised_names(objectives, planned_change=False)
    assert "rto" not in promised_names(objectives, planned_change=True)


def test_what_must_hold_in_the_end_can_be_expected_not_to(project: Path) -> None:
    """The conditions of failback, where it names some. Known bad: those of the steady state, which are not judged then."""

    def write(**changes: Any) -> Path:
        return write_experiment(project / "experiments", timeline=[FIRE], **changes)

    expect = {"expect": {"verdict": "fail", "objectives": ["failback.east-serves"]}}
    load_experiment(write(steady_state={"conditions": ["east-serves"]}, **expect))
    load_experiment(write(steady_state={"conditions": []}, failback={"conditions": ["east-serves"]}, **expect))
    with pytest.raises(SpecErrors, match=r"unknown objective 'failback\.east-serves'"):
        load_experiment(write(steady_state={"conditions": ["east-serves"]}, failback={"conditions": []}, **expect))


def test_a_restore_names_services_that_keep_a_ledger(project: Path) -> None:
    """Its objective can be expected to fail; known bads: a service without a ledger, and an expectation without a restore."""
    restore = {"id": "mend", "run": ["true"], "restores": ["app"]}
    expect = {"verdict": "fail", "objectives": ["restore.mend"]}
    experiment = load_experiment(write_experiment(project / "experiments", timeline=[FIRE, restore], expect=expect)).experiment
    assert experiment.steps[0].restores == ["app"]
    with pytest.raises(SpecErrors, match="no journey of 'store' keeps a ledger"):
        loaded(project, {**restore, "restores": ["store"]})
    plain = {"id": "mend", "run": ["true"]}
    with pytest.raises(SpecErrors, match=r"unknown objective 'restore\.mend'"):
        load_experiment(write_experiment(project / "experiments", timeline=[FIRE, plain], expect=expect))
