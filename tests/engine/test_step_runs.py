"""Whole runs of the mini stack with steps: what a runbook recovers is judged, and so is the runbook."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psutil
from mini_stack import Ran, assert_nothing_left, run_until_told, speaks_of, start_chaoslab, write_experiment

from chaoslab.cleanup.journal import open_steps, undo_journal
from chaoslab.clock import Deadline, wait_until

FIRE = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "6s"}


def ran_with(folder: Path, *steps: dict[str, Any]) -> Ran:
    """The entry asks the east alone until a file is there; nothing but a step creates it, and its undo removes it."""
    switch = folder / "switched"
    where = {"EASTWARD": "${EAST:-app-east:8000}", "WESTWARD": "${WEST:-app-west:8000}", "SWITCH": str(switch)}
    overlay = {"services": {"entry": {"command": ["python", "switched_entry.py"], "environment": where}}}
    experiment = write_experiment(folder, overlay=overlay, timeline=[FIRE, *steps])
    (folder / "Makefile").touch()  # a project of its own
    return run_until_told(folder, str(experiment))


def switch(*words: str, **more: Any) -> dict[str, Any]:
    return {"id": "switch", "at": "1s", "run": [*words], "undo": ["rm", "-f", "switched"], "budget": "5s", **more}


def test_a_step_recovers_what_no_replica_recovers(tmp_path: Path) -> None:
    """In the project's folder; the time until then counts in the RTO, and the report and the result show the step."""
    approve = {"id": "approve", "at": "1s", "manual": "The lead approves", "owner": "sre", "delay": "1s"}
    west = {"get": "http://app-west:8000/where", "expect": "site == 'west'"}
    ran = ran_with(tmp_path, approve, switch("touch", "switched", at=0, after="approve", verify=west, within="< 4s"))
    assert (ran.code, ran.result["verdict"]) == (0, "pass"), ran.out
    first, second = [step for step in ran.result["steps"] if step["kind"] != "switchback"]
    assert (first["status"], second["status"]) == ("done", "done")
    assert 1.0 <= first["duration_s"] < 2.0
    assert second["begun_s"] >= first["ended_s"]
    assert ran.objective("step.switch")["verdict"] == "pass"
    assert ran.result["services"]["app"]["rto_s"]["low"] >= 1.5
    assert "manual approve: started: sre: The lead approves" in ran.out
    assert 'id="steps"' in (ran.folder / "report.html").read_text()
    assert 'name="step.switch"' in (ran.folder / "junit.xml").read_text()
    assert not (tmp_path / "switched").exists()


def test_a_step_that_fails_is_a_fail_of_its_own(tmp_path: Path) -> None:
    """Known bad: the runbook's command ends with status 3; the run fails for the step, and for what it had to recover."""
    ran = ran_with(tmp_path, switch("python3", "-c", "print('no such site'); raise SystemExit(3)"))
    assert (ran.code, ran.result["verdict"]) == (1, "fail"), ran.out
    assert ran.objective("step.switch")["why"] == "python3: exit status 3"
    (step,) = [step for step in ran.result["steps"] if step["kind"] == "run"]
    assert (step["status"], step["output"]) == ("failed", "no such site")
    assert ran.objective("app.rto")["verdict"] == "fail"


def test_a_killed_harness_leaves_the_undo_to_the_reaper(tmp_path: Path) -> None:
    """kill -9 while a step is under way: its command ends, and its undo runs, in the project's folder."""
    (tmp_path / "Makefile").touch()
    hang = [sys.executable, "-c", "import time; open('begun', 'w').close(); time.sleep(300)"]
    call = {"id": "call", "manual": "Call the lead", "owner": "sre", "delay": "1s"}
    step = {"id": "hang", "after": "call", "run": hang, "undo": ["touch", "undone"]}
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, timeline=[FIRE, call, step])))
    try:
        wait_until("the step", lambda: ((tmp_path / "begun").exists(), child.poll()), Deadline.after(60.0))
    finally:
        child.kill()
        child.communicate(timeout=30)
    wait_until("the undo", lambda: ((tmp_path / "undone").exists(), None), Deadline.after(60.0))
    folder = (tmp_path / "runs" / "mini" / "latest").resolve()
    wait_until("the reaper", lambda: (open_steps(undo_journal(folder)) == [], None), Deadline.after(60.0))
    assert_nothing_left(folder)
    assert [found for found in psutil.process_iter() if speaks_of(found, "open('begun', 'w')")] == []
    told = start_chaoslab(tmp_path, "analyze", "mini", "--json").communicate(timeout=30)[0]
    steps = {step["id"]: step["status"] for step in json.loads(told)["steps"]}
    assert (steps["call"], steps["hang"]) == ("done", "cut"), "the record shows the steps that were done"
    refused = start_chaoslab(tmp_path, "confirm", "mini", "call").communicate(timeout=30)[1]
    assert "the run is unattended" in refused
