"""Outages as intervals: judge/README.md, Outages. A run and `chaoslab probe` find the same ones in the same slots."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoslab.clock import NS_PER_MS, NS_PER_S
from chaoslab.judge.intervals import STABLE_SLOTS, stable_slots
from chaoslab.judge.outages import Outage, OutageTracker, outages
from chaoslab.judge.slots import Slot, Slots
from chaoslab.probe.grid import Grid
from chaoslab.probe.scheduler import SlotResult
from chaoslab.probe.standalone import UrlObserver

PERIOD = 20 * NS_PER_MS
STABLE = "." * STABLE_SLOTS


def slots(pattern: str, latency_ns: int = 2 * NS_PER_MS, period_ns: int = PERIOD) -> Slots:
    """A row of slots: `.` good, `x` bad."""
    due = [number * period_ns for number in range(len(pattern))]
    made = (Slot(at, at, at + latency_ns, mark == ".") for at, mark in zip(due, pattern, strict=True))
    return Slots(made, period_ns=period_ns)


def probed(seen: Slots) -> list[Outage]:
    """What `chaoslab probe` finds in these slots, which come to their ends in any order."""
    observer = UrlObserver("http://x", Grid(0, NS_PER_S / seen.period_ns), lambda _: None)
    results = [
        SlotResult(number, slot.due_ns, slot.sent_ns, slot.end_ns, slot.good, "ok", 200, None, pooled=False)
        for number, slot in enumerate(seen)
    ]
    for result in [*results[1::2], *results[::2]]:
        observer.on_result(result)
    return observer.finish().outages


# Each character is a slot. The patterns have outages that come and go, and that touch either end.
PATTERNS = st.lists(st.tuples(st.sampled_from("x."), st.integers(1, 60)), max_size=12).map(
    lambda parts: "".join(mark * length for mark, length in parts)
)


def test_interval_runs_from_bad_to_bad_and_from_good_to_good():
    """low: due(last bad) - due(first bad); high: end(first good after) - due(last good before)."""
    [outage] = outages(slots("..xxxx.."))
    assert outage == Outage(2 * PERIOD, 5 * PERIOD, 4, good_before_ns=PERIOD, good_after_ns=6 * PERIOD + 2 * NS_PER_MS)
    assert (outage.low_s, outage.high_s) == (0.06, 0.102)


def test_an_outage_at_either_end_of_what_was_seen_has_no_upper_bound():
    """Its begin or its end lies where no slot was."""
    assert [found.high_s for found in outages(slots(f"xx{STABLE}xx"))] == [None, None]
    assert [found.slots for found in outages(slots("xxxx"))] == [4]


def test_nothing_bad_is_no_outage():
    assert outages(slots("......")) == []
    assert outages(slots("")) == []


def test_an_outage_that_comes_and_goes_ends_with_a_stable_run():
    """One good slot less does not end it; it ends at the first good slot of the run that does."""
    found = outages(slots(f".xx{STABLE[1:]}x{STABLE}x."))
    assert [outage.slots for outage in found] == [3, 1]
    assert found[0].good_after_ns == (4 + STABLE_SLOTS - 1) * PERIOD + 2 * NS_PER_MS


def test_recovery_counts_when_it_was_answered_not_when_it_was_asked():
    """A slot that waited 300 ms for the service to return proves a return only at its end."""
    seen = slots(".x")
    seen.add(2 * PERIOD, 2 * PERIOD, 2 * PERIOD + 300 * NS_PER_MS, good=True)
    [outage] = outages(seen)
    assert outage.high_s == 0.34


@given(PATTERNS)
def test_every_bad_slot_belongs_to_exactly_one_outage(pattern):
    """And low never exceeds high."""
    found = outages(slots(pattern))
    assert sum(outage.slots for outage in found) == pattern.count("x")
    assert all(before.last_bad_ns < after.first_bad_ns for before, after in pairwise(found))
    assert all(outage.high_s is None or outage.low_s <= outage.high_s for outage in found)


@given(st.integers(1 * PERIOD, 150 * PERIOD), st.integers(0, 30 * PERIOD), st.integers(1, 3 * NS_PER_MS))
def test_the_interval_of_an_isolated_outage_holds_the_truth(begin_ns, length_ns, latency_ns):
    """Nothing received in [begin, begin + length) is answered: low..high holds the truth, its middle within a slot."""
    pattern = ["x" if begin_ns <= number * PERIOD < begin_ns + length_ns else "." for number in range(400)]
    found = outages(slots("".join(pattern), latency_ns))
    if not found:
        assert length_ns < PERIOD
        return
    [outage] = found
    truth_s = length_ns / NS_PER_S
    assert outage.high_s is not None
    assert outage.low_s <= truth_s <= outage.high_s
    middle_s = (outage.low_s + outage.high_s) / 2
    assert abs(middle_s - truth_s) <= (PERIOD + latency_ns / 2) / NS_PER_S + 1e-9
    assert outage.high_s - outage.low_s <= (2 * PERIOD + latency_ns) / NS_PER_S + 1e-9


@given(PATTERNS, st.sampled_from([NS_PER_MS, 10 * NS_PER_MS, PERIOD, 100 * NS_PER_MS]))
def test_a_run_and_chaoslab_probe_find_the_same_outages(pattern, period_ns):
    """The same slots, whatever the rate: over at the same slot, and equally long."""
    seen = slots(pattern, period_ns=period_ns)
    assert probed(seen) == outages(seen)


@pytest.mark.parametrize("rate", [10, 50, 1000])
def test_an_outage_is_over_when_as_many_good_slots_as_make_a_recovery_have_come(rate):
    """Reported live with the last of them, and not before."""
    period_ns = NS_PER_S // rate
    stable, tracker = stable_slots(period_ns), OutageTracker(period_ns)
    ended = [tracker.feed(slot) for slot in slots("x" + "." * stable, period_ns=period_ns)]
    assert [outage is None for outage in ended] == [True] * stable + [False]
