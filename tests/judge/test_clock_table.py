"""judge/README.md, Examples, and verdicts that were once wrong: read by the naive model and by the judge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clock_readings import Reading, read_by_judge, read_by_naive
from clock_scenes import scene
from timelines import Scene

READERS = [pytest.param(read_by_naive, id="naive"), pytest.param(read_by_judge, id="judge")]
Reader = Callable[[Scene], Reading]


FIRE = {"fire": (0, 50)}
FIRE_AND_SLOW = {"fire": (0, 50), "slow": (5, 15)}
ALLOWED = {"slow": {"unaffected": "allowed"}}
TABLE = [
    pytest.param(scene(FIRE, [(0, 24)], rto=45.0), "pass", 24, id="in time"),
    pytest.param(scene(FIRE_AND_SLOW, [(0, 24)], rto=45.0), "pass", 24, id="masked"),
    pytest.param(scene({"fire": (0, 20), "slow": (10, 60)}, [(0, 25)], rto=15.0), "fail", 20, id="power came back: too late"),
    pytest.param(scene({"fire": (0, 20), "slow": (10, 60)}, [(0, 25)], rto=45.0), "inconclusive", 20, id="power came back"),
    pytest.param(scene(FIRE_AND_SLOW, [(0, 2), (15, 48)], rto=40.0), "inconclusive", 33, id="not noticed, not declared"),
    pytest.param(scene(FIRE_AND_SLOW, [(0, 2), (15, 48)], rto=40.0, under=ALLOWED), "pass", 33, id="not noticed, declared"),
    pytest.param(scene(FIRE_AND_SLOW, [(0, 2), (15, 48)], rto=30.0, under=ALLOWED), "fail", 33, id="from a heal, too late"),
    pytest.param(scene(FIRE, [(0, 10), (30, 40)], rto=20.0), "fail", 40, id="relapse"),
    pytest.param(
        scene({"slow": (0, 20), "fire": (10, 60)}, [(10, 34)], rto=45.0, under=ALLOWED),
        "pass",
        24,
        id="second noticed, declared",
    ),
    pytest.param(scene({"slow": (0, 20), "fire": (10, 60)}, [(10, 34)], rto=45.0), "inconclusive", 24, id="second noticed"),
    # Verdicts that were wrong before.
    pytest.param(scene(FIRE_AND_SLOW, [(0, 1), (16, 48)], rto=10.0), "fail", 33, id="was a pass in 1 s"),
    pytest.param(
        scene({"fire": (0, 20), "again": (30, 50)}, [(0, 5)], rto=45.0),
        "inconclusive",
        5,
        id="was a pass: two fires, one noticed",
    ),
    pytest.param(scene(FIRE, [(0, 9)], rto=10.0, cut=3.0), "inconclusive", 3, id="cut with time left"),
    pytest.param(scene(FIRE, [(0, 9)], rto=2.0, cut=3.0), "fail", 3, id="cut after its time"),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("scene_", "verdict", "longest_s"), TABLE)
def test_the_table(read: Reader, scene_: Scene, verdict: str, longest_s: float) -> None:
    """The verdict of talk.rto, and the longest clock that is held against the RTO."""
    clocks, objectives = read(scene_)
    assert objectives["talk.rto"] == verdict
    longest = max(clock["low"] if clock["high"] is None else clock["high"] for clock in clocks if clock["kind"] == "rto")
    assert longest == pytest.approx(longest_s, abs=0.1)


@pytest.mark.parametrize("read", READERS)
def test_a_masked_fault_is_named_by_the_clock_that_hid_it(read: Reader) -> None:
    """The slow link came while the fire's clock ran."""
    (clock,) = read(scene(FIRE_AND_SLOW, [(0, 24)], rto=45.0))[0]
    assert (clock["cause"], clock["event"], clock["end"], clock["masked"]) == ("fire", "inject", "recovered", ["slow"])


@pytest.mark.parametrize("read", READERS)
def test_a_heal_starts_the_next_clock(read: Reader) -> None:
    """The slow link is still active, so it is held against the RTO; the failback of the last heal is met with no bad slot."""
    clocks, objectives = read(scene({"fire": (0, 20), "slow": (10, 60)}, [(0, 25)], rto=45.0, failback=3.0))
    assert [(one["event"], one["kind"], one["end"]) for one in clocks] == [
        ("inject", "rto", "heal"),
        ("heal", "rto", "recovered"),
    ]
    assert objectives["talk.failback"] == "pass"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("until", "failback", "verdict"), [(50, 4.0, "pass"), (53, 4.0, "pass"), (55, 4.0, "fail"), (53, 2.9, "inconclusive")]
)
def test_failback_counts_from_the_heal_that_leaves_nothing_active(
    read: Reader, until: float, failback: float, verdict: str
) -> None:
    """Low from its verification, high from its call."""
    bad = [(0.0, 10.0)] + ([(50.0, until)] if until > 50 else [])
    assert read(scene(FIRE, bad, rto=45.0, failback=failback))[1]["talk.failback"] == verdict


@pytest.mark.parametrize("read", READERS)
def test_an_inject_ends_a_failback_clock(read: Reader) -> None:
    """There was no steady state to disturb."""
    clocks, objectives = read(scene({"fire": (0, 20), "again": (24, 60)}, [(0, 10), (20, 30)], rto=30.0, failback=8.0))
    failback = next(one for one in clocks if one["kind"] == "failback")
    assert (failback["end"], failback["high"], objectives["talk.failback"]) == ("inject", None, "inconclusive")
    assert any(one["cause"] == "again" and one["kind"] == "rto" for one in clocks)
