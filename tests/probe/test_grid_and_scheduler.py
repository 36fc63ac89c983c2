"""The slots: when each is due, and that each is sent and has one result whatever happens. On a FakeClock; nothing sleeps."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from fake_loop import run_on
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoslab.clock import NS_PER_S, FakeClock
from chaoslab.probe.assessment import Assessment
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.grid import Grid, staggered
from chaoslab.probe.scheduler import SlotResult, SlotScheduler

RATE = 50.0
PERIOD_NS = 20_000_000


@given(st.floats(0.1, 1000), st.integers(0, 10**7))
def test_no_rounding_adds_up(rate, slot):
    """Slot i is i/rate from the start to the nanosecond, however far away."""
    exact = slot / rate * NS_PER_S
    assert abs(Grid(7, rate).due_ns(slot) - 7 - exact) <= 1 + exact * 1e-12


@given(st.integers(1, 40), st.floats(1, 1000))
def test_staggered_grids_never_fire_in_phase(count, rate):
    """All slots of all journeys lie a count-th of a period apart."""
    due = sorted(grid.due_ns(slot) for grid in staggered(0, rate, count) for slot in range(3))
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert all(abs(gap - NS_PER_S / rate / count) <= 2 for gap in gaps)


@dataclass
class PlannedSender:
    """Exchanges slot i after `latencies_s[i]`, and never where that is None; a `Sender`."""

    clock: FakeClock
    latencies_s: list[float | None]
    timeout_s: float = 1.0
    fresh: list[bool] = field(default_factory=list)

    async def send(self, slot: int, *, fresh: bool, left_s: float) -> Exchange:
        self.fresh.append(fresh)
        latency_s = self.latencies_s[slot]
        await asyncio.sleep(left_s if latency_s is None else min(latency_s, left_s))
        return Exchange(self.clock.now_ns(), sent=True, status=200)

    def assess(self, answer: Exchange, due_ns: int) -> Assessment:
        good = answer.status == 200 and answer.end_ns - due_ns <= NS_PER_S // 2
        return Assessment(good, "ok" if good else "bad", answer.error)


def results_of(clock: FakeClock, sender, slots_max: int, stalls: dict[int, float] | None = None) -> list[SlotResult]:
    """Send all slots on the fake clock; `stalls`: how long the process stands still at the result of a slot, in seconds."""
    seen: list[SlotResult] = []

    def on_result(result: SlotResult) -> None:
        seen.append(result)
        clock.sleep((stalls or {}).get(result.slot, 0.0))

    async def main() -> None:
        scheduler = SlotScheduler(sender, Grid(clock.now_ns() + PERIOD_NS, RATE), on_result, clock, slots_max=slots_max)
        scheduler.start()
        await scheduler.over()
        await scheduler.drain()

    run_on(clock, main())
    return seen


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.none() | st.floats(0, 3), min_size=1, max_size=60),
    st.dictionaries(st.integers(0, 59), st.floats(0, 3), max_size=3),
)
def test_every_slot_has_exactly_one_result(latencies, stalls):
    """Hung answers, slow answers and stalls of our own leave no slot out, and none is sent before it is due."""
    clock = FakeClock(5 * NS_PER_S)
    seen = results_of(clock, PlannedSender(clock, latencies), len(latencies), stalls)
    assert sorted(result.slot for result in seen) == list(range(len(latencies)))
    assert all(result.sent_ns >= result.due_ns - 1000 for result in seen)
    assert all(result.due_ns == 5 * NS_PER_S + PERIOD_NS + result.slot * PERIOD_NS for result in seen)


def test_a_hung_answer_holds_up_no_other_slot():
    """Open loop: with every answer hanging, slots go out on their grid all the same."""
    clock = FakeClock()
    seen = results_of(clock, PlannedSender(clock, [None] * 100), 100)
    assert len(seen) == 100
    assert not any(result.good for result in seen)
    assert max(result.sent_ns - result.due_ns for result in seen) < PERIOD_NS


def test_a_stall_of_our_own_shows_as_late_slots():
    """Half a second of standing still makes its slots late, not missing."""
    clock = FakeClock()
    seen = results_of(clock, PlannedSender(clock, [0.001] * 100), 100, {40: 0.5})
    late = [result for result in seen if result.sent_ns - result.due_ns > PERIOD_NS]
    assert 22 <= len(late) <= 25
    assert len(seen) == 100


def test_slots_whose_time_is_over_are_bad_without_being_sent():
    """After a stall above the time-out there is nothing left to ask."""
    clock = FakeClock()
    sender = PlannedSender(clock, [0.001] * 150)
    seen = results_of(clock, sender, 150, {40: 2.0})
    unsent = [result for result in seen if result.error == "unsent: the prober itself stalled"]
    assert 45 <= len(unsent) <= 55
    assert len(sender.fresh) == 150 - len(unsent)
    assert not any(result.good for result in unsent)


def test_fresh_and_reused_connections_alternate():
    clock = FakeClock()
    sender = PlannedSender(clock, [0.001] * 10)
    results_of(clock, sender, 10)
    assert sender.fresh == [True, False] * 5


@dataclass
class BrokenSender(PlannedSender):
    async def send(self, slot: int, *, fresh: bool, left_s: float) -> Exchange:
        raise ZeroDivisionError


def test_an_error_of_our_own_is_raised_and_is_no_outage():
    """A prober that is itself broken must not make a service look bad."""
    clock = FakeClock()
    with pytest.raises(ZeroDivisionError):
        results_of(clock, BrokenSender(clock, []), 10)


@dataclass
class StuckSender(PlannedSender):
    async def send(self, slot: int, *, fresh: bool, left_s: float) -> Exchange:
        await asyncio.sleep(3600)
        raise AssertionError


def test_a_slot_still_open_at_the_end_is_bad_not_missing():
    """Even one that ignores its time-out."""
    clock = FakeClock()
    seen = results_of(clock, StuckSender(clock, []), 5)
    assert [result.error for result in seen] == ["still open at the end"] * 5
    assert not any(result.good for result in seen)
