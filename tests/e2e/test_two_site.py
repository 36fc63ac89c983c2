"""The main job on the real stack: a fire that a good stack survives, and known-bad stacks that it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mini_stack import Ran, finish, start_chaoslab

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TRIES = 3

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(700)]


def told(cwd: Path, name: str) -> Ran:
    """Run until it can be told: inconclusive is no verdict on the stack, and to ask again is its cure."""
    for _ in range(TRIES):
        child = start_chaoslab(cwd, "run", str(EXPERIMENTS / f"{name}.yaml"), "--runtime", "embedded")
        ran = finish(child, cwd, name, timeout_s=220)
        if ran.code != 3:
            break
    return ran


def test_a_good_stack_survives_the_fire(tmp_path: Path) -> None:
    """Every service is back within its RTO, nothing acknowledged is lost, failback is clean: exit 0."""
    ran = told(tmp_path, "idc-fire")
    assert (ran.code, ran.result["verdict"], ran.result["runtime"]) == (0, "pass", "embedded"), ran.out[-6000:]
    assert ran.result["faults"][0]["verified"] is True
    assert all(ledger["lost"] == 0 and ledger["acked"] > 1000 for ledger in ran.result["ledger"].values())
    assert 1 < ran.result["services"]["pay"]["rto_s"]["low"] < 45, "a failover takes time; none at all was not measured"


def test_a_controller_that_burns_with_the_site_misses_the_rto(tmp_path: Path) -> None:
    """Known bad: all etcd members stand in the fire, so nobody can promote."""
    ran = told(tmp_path, "controller-in-fire")
    assert (ran.code, ran.objective("pay.rto")["verdict"]) == (1, "fail"), ran.out[-6000:]


def test_writes_that_were_only_promised_are_lost_and_counted(tmp_path: Path) -> None:
    """Known bad: pay acknowledges before it persists; the ledger shows what burnt."""
    ran = told(tmp_path, "ack-before-persist")
    assert (ran.code, ran.objective("pay.rpo")["verdict"]) == (1, "fail"), ran.out[-6000:]
    assert ran.result["ledger"]["pay"]["lost"] > 0
    assert ran.result["ledger"]["talk"]["lost"] == 0


def test_every_experiment_of_the_project_is_in_order(tmp_path: Path) -> None:
    """`chaoslab check` has nothing to say about experiments/."""
    child = start_chaoslab(EXPERIMENTS.parent, "check", "--json")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, json.loads(out)["problems"]) == (0, []), err
