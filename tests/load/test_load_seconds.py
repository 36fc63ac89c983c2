"""Rows of Locust become one row of history per second, and no request is ever lost or counted twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoslab.clock import NS_PER_S
from chaoslab.history.tail import LineTail
from chaoslab.load.seconds import News, Seconds

BEGIN_NS = 1_000 * NS_PER_S


def request(end_s: float, *, latency_ms: float = 10, good: bool = True, name: str = "talk.read") -> str:
    end_ns = BEGIN_NS + round(end_s * NS_PER_S)
    return f"q\t{end_ns - round(latency_ms * 1e6)}\t{end_ns}\t{good:d}\t{200 if good else 503}\t{name}"


def users(at_s: float, pid: int, number: int, missed: int = 0) -> str:
    return f"u\t{BEGIN_NS + round(at_s * NS_PER_S)}\t{pid}\t{number}\t{missed}"


def at(seconds: float) -> int:
    return BEGIN_NS + round(seconds * NS_PER_S)


requests = st.lists(st.tuples(st.floats(0, 20), st.booleans(), st.floats(0.01, 5000)), max_size=60)


@given(requests, st.lists(st.floats(0, 25), max_size=8))
def test_every_request_is_counted_once_whatever_the_order_and_whenever_looked(rows, looks):
    """Late rows, early rows, any number of looks in between: the sums of the seconds are the sums of the rows."""
    seconds, handed_out, pending = Seconds(BEGIN_NS), [], sorted(looks)
    for index, (end_s, good, latency_ms) in enumerate(rows):
        seconds.feed(request(end_s, good=good, latency_ms=latency_ms))
        if index % 7 == 3 and pending:
            handed_out += seconds.close_until(at(pending.pop(0)))
    handed_out += seconds.close_all(at(30))
    assert sum(row.requests for row in handed_out) == len(rows)
    assert sum(row.failures for row in handed_out) == sum(not good for _, good, _ in rows)
    assert [row.t_ns for row in handed_out] == sorted({row.t_ns for row in handed_out})


@given(st.lists(st.floats(0.001, 5000), min_size=1, max_size=200))
def test_percentiles_are_values_that_were_measured_and_in_order(latencies):
    """p50 <= p95 <= p99 <= max, each at least as large as its share of the values."""
    seconds = Seconds(BEGIN_NS)
    for latency_ms in latencies:
        seconds.feed(request(0.5, latency_ms=latency_ms))
    (row,) = seconds.close_until(at(1))
    assert row.p50_ms <= row.p95_ms <= row.p99_ms <= round(max(latencies), 3)
    for value, share in ((row.p50_ms, 0.5), (row.p95_ms, 0.95), (row.p99_ms, 0.99)):
        assert sum(round(latency, 3) <= value + 0.001 for latency in latencies) >= share * len(latencies)


def test_a_second_without_requests_is_a_row_of_zero():
    """Users that hang must show as an outage, not as a hole."""
    seconds = Seconds(BEGIN_NS)
    seconds.feed(request(0.1))
    seconds.feed(request(3.9))
    assert [row.requests for row in seconds.close_until(at(4))] == [1, 0, 0, 1]


def test_failures_do_not_flatter_the_latency():
    """Refused connections are quick; percentiles are of successes only."""
    seconds = Seconds(BEGIN_NS)
    seconds.feed(request(0.2, latency_ms=80))
    for _ in range(50):
        seconds.feed(request(0.3, latency_ms=0.2, good=False))
    (row,) = seconds.close_until(at(1))
    assert (row.requests, row.failures, row.p50_ms, row.p99_ms) == (51, 50, 80, 80)


def test_only_failures_leave_no_percentile():
    """Nothing succeeded, so there is no latency."""
    seconds = Seconds(BEGIN_NS)
    seconds.feed(request(0.3, good=False))
    assert seconds.close_until(at(1))[0].p95_ms is None


def test_users_are_those_of_all_processes_that_still_report():
    """Two workers add up; one that went silent counts no more."""
    seconds = Seconds(BEGIN_NS)
    for second in range(10):
        seconds.feed(users(second, pid=1, number=20))
        if second < 3:
            seconds.feed(users(second, pid=2, number=15))
    rows = seconds.close_until(at(10))
    assert rows[-1].users == 20
    assert rows[2].users == 35


def test_reports_of_workers_elsewhere_count():
    """Their requests come in bunches, through the master."""
    seconds = Seconds(BEGIN_NS)
    seconds.feed(f"r\t{at(0.5)}\tother_1\t7\t300\t12")
    (row,) = seconds.close_until(at(1))
    assert (row.requests, row.failures, row.users) == (300, 12, 7)


def test_a_task_that_raises_is_news_once():
    """A locustfile that raises makes no load, which the run must note; thousands of times are one warning."""
    seconds = Seconds(BEGIN_NS)
    for _ in range(3):
        seconds.feed(f"x\t{at(1)}\tKeyError('token')")
    assert seconds.news() == [News("warning", "a task of the locustfile raised KeyError('token'); see locust.log")]
    assert seconds.news() == []


def test_a_worker_that_goes_missing_and_comes_back_is_news():
    """Its first appearance is not."""
    seconds = Seconds(BEGIN_NS)
    for number in (1, 0, 1):
        seconds.feed(f"w\t{at(1)}\tother_1\t{number}")
    assert [news.level for news in seconds.news()] == ["warning", "info"]


def test_a_second_stays_open_while_its_rows_may_still_come():
    """Those of other processes are written, and read, a little later."""
    seconds = Seconds(BEGIN_NS, close_after_ns=NS_PER_S // 4)
    seconds.feed(request(0.5))
    assert seconds.close_until(at(1.0)) == []
    seconds.feed(request(0.9))
    assert [row.requests for row in seconds.close_until(at(1.3))] == [2]
    assert seconds.close_all(at(1.9)) == []


@pytest.mark.parametrize("line", ["", "z\t1", "q\t1\t2", "q\ta\tb\t1\t200\tx", "u\t1\t2"])
def test_what_is_no_row_is_refused(line):
    """A foreign or broken line is never taken for zero requests."""
    with pytest.raises(ValueError, match="not a row of the load"):
        Seconds(BEGIN_NS).feed(line)


@given(st.lists(st.integers(1, 40), max_size=30))
def test_the_tail_never_takes_half_a_line(tmp_path_factory, cuts):
    """However the file grows, byte by byte or in blocks, each line comes once and whole."""
    path = tmp_path_factory.mktemp("tail") / "rows.tsv"
    path.touch()
    written = [request(0.01 * number) for number in range(20)]
    text = "".join(f"{line}\n" for line in written).encode()
    tail, lines = LineTail(path), []
    with path.open("ab", buffering=0) as file:
        for cut in [*cuts, len(text)]:
            file.write(text[:cut])
            text = text[cut:]
            lines += tail.poll()
    assert [line.decode() for line in lines] == written
    assert tail.poll() == []
    tail.close()
