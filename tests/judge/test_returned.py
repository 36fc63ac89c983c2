"""judge/README.md, Restored: from the heal of a fault until the service works, whatever other faults are active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clock_readings import Reading, read_by_judge, read_by_naive
from clock_scenes import scene
from judge_runs import FaultScript, Run, experiment, judged, objective
from timelines import Scene

READERS = [pytest.param(read_by_naive, id="naive"), pytest.param(read_by_judge, id="judge")]
Reader = Callable[[Scene], Reading]
BOTH = {"anyang": (0, 20), "pangyo": (0, 80)}


def dark(bad: list[tuple[float, float]], **more: Any) -> Scene:
    """Both sites lose their power; anyang has it again at 20, pangyo at 80."""
    return scene(BOTH, bad, end=100, rate=10, **more)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("limit_s", "verdict"), [(30.0, "pass"), (23.7, "inconclusive"), (20.0, "fail")])
def test_a_site_that_serves_alone_is_restored_while_the_other_is_dark(read: Reader, limit_s: float, verdict: str) -> None:
    """24 s after the heal of the first, with the second still active. Low counts from the verification, half a second later."""
    assert read(dark([(0, 44)], under={"anyang": {"restored": limit_s}}))[1]["talk.restored"] == verdict


@pytest.mark.parametrize("read", READERS)
def test_who_comes_back_with_the_next_heal_alone_was_not_restored(read: Reader) -> None:
    """60 s without, and 2 s after the other site had power: a fail; and with more time, nobody knows what brought it back."""
    assert read(dark([(0, 82)], under={"anyang": {"restored": 50.0}}))[1]["talk.restored"] == "fail"
    assert read(dark([(0, 82)], under={"anyang": {"restored": 70.0}}))[1]["talk.restored"] == "inconclusive"


@pytest.mark.parametrize("read", READERS)
def test_replicas_that_never_get_healthy_are_a_fail_and_no_doubt(read: Reader) -> None:
    """The heal is not verified. That the power was back and the links open is; without even that, nothing is known."""
    never = {"healed": {"anyang": None}, "under": {"anyang": {"restored": 30.0}}}
    assert read(dark([(0, 79)], connected={"anyang": 23.0}, **never))[1]["talk.restored"] == "fail"
    assert read(dark([(0, 79)], **never))[1]["talk.restored"] == "inconclusive"


@pytest.mark.parametrize("read", READERS)
def test_nothing_bad_after_the_heal_is_restored_at_once(read: Reader) -> None:
    """It failed over before; where the heal itself was not seen, that shows nothing."""
    assert read(scene({"fire": (0, 50)}, [(0, 10)], rate=10, restored=1.0))[1]["talk.restored"] == "pass"
    unseen = scene({"fire": (0, 50)}, [(0, 10)], rate=10, restored=1.0, healed={"fire": None})
    assert read(unseen)[1]["talk.restored"] == "inconclusive"


@pytest.mark.parametrize("read", READERS)
def test_the_clock_of_a_heal_changes_no_other(read: Reader) -> None:
    """The clock of the loss runs over the first heal as it does without the objective."""
    with_it, without = (read(dark([(0, 44)], rto=60.0, **more))[0] for more in ({"restored": 30.0}, {}))
    assert with_it == without
    assert [(clock["event"], clock["end"]) for clock in without] == [("inject", "recovered")]


def test_each_heal_is_judged_and_named() -> None:
    """The service's own objective holds after each of them; the reason names the one that missed it."""
    faults = [FaultScript("anyang", heal=8.0, healed=8.5), FaultScript("pangyo", inject=0.001, heal=20.0, healed=20.5)]
    wanted = experiment({"restored": "< 4s"}, timeline=_timeline())
    found = objective(
        judged(Run(bad={"talk.send": [(0.1, 10.0), (20.6, 26.0)]}, faults=faults, end_s=40.0), wanted), "talk.restored"
    )
    assert (found.verdict, found.objective) == ("fail", "4.0 s")
    assert "talk.send: still bad" in found.why
    assert "after the heal of pangyo" in found.why
    assert "anyang" not in found.why


def test_a_run_that_ended_before_the_heal_shows_nothing() -> None:
    """Only what was healed is judged."""
    wanted = experiment({"under": {"pangyo": {"restored": "< 4s"}}}, timeline=_timeline())
    faults = [FaultScript("anyang", heal=8.0, healed=8.5)]
    found = objective(judged(Run(bad={"talk.send": [(0.1, 10.0)]}, faults=faults), wanted), "talk.restored")
    assert (found.verdict, found.measured, found.objective) == ("inconclusive", "not measured", "pangyo: 4.0 s")


def test_the_services_are_listed_in_the_order_of_their_return() -> None:
    """As its worst journey, after each heal with such an objective; one that does not come back is last."""
    wanted = experiment({"under": {"anyang": {"restored": "< 4s"}}}, timeline=_timeline())
    faults = [FaultScript("anyang", heal=8.0, healed=8.5), FaultScript("pangyo", inject=0.001, heal=20.0, healed=20.5)]
    bad = {"talk.send": [(0.1, 11.0)], "talk.read": [(0.1, 9.0)]}
    (found,) = judged(Run(bad=bad, faults=faults), wanted).restored
    assert (found.fault, found.service, found.objective, found.verdict) == ("anyang", "talk", 4.0, "pass")
    assert found.high == pytest.approx(3.0, abs=0.1)
    assert found.back_s is not None
    assert found.back_s - found.from_s == pytest.approx(3.0, abs=0.1)


def _timeline() -> list[dict[str, Any]]:
    ways = {"at": "0s", "fault": "site.power-loss"}
    return [
        {"id": "anyang", "site": "anyang", "heal_after": "8s", **ways},
        {"id": "pangyo", "site": "pangyo", "heal_after": "20s", **ways},
    ]
