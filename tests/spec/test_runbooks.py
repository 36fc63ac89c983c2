"""Runbooks in files of their own: what becomes of their steps in a timeline, and where a mistake in one is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from mini_stack import write_experiment

from chaoslab.spec.load import Loaded, dump_resolved, load_experiment
from chaoslab.spec.resolved import load_resolved
from chaoslab.spec.runbook_steps import runbooks_of
from chaoslab.spec.schema import json_schema, runbook_schema
from chaoslab.spec.step import ManualStep, RunStep
from chaoslab.spec.yaml.problems import SpecErrors

FIRE: dict[str, Any] = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "6s"}
USE: dict[str, Any] = {"id": "switch", "at": "1s", "after": "fire", "runbook": "runbooks/to-west.yaml"}
RUNBOOK = """# Make west the site that serves.
title: To west
owner: on-call lead
steps:
  - {id: approve, manual: Approve, delay: 2s}
  - {id: promote, run: ["true"], budget: 5s}
  - {id: tell, after: approve, manual: Tell the desk, owner: desk, delay: 1s, at: 2s}
"""


def loaded(folder: Path, *timeline: dict[str, Any], runbook: str = RUNBOOK) -> Loaded:
    (folder / "runbooks").mkdir(exist_ok=True)
    (folder / "runbooks/to-west.yaml").write_text(runbook)
    (folder / "Makefile").touch()  # a project
    return load_experiment(write_experiment(folder, timeline=[*timeline]))


def test_the_steps_take_the_place_of_the_item(tmp_path: Path) -> None:
    """In their order, with the owner of the runbook; what comes after the item comes after the last of them."""
    found = loaded(tmp_path, FIRE, USE, {"id": "close", "after": "switch", "run": ["true"]})
    steps = found.experiment.steps
    assert [(step.id, step.after, step.at) for step in steps] == [
        ("switch.approve", "fire", 1.0),
        ("switch.promote", "switch.approve", 0.0),
        ("switch.tell", "switch.approve", 2.0),
        ("close", "switch.tell", 0.0),
    ]
    assert [step.owner for step in steps if isinstance(step, ManualStep)] == ["on-call lead", "desk"]
    assert steps[1].cwd == tmp_path
    assert str(found.places["switch.promote"]).endswith("runbooks/to-west.yaml:6:5")
    assert runbooks_of(found.file) == {tmp_path / "runbooks/to-west.yaml"}


def test_a_use_gives_values_to_the_steps(tmp_path: Path) -> None:
    """In place of those that the runbook has; known bad: with none, each use needs a copy of the file."""
    book = RUNBOOK.replace("owner: on", "with: {SITE: west, WAIT: 2s}\nfrom: ${SITE}\nowner: on").replace(
        "Approve, delay: 2s", '"To ${SITE}", delay: "${WAIT}"'
    )
    book = book.replace('["true"]', '[sh, -c, "echo ${SITE} ${HOME}"]')
    steps = loaded(tmp_path, FIRE, USE, {**USE, "id": "back", "with": {"SITE": "east"}}, runbook=book).experiment.steps
    manual, run = steps[0], steps[4]
    assert isinstance(manual, ManualStep)
    assert isinstance(run, RunStep)
    assert (manual.manual, manual.delay, manual.from_) == ("To west", 2.0, "west")
    assert (run.id, run.run[2], run.from_) == ("back.promote", "echo east ${HOME}", "east")


def test_a_stored_run_needs_no_runbook(tmp_path: Path) -> None:
    """It is resolved with its steps; one runbook may be used twice, under two ids."""
    found = loaded(tmp_path, FIRE, USE, {**USE, "id": "again", "after": "switch"})
    stored = tmp_path / "experiment.yaml"
    stored.write_text(dump_resolved(found))
    (tmp_path / "runbooks/to-west.yaml").unlink()
    experiment = load_resolved(stored)[0]
    assert experiment == found.experiment
    assert [step.id for step in experiment.steps][3:] == ["again.approve", "again.promote", "again.tell"]
    assert experiment.steps[3].after == "switch.tell"


@pytest.mark.parametrize(
    ("runbook", "message"),
    [
        (RUNBOOK.replace("budget", "budgte"), r"to-west.yaml:6:\d+: unknown key 'budgte' in item 3 of timeline"),
        (RUNBOOK.replace("title", "titel"), r"to-west.yaml:2:1: unknown key 'titel'. Did you mean 'title'"),
        (RUNBOOK.partition("\n")[2], r"to-west.yaml:1:1: no purpose; begin the file with a comment"),
        (RUNBOOK.replace("run: [", "rnu: ["), r"to-west.yaml:6:5: item 3 of timeline is neither a fault nor a step"),
        (RUNBOOK.replace("after: approve", "after: aprove"), r"to-west.yaml:7:\d+: 'aprove' is neither a fault"),
        ("# x\n- a\n", r"to-west.yaml:1:1: a runbook must be a mapping"),
        ("# x\ntitle: x\nsteps: []\n", r"to-west.yaml:3:8: steps must have at least one item"),
        (RUNBOOK.replace("owner: on", "with: {SITE: [west]}\nowner: on"), r"to-west.yaml:3:14: SITE must be text"),
        (RUNBOOK.replace("owner: on", "with: {A-B: west}\nowner: on"), r"to-west.yaml:3:\d+: .*'A-B'"),
        (RUNBOOK.replace("id: promote", "id: [1]"), r"to-west.yaml:6:\d+: id must be text"),
        (RUNBOOK.replace("after: approve", "after: {a: 1}"), r"to-west.yaml:7:\d+: after must be text"),
    ],
)
def test_a_mistake_is_reported_in_the_runbook(tmp_path: Path, runbook: str, message: str) -> None:
    with pytest.raises(SpecErrors, match=message):
        loaded(tmp_path, FIRE, USE, runbook=runbook)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ({**USE, "runbook": "runbooks/nowhere.yaml"}, r"mini.yaml:\d+:\d+: runbook 'runbooks/nowhere.yaml' does not exist"),
        ({**USE, "runbook": "x" * 999}, r"mini.yaml:\d+:\d+: runbook 'x+… does not exist"),
        ({**USE, "runbook": "x\0"}, r"mini.yaml:\d+:\d+: runbook 'x\\x00' does not exist"),
        ({**USE, "budget": "5s"}, r"mini.yaml:\d+:\d+: unknown key 'budget'"),
        ({**USE, "with": {"SIET": "west"}}, r"mini.yaml:\d+:\d+: the runbook takes no value 'SIET'; it declares none"),
        ({**USE, "after": "fier"}, r"mini.yaml:\d+:\d+: 'fier' is neither a fault of this timeline"),
        ({**USE, "id": "fire"}, r"mini.yaml:\d+:\d+: id 'fire' is used twice; item 1 of the timeline has it too"),
        ({**USE, "id": "close"}, r"mini.yaml:\d+:\d+: id 'close' is used twice; item 3 of the timeline has it too"),
    ],
)
def test_a_mistake_in_the_use_is_reported_in_the_experiment(tmp_path: Path, use: dict[str, Any], message: str) -> None:
    """And what comes after the runbook is no echo of it."""
    with pytest.raises(SpecErrors, match=message) as broken:
        loaded(tmp_path, FIRE, use, {"id": "close", "after": "switch", "run": ["true"]})
    assert len(broken.value.problems) == 1


def test_two_uses_have_two_ids(tmp_path: Path) -> None:
    """Known bad: what comes after `switch` would come after either of them."""
    with pytest.raises(SpecErrors, match=r"mini.yaml:\d+:\d+: id 'switch' is used twice; item 2 of") as broken:
        loaded(tmp_path, FIRE, USE, USE)
    assert len(broken.value.problems) == 1


def test_a_runbook_is_no_experiment(tmp_path: Path) -> None:
    """Whoever runs one is told what it is."""
    loaded(tmp_path, FIRE, USE)
    with pytest.raises(SpecErrors, match="this is a runbook, not an experiment"):
        load_experiment(tmp_path / "runbooks/to-west.yaml")


def test_schemas_accept_and_refuse_runbooks(tmp_path: Path) -> None:
    """An item of a timeline, and the file itself."""
    written = yaml.safe_load(write_experiment(tmp_path, timeline=[FIRE, USE]).read_text())
    experiments, runbooks = Draft202012Validator(json_schema()), Draft202012Validator(runbook_schema())
    Draft202012Validator.check_schema(runbook_schema())
    assert list(experiments.iter_errors(written)) == []
    assert list(experiments.iter_errors({**written, "timeline": [FIRE, {**USE, "run": ["true"]}]}))
    book = yaml.safe_load(RUNBOOK)
    assert list(runbooks.iter_errors(book)) == []
    assert list(runbooks.iter_errors({**book, "steps": [{"id": "x", "rnu": ["true"]}]}))
