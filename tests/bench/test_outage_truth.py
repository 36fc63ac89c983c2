"""The outage bench: a wrong interval, a wrong slot and a machine that stood still are each seen as what they are."""

from __future__ import annotations

from typing import Any

import outage_peers
import pytest
from bench_outages import (
    PERIOD_NS,
    SHAPES,
    WITHIN_S,
    Found,
    Row,
    Shape,
    disturbed,
    judge_lane,
    lanes_of,
    simulated,
    summary,
    table,
    wrong_slots,
)
from outage_peers import Poll, Told, polled_s

from chaoslab.clock import NS_PER_S
from chaoslab.judge.slots import Slot, Slots

FULL, SHARE = SHAPES[0], next(shape for shape in SHAPES if shape.share)
ANSWER_NS = NS_PER_S // 1000
WITHIN_NS = round(WITHIN_S * NS_PER_S)


def found(shape: Shape = FULL, **changes: Any) -> Found:
    fields = {"shape": shape.name, "truth_s": 1.0, "low_s": 0.99, "high_s": 1.011, "answer_s": 0.001, "slots": 50}
    return Found(**fields | changes)


def seconds(*bad: tuple[float, float], until_s: float = 6.0, sent_late_ns: int = 0) -> Slots:
    """A line of slots; those due in `bad` had no answer."""
    slots = Slots(period_ns=PERIOD_NS, within_ns=WITHIN_NS)
    for due_ns in range(0, round(until_s * NS_PER_S), PERIOD_NS):
        good = not any(begin <= due_ns / NS_PER_S < end for begin, end in bad)
        slots.add(*Slot(due_ns, due_ns + sent_late_ns, due_ns + (ANSWER_NS if good else NS_PER_S), good))
    return slots


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({}, True),
        ({"low_s": 1.005}, False),  # the truth is below
        ({"high_s": 0.995}, False),  # the truth is above
        ({"high_s": 1.03}, False),  # it is held, and more than a slot away
        ({"low_s": 0.97}, False),
        ({"low_s": 0.97, "high_s": 1.2, "answer_s": 0.199}, False),  # a slow answer excuses the upper end alone
        ({"high_s": 1.2, "answer_s": 0.199}, True),
        ({"low_s": None}, False),  # nobody noticed
    ],
)
def test_an_interval_that_is_wrong_or_wide_misses_its_target(changes, met):
    row = Row(FULL, [found(), found(**changes)])
    assert row.met is met
    assert ("Targets missed: none" in summary([row])) is met


def test_a_share_is_held_to_its_widening_and_all_shares_to_ninety_nine_in_a_hundred():
    fine = found(SHARE, low_s=0.9, high_s=1.021, widening_s=0.1)
    wide = found(SHARE, low_s=0.9, high_s=1.031, widening_s=0.1)
    outside = found(SHARE, low_s=1.1, high_s=1.2, widening_s=0.1)
    assert Row(SHARE, [fine]).met
    assert not Row(SHARE, [fine, wide]).met
    assert "Targets missed: none" in summary([Row(SHARE, [fine] * 99 + [outside])])
    assert "Targets missed: the shares" in summary([Row(SHARE, [fine] * 98 + [outside])])


def test_what_the_machine_disturbed_is_said_and_not_scored():
    row = Row(FULL, [found(), found(low_s=0.5, disturbed="server 30 ms")])
    assert (row.met, len(row.scored)) == (True, 1)
    assert "not scored: 1" in summary([row])
    assert not Row(FULL, [found(disturbed="server 30 ms")]).met  # nothing left is no success


def test_a_server_or_a_prober_that_stood_still_disturbs_only_at_the_edges():
    begin_ns, end_ns = NS_PER_S, 3 * NS_PER_S
    slots = seconds((1.0, 3.0))
    assert disturbed(slots, [(2 * NS_PER_S, NS_PER_S)], begin_ns, end_ns) == ""
    assert disturbed(slots, [(end_ns, 11_000_000)], begin_ns, end_ns) == "server 11 ms"
    assert disturbed(seconds((1.0, 3.0), sent_late_ns=21_000_000), [], begin_ns, end_ns) == "prober 21 ms"


