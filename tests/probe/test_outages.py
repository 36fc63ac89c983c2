"""The interval of an outage, as measurement.md defines it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chaoslab.outages import Outage, OutageTracker, outages

MS = 1_000_000
PERIOD = 20 * MS


@dataclass(frozen=True)
class Slot:
    due_ns: int
    end_ns: int
    good: bool


def slots(pattern: str, latency_ns: int = 2 * MS) -> list[Slot]:
    """A line of slots at 50/s: `.` good, `x` bad."""
    return [Slot(i * PERIOD, i * PERIOD + latency_ns, mark == ".") for i, mark in enumerate(pattern)]


def test_interval_runs_from_bad_to_bad_and_from_good_to_good():
    """low: due(last bad) - due(first bad); high: end(first good after) - due(last good before)."""
    [outage] = outages(slots("..xxxx.."))
    assert outage == Outage(2 * PERIOD, 5 * PERIOD, 4, good_before_ns=PERIOD, good_after_ns=6 * PERIOD + 2 * MS)
    assert (outage.low_s, outage.high_s) == (0.06, 0.102)


def test_an_outage_at_either_end_of_what_was_seen_has_no_upper_bound():
    """Its begin or its end lies where nobody looked."""
    assert [o.high_s for o in outages(slots("xx..xx"))] == [None, None]
    assert [o.slots for o in outages(slots("xxxx"))] == [4]


def test_nothing_bad_is_no_outage():
    assert outages(slots("......")) == []
    assert outages([]) == []


def test_stable_slots_join_an_outage_that_comes_and_goes():
    """Two good slots in between do not end it; three in a row do, at the first of them."""
    pattern = ".xx..x...x."
    assert [o.slots for o in outages(slots(pattern), stable_slots=1)] == [2, 1, 1]
    joined = outages(slots(pattern), stable_slots=3)
    assert [o.slots for o in joined] == [3, 1]
    assert joined[0].good_after_ns == 6 * PERIOD + 2 * MS


def test_recovery_counts_when_it_was_answered_not_when_it_was_asked():
    """A slot that waited 300 ms for the service to return proves a return only at its end."""
    [outage] = outages([*slots(".x"), Slot(2 * PERIOD, 2 * PERIOD + 300 * MS, True)])
    assert outage.high_s == 0.34


@given(st.lists(st.booleans(), max_size=120), st.integers(1, 6), st.randoms())
def test_every_bad_slot_belongs_to_exactly_one_outage(goods, stable, random):
    """In any order of rows, for any rule of stability; and low never exceeds high."""
    line = [Slot(i * PERIOD, i * PERIOD + MS, good) for i, good in enumerate(goods)]
    mixed = line[:]
    random.shuffle(mixed)
    found = outages(mixed, stable_slots=stable)
    assert sum(outage.slots for outage in found) == goods.count(False)
    assert all(a.last_bad_ns < b.first_bad_ns for a, b in pairwise(found))
    assert all(outage.high_s is None or outage.low_s <= outage.high_s for outage in found)


@given(st.integers(1 * PERIOD, 150 * PERIOD), st.integers(0, 30 * PERIOD), st.integers(1, 3 * MS))
def test_the_interval_of_an_isolated_outage_holds_the_truth(begin_ns, length_ns, latency_ns):
    """Nothing received in [begin, begin + length) is answered: low..high holds the truth, its middle within a slot."""
    line = [Slot(i * PERIOD, i * PERIOD + latency_ns, not begin_ns <= i * PERIOD < begin_ns + length_ns) for i in range(400)]
    found = outages(line)
    if not found:
        assert length_ns < PERIOD
        return
    [outage] = found
    truth_s = length_ns / 1e9
    assert outage.high_s is not None
    assert outage.low_s <= truth_s <= outage.high_s
    middle_s = (outage.low_s + outage.high_s) / 2
    assert abs(middle_s - truth_s) <= (PERIOD + latency_ns / 2) / 1e9 + 1e-9
    assert outage.high_s - outage.low_s <= (2 * PERIOD + latency_ns) / 1e9 + 1e-9


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4))
def test_fed_one_by_one_it_finds_what_it_finds_at_once(goods, stable):
    """The live view and the judged one are the same."""
    line = [Slot(i * PERIOD, i * PERIOD + MS, good) for i, good in enumerate(goods)]
    tracker = OutageTracker(stable)
    live = [outage for slot in line if (outage := tracker.feed(slot))]
    last = tracker.finish()
    assert live + ([last] if last else []) == outages(line, stable_slots=stable)
