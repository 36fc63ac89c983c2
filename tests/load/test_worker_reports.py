"""Reports of Locust workers become seconds with counts that are exact, and latencies that were reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoslab.load.worker_reports import Second, WallClocks, seconds_of

WALL_S = 1_800_000_000


def report(per_second: dict[int, int], response_times: dict[int, int], failed: dict[int, int] | None = None, last: float = 0.0):
    failed = failed or {}
    return {
        "num_reqs_per_sec": {WALL_S + second: count for second, count in per_second.items()},
        "num_fail_per_sec": {WALL_S + second: count for second, count in failed.items()},
        "num_failures": sum(failed.values()),
        "response_times": response_times,
        "last_request_timestamp": WALL_S + last if per_second else None,
    }


def test_each_second_has_its_own_count_and_an_even_share_of_the_latencies():
    """Three seconds of one report: its slow tail is in each of them, as it may have been."""
    seconds = seconds_of(report({1: 50, 0: 50, 2: 50}, {10: 120, 200: 30}))
    assert [(one.wall_s - WALL_S, one.requests, one.failures) for one in seconds] == [(0, 50, 0), (1, 50, 0), (2, 50, 0)]
    assert [dict(one.latencies_ms) for one in seconds] == [{10: 40, 200: 10}] * 3


def test_a_report_with_failures_says_nothing_of_latency():
    """Refused connections are quick, and Locust puts them among the others."""
    assert seconds_of(report({0: 10, 1: 10}, {1: 10, 80: 10}, failed={1: 10})) == [
        Second(WALL_S, 10, 0, {}),
        Second(WALL_S + 1, 10, 10, {}),
    ]


def test_a_report_without_requests_is_no_second():
    """The worker lives, and its users wait."""
    assert seconds_of(report({}, {})) == []


@given(st.dictionaries(st.integers(0, 9), st.integers(1, 300), max_size=5), st.data())
def test_no_request_is_lost_and_no_latency_invented(per_second, data):
    """Whatever the report: counts add up, and every latency is one that was reported."""
    times = data.draw(st.dictionaries(st.integers(0, 3000), st.integers(1, 50), max_size=8))
    seconds = seconds_of(report(per_second, times))
    assert sum(one.requests for one in seconds) == sum(per_second.values())
    assert all(set(one.latencies_ms) <= set(times) for one in seconds)
    assert all(sum(one.latencies_ms.values()) in (0, one.requests) for one in seconds)


def test_a_worker_with_another_clock_is_dated_by_ours():
    """Known bad: its clock is an hour fast, and its requests would be an hour from now."""
    clocks = WallClocks()
    total = report({0: 10}, {}, last=0.9)
    ours_s = WALL_S + 0.95 - 3600.0
    assert clocks.age_s("w", WALL_S + 0.5, total, ours_s) == pytest.approx(0.4)


def test_a_worker_that_had_nothing_to_do_for_long_does_not_change_its_clock():
    """Its last request is long ago; that is no sign of a slow clock once a shorter time was seen."""
    clocks = WallClocks()
    clocks.age_s("w", WALL_S + 0.5, report({0: 10}, {}, last=0.98), WALL_S + 1.0)
    assert clocks.age_s("w", WALL_S + 5.5, report({5: 1}, {}, last=5.1), WALL_S + 9.0) == pytest.approx(3.48)
    assert clocks.age_s("w", WALL_S + 9.5, report({}, {}), WALL_S + 11.0) == pytest.approx(1.48)


def test_a_clock_is_corrected_once_a_quicker_report_shows_it():
    """The first report came late."""
    clocks = WallClocks()
    clocks.age_s("w", WALL_S + 0.5, report({0: 1}, {}, last=0.5), WALL_S + 3.0)
    assert clocks.age_s("w", WALL_S + 3.5, report({3: 1}, {}, last=3.9), WALL_S + 4.0) == pytest.approx(0.4)