def test_a_slot_is_wrong_when_the_server_saw_it_otherwise():
    slots = seconds((1.0, 2.0), until_s=3.0)
    fates = {number: (slots.due[number], True) for number in range(len(slots)) if slots.good[number]}
    everything = range(len(slots))
    assert wrong_slots(slots, everything, fates) == 0
    assert wrong_slots(slots, everything, fates | {60: (slots.due[60], True)}) == 1  # answered well, judged bad
    assert wrong_slots(slots, everything, fates | {10: (slots.due[10], False)}) == 1  # answered 503, judged good
    assert wrong_slots(slots, everything, fates | {10: (slots.due[10] + 2 * WITHIN_NS, True)}) == 1  # late, judged good


@pytest.mark.parametrize(("kind", "truth_s"), [("silent", 1.5), ("stall", 1.5 - WITHIN_S)])
def test_an_outage_is_judged_by_the_clock_that_began_with_it(kind, truth_s):
    slots = seconds((2.0, 2.0 + truth_s))
    lane = lanes_of([Shape("one", kind, 1.5, 1.5)], rounds=1, seed=1)[0]
    told = {"windows": [(2 * NS_PER_S, round(3.5 * NS_PER_S))], "fates": {}}
    one = next(judge_lane(lane, {"lanes": {lane.name: told}, "lags": []}, slots, None))
    assert one.truth_s == pytest.approx(truth_s)
    assert one.held
    assert one.error_s <= PERIOD_NS / NS_PER_S


def test_shares_by_chance_alone_are_held_as_often_as_promised():
    chances = [one for shape in SHAPES if shape.share and shape.kind != "flap" for one in simulated(shape, 100, seed=1)]
    assert len(chances) == 300
    assert sum(one.held for one in chances) >= 0.98 * len(chances)
    assert any(one.widening_s > 0 for one in chances)


def test_what_peers_say_is_read_as_time():
    polls = [Poll(at_s * NS_PER_S, good=at_s not in (3, 4)) for at_s in range(8)]
    assert polled_s(polls, 2 * NS_PER_S, 8 * NS_PER_S) == 2.0
    assert polled_s(polls, 5 * NS_PER_S, 8 * NS_PER_S) == 0.0
    lane = lanes_of([FULL], rounds=2, seed=1)[0]
    windows = [(NS_PER_S, 2 * NS_PER_S), (4 * NS_PER_S, 5 * NS_PER_S)]
    truths = {"lanes": {lane.name: {"windows": windows, "fates": {}}}, "lags": []}
    told = Told({"blackbox": {lane.name: polls}}, {"Locust": {lane.name: 0.25}}, for_s=8.0)
    first, second = judge_lane(lane, truths, seconds((1.0, 2.0), (4.0, 5.0)), told)
    assert (first.told, second.told) == ({"blackbox": 1.0, "Locust": 1.0}, {"blackbox": 2.0, "Locust": 1.0})
    row = table([Row(FULL, [first, second])], ["blackbox", "Locust"]).splitlines()[-1]
    assert row.endswith("| 1.50, off by up to 1.00; saw 2 of 2 | 1.00 |")


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(outage_peers, "CACHE", tmp_path)
    monkeypatch.setattr(outage_peers, "K6", tmp_path / "k6")
    monkeypatch.setattr(outage_peers, "CHAOS", tmp_path / "there")
    (tmp_path / "there").touch()
    monkeypatch.setattr(outage_peers.shutil, "which", lambda _: None)
    assert outage_peers.install() == {"k6": "there is no Go to build it with"}


def test_there_are_a_dozen_shapes_and_each_plays_every_round():
    assert len(SHAPES) >= 12
    lanes = lanes_of(SHAPES, rounds=10, seed=1)
    assert {shape.name: sum(len(lane.windows) for lane in lanes if lane.shape == shape) for shape in SHAPES} == {
        shape.name: 10 for shape in SHAPES
    }
    assert len({lane.name for lane in lanes}) == len(lanes)
