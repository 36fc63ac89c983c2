"""The second reference stack: a fire that costs some orders, and a client that believes the first Sentinel."""

from __future__ import annotations

from pathlib import Path

import pytest
from mini_stack import finish, start_chaoslab

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TRIES = 3
RUNTIMES = ["embedded", pytest.param("compose", marks=pytest.mark.docker)]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_fire_costs_less_than_a_second_of_orders(tmp_path: Path, runtime: str, request: pytest.FixtureRequest) -> None:
    """Replication is asynchronous: writes are lost, the ledger dates them, and they are within the RPO."""
    if runtime == "compose":
        request.getfixturevalue("engine")
    for _ in range(TRIES):
        own = ["--allow-exec"]  # the classes of its journeys, which lie outside of the folder that it is run in
        child = start_chaoslab(tmp_path, "run", str(EXPERIMENTS / "queue-fire.yaml"), "--runtime", runtime, *own)
        ran = finish(child, tmp_path, "queue-fire", timeout_s=160)
        if ran.code != 3:
            break
    assert (ran.code, ran.result["verdict"], ran.result["runtime"]) == (0, "pass", runtime), ran.out[-6000:]
    assert ran.result["ledger"]["valkey"]["lost"] > 0, "an RPO that was never used shows nothing"
    assert 0 < ran.result["ledger"]["valkey"]["rpo_s"] < 1
    assert 4 < ran.result["services"]["shop"]["rto_s"]["low"] < 20, "no Sentinel may call the primary down before 5 s"


@pytest.mark.docker
@pytest.mark.usefixtures("engine")
def test_a_quorum_queue_keeps_what_it_confirmed(tmp_path: Path) -> None:
    """RabbitMQ beside the shop, asked by a class with a client from PyPI."""
    for _ in range(TRIES):
        own = ["--allow-exec"]
        child = start_chaoslab(tmp_path, "run", str(EXPERIMENTS / "rabbit-fire.yaml"), "--runtime", "compose", *own)
        ran = finish(child, tmp_path, "rabbit-fire", timeout_s=240)
        if ran.code != 3:
            break
    assert (ran.code, ran.result["verdict"]) == (0, "pass"), ran.out[-6000:]
    assert ran.result["ledger"]["rabbit"]["acked"] > 100
    assert ran.result["ledger"]["rabbit"]["lost"] == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_who_believes_the_first_sentinel_loses_orders(runtime: str, request: pytest.FixtureRequest) -> None:
    """Known bad: what the old primary takes after the fire is acknowledged, and gone once it becomes a replica."""
    if runtime == "compose":
        request.getfixturevalue("engine")
    only = ["--only", str(EXPERIMENTS / "trusting-sentinel.yaml")]
    child = start_chaoslab(EXPERIMENTS.parent, "selftest", *only, "--runtime", runtime)
    out, err = child.communicate(timeout=480)
    assert child.returncode == 0, out + err[-6000:]
