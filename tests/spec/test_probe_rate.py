"""How often the prober asks: what the objectives need, no more; a number that is asked for counts as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from golden_files import FIXTURES

from chaoslab.judge.intervals import STABLE_SLOTS
from chaoslab.judge.losses import BEFORE_FAULT_S
from chaoslab.spec.load import Loaded, dump_resolved, load_experiment, load_resolved
from chaoslab.spec.model import ProbeSpec
from chaoslab.spec.probe_rate import LEDGER_MIN, PERIOD_MAX_S, RECOVERY_SLOTS, RESOLUTION, probe_rate
from chaoslab.spec.yaml.problems import SpecErrors

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FIRE = FIXTURES / "fire.yaml"
NOT_SAID = {"probe.rate": "null"}


def loaded(**changes: str) -> Loaded:
    """The fixture without a rate; `web__rto` sets objectives.web.rto."""
    return load_experiment(FIRE, NOT_SAID | {f"objectives.{key.replace('__', '.')}": value for key, value in changes.items()})


def rate(of: Loaded) -> float:
    return of.experiment.probe.slots_per_s


@pytest.mark.parametrize(
    ("rto", "per_s", "why"),
    [
        ("30s", 10, "slots are at most 100 ms apart; 0.5% of the tightest objective, 30.0 s, is 150 ms"),
        ("7s", 29, "0.5% of the tightest objective, 7.0 s, is 35 ms"),
        ("4s", 50, "0.5% of the tightest objective, 4.0 s, is 20 ms"),
        ("2s", 50, "the maximum without probe.rate; 0.5% of the tightest objective, 2.0 s, is 10 ms"),
        ("0", 50, "the maximum without probe.rate; 0.5% of the tightest objective, 0.0 s, is 0.0 s"),
    ],
)
def test_the_tightest_objective_decides_between_a_floor_and_a_ceiling(rto: str, per_s: float, why: str) -> None:
    """A period of at most 0.5 % of it and at most 100 ms; whole numbers, so that they can be read."""
    found = loaded(web__rto=rto)
    assert rate(found) == per_s
    assert probe_rate(found.experiment, found.compose.spec).why == why


def test_failback_is_a_time_objective_too() -> None:
    """Known bad: only the RTO was looked at."""
    assert rate(loaded(web__failback="6s")) == 34


def test_what_holds_under_a_single_fault_is_an_objective_too() -> None:
    """Known bad: the tightest limit of a run stood under a fault, and the slots were too far apart to tell it."""
    assert rate(loaded(web__under="{slow: {rto: 7s}}")) == 29


def test_what_is_not_probed_does_not_decide() -> None:
    """A service whose journeys are left out is not judged."""
    tight = {"objectives.db.rto": "5s", "probe.rate": "null"}
    assert rate(load_experiment(FIRE, tight | {"probe.journeys": "null"})) == 40
    assert rate(load_experiment(FIRE, tight | {"probe.journeys": "[web.look]"})) == 10


def test_a_recovery_fits_twice_into_the_time_for_which_failback_is_watched() -> None:
    """Known bad: at 10 a second a stable run takes 2.5 s, and a failback that holds for one second could never be told."""
    found = load_experiment(FIRE, NOT_SAID | {"failback.hold": "2s"})
    assert rate(found) == 25
    assert "25 good slots make a recovery, and twice as many must fit into the 2.0 s of failback" in str(
        probe_rate(found.experiment, found.compose.spec)
    )
    assert RECOVERY_SLOTS == STABLE_SLOTS


@pytest.mark.parametrize("asked", ["10", "50", "1000", "12.5"])
def test_what_is_asked_for_counts(asked: str) -> None:
    """Up to 1000 a second, and the plan and the report say that it was asked for, and what would have done."""
    found = load_experiment(FIRE, {"probe.rate": asked, "objectives.web.rto": "7s"})
    assert rate(found) == float(asked)
    assert probe_rate(found.experiment, found.compose.spec).why == "set by probe.rate; the objectives need 29"


def test_the_stored_experiment_has_the_number_in_use(tmp_path: Path) -> None:
    """A run is judged again at the rate at which it was measured, whatever the defaults are by then."""
    found = loaded(web__rto="7s")
    file = tmp_path / "experiment.yaml"
    file.write_text(dump_resolved(found))
    experiment, stack = load_resolved(file)
    assert experiment.probe.rate == 29
    assert experiment == found.experiment
    assert str(probe_rate(experiment, stack)).startswith("29 times a second: 0.5% of the tightest objective")


def test_a_rate_that_nobody_resolved_is_told() -> None:
    """Instead of being taken for some number."""
    with pytest.raises(ValueError, match="not resolved"):
        _ = ProbeSpec().slots_per_s


@pytest.mark.parametrize(
    ("probe", "refused"),
    [
        ("{rate: 9}", "rate 9 is too low for the ledger of web.order"),
        ("{rate: 10}", None),
        ("{rate: 1, journeys: [web.look]}", None),
    ],
)
def test_a_ledger_is_written_to_often_enough(probe: str, refused: str | None) -> None:
    """What was acknowledged in the last 2 s before a fault is what it may lose: 20 writes, and not one by luck."""
    if refused is None:
        load_experiment(FIRE, {"probe": probe})
        return
    with pytest.raises(SpecErrors, match=refused):
        load_experiment(FIRE, {"probe": probe})


def test_no_default_starves_a_ledger() -> None:
    """The longest period that is ever derived still makes the writes that a ledger needs."""
    assert 1 / PERIOD_MAX_S >= LEDGER_MIN
    assert LEDGER_MIN * BEFORE_FAULT_S >= 20


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_resolves_its_objectives_and_leaves_the_machine_to_the_stack(file: Path) -> None:
    """From 10 to 50 slots a second, and none wider than 0.5 % of any time objective, but where a file says its rate."""
    found = load_experiment(file)
    limits: list[Any] = [
        limit for owed in found.experiment.objectives.values() for limit in (owed.rto, owed.failback) if limit is not None
    ]
    assert 10 <= rate(found) <= 50
    if "rate" not in file.read_text().partition("probe:")[2].partition("\n")[0]:
        assert all(1 / rate(found) <= max(RESOLUTION * limit.value, 1 / 50) + 1e-9 for limit in limits)
