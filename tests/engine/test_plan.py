"""What `--dry-run` tells: everything that a fault would do, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaoslab.run.dry_run import describe, describe_as_data
from chaoslab.spec.load import load_experiment

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("gray-link", {"timeline.1.latency": "90ms"}, "direction from-to; latency 0.09s; jitter 0.02s\n"),
        ("idc-fire", {"timeline.0.disks": "destroy"}, "partner-pangyo]; disks destroy"),
        ("idc-fire", {}, "partner-pangyo]\n"),
    ],
)
def test_a_fault_is_told_with_all_that_is_particular_to_it(name: str, overrides: dict[str, str], said: str) -> None:
    """As it is written in a spec; what was left as it is by itself is not told."""
    loaded = load_experiment(EXPERIMENTS / f"{name}.yaml", overrides)
    assert said in describe(loaded, "embedded", "asked for")


def test_machines_are_told_the_same() -> None:
    """Times in order, targets resolved, thresholds as they read."""
    plan = describe_as_data(load_experiment(EXPERIMENTS / "gray-link.yaml", {}), "embedded", "asked for")
    assert json.loads(json.dumps(plan)) == plan
    assert [(step["at_s"], step["verb"], step["id"], step["with"].get("latency")) for step in plan["timeline"]] == [
        (0.0, "inject", "lossy", None),
        (1.0, "inject", "slow", "0.18s"),
        (28.0, "begin", "no-failover", None),
        (34.0, "heal", "lossy", None),
        (34.0, "heal", "slow", "0.18s"),
    ]
    assert plan["objectives"]["partner"]["availability"] == "> 99%"


def test_machines_are_told_what_a_strangers_stack_would_start() -> None:
    """Known bad: the commands of somebody else's stack, and why they need permission, were for people alone."""
    loaded = load_experiment(EXPERIMENTS / "gray-link.yaml", {})
    plan = describe_as_data(loaded, "embedded", "asked for", "it has commands of its own", unfamiliar=True)
    assert plan["warning"] == "it has commands of its own"
    assert plan["starts"].keys() == {replica.name for replica in loaded.compose.replicas}
    assert describe_as_data(loaded, "embedded", "asked for")["starts"] == {}


@pytest.mark.parametrize(("heal_after", "told"), [("20s", True), ("70s", False)])
def test_a_heal_before_the_longest_rto_is_over_is_told(heal_after: str, told: bool) -> None:
    """Whoever is back only because of it has failed, whatever the RTO says."""
    loaded = load_experiment(EXPERIMENTS / "idc-fire.yaml", {"timeline.0.heal_after": heal_after})
    assert ("is healed after" in describe(loaded, "embedded", "asked for")) is told


def test_the_rate_of_the_probe_is_told_with_its_reason() -> None:
    """To people and to machines; known bad: it had to be looked up in the code."""
    loaded = load_experiment(EXPERIMENTS / "short-fire.yaml", {"objectives.talk.rto": "7s"})
    said = "partner.page; each 29 times a second: 0.5% of the tightest objective, 7.0 s, is 35 ms\n"
    assert said in describe(loaded, "embedded", "asked for")
    probe = describe_as_data(loaded, "embedded", "asked for")["probe"]
    assert (probe["rate"], probe["why"]) == (29, "0.5% of the tightest objective, 7.0 s, is 35 ms")
    assert "auth.login" in probe["journeys"]


def test_a_heal_at_recovery_is_told_with_its_latest_time() -> None:
    """To people and to machines."""
    loaded = load_experiment(EXPERIMENTS / "idc-fire.yaml", {})
    said = describe(loaded, "embedded", "asked for")
    assert "72.0 s heal at recovery, at the latest at 72 s: fire: site.power-loss pangyo" in said
    assert "72.0 s failback at the latest" in said
    plan = describe_as_data(loaded, "embedded", "asked for")
    assert [(step["verb"], step["at_s"], step.get("at_recovery")) for step in plan["timeline"]] == [
        ("inject", 0.0, None),
        ("heal", 72.0, True),
    ]


def test_degraded_modes_are_told() -> None:
    """Of each service its own, whatever else its tier declares; what is required anyway is told to machines alone."""
    loaded = load_experiment(EXPERIMENTS / "degraded-modes.yaml", {})
    [talk] = [line for line in describe(loaded, "embedded", "asked for").splitlines() if "objective talk" in line]
    assert talk.endswith("under restart: unaffected; talk.send may fail while a fault is active")
    objectives = describe_as_data(loaded, "embedded", "asked for")["objectives"]
    assert objectives["pay"]["degraded"] == {"pay.transfer": "queued", "pay.balance": "allowed"}
    assert objectives["talk"]["degraded"] == {"talk.send": "allowed", "talk.read": "required"}
    assert "degraded" not in objectives["partner"]
