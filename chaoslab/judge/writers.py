"""Which replicas took writes over time, and whether two did at once: judge/README.md, Writers. Pure.

Instants are monotonic nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from operator import attrgetter

from chaoslab.clock import NS_PER_S
from chaoslab.history.result import ObjectiveResult, WriterResult
from chaoslab.history.rows import Answer
from chaoslab.judge.clocks import EventTimeline
from chaoslab.judge.intervals import seconds
from chaoslab.judge.outcome import PASS, Outcome, fail, inconclusive, objective, worst
from chaoslab.judge.run_record import Record

CONTINUOUS_S = 1.0  # answers further apart show nothing about the time between them
UNSEEN_S_MAX = 5.0  # the longest time without a query
_WANTED = "never two at once"


@dataclass(frozen=True)
class Writing:
    """A replica took writes at least from `begin_ns`, its first answer, to `end_ns`, the last query."""

    replica: str
    service: str
    site: str
    begin_ns: int
    end_ns: int


def writings(answers: Sequence[Answer]) -> list[Writing]:
    """When replicas certainly took writes, in order of time. One answer alone proves no length of time."""
    found = []
    for stretch in _stretches(answers):
        first, last = stretch[0], stretch[-1]
        if first.answered_ns < last.last_asked_ns:
            found.append(Writing(first.replica, first.service, first.site, first.answered_ns, last.last_asked_ns))
    return sorted(found, key=attrgetter("begin_ns", "replica"))


def _stretches(answers: Sequence[Answer]) -> Iterator[list[Answer]]:
    """For each replica, its consecutive answers that it takes writes."""
    for _, own in groupby(_by_replica(answers), attrgetter("replica")):
        stretch: list[Answer] = []
        for answer in own:
            if stretch and (answer.value is not True or answer.asked_ns - stretch[-1].t_ns > CONTINUOUS_S * NS_PER_S):
                yield stretch
                stretch = []
            if answer.value is True:
                stretch.append(answer)
        if stretch:
            yield stretch


def check_one_writer(service: str, record: Record, timeline: EventTimeline) -> ObjectiveResult:
    """Whether two replicas of a service ever took writes at once."""
    answers = [answer for answer in record.answers if answer.about == "writes" and answer.service == service]
    found = writings(answers)
    outcomes: list[Outcome] = []
    for one, other in combinations(found, 2):
        begin_ns, end_ns = max(one.begin_ns, other.begin_ns), min(one.end_ns, other.end_ns)
        if one.replica == other.replica or begin_ns >= end_ns:
            continue
        from_s = seconds(begin_ns - record.first_ns)
        why = (
            f"{one.replica} and {other.replica} both took writes for {seconds(end_ns - begin_ns):.1f} s, from {from_s:.1f} s on"
        )
        if timeline.starved_ns(begin_ns, end_ns) >= end_ns - begin_ns:
            outcomes.append(inconclusive(f"{why}; the machine was starved then"))
        else:
            outcomes.append(fail(why))
    unseen = _unseen(answers, record)
    if unseen:
        outcomes.append(inconclusive(unseen))
    elif not found:
        outcomes.append(inconclusive("no replica was ever seen to take writes"))
    order = [replica for replica, _ in groupby(one.replica for one in found)]
    return objective(f"one-writer.{service}", worst(outcomes or [PASS]), ", then ".join(order) or "none seen", _WANTED)


def check_unseen_writers(replicas: Sequence[str]) -> ObjectiveResult:
    """Writers of the stack that were never queried; their service is unknown, as no answer names it."""
    why = inconclusive(f"these replicas were never asked whether they take writes: {', '.join(replicas)}")
    return objective("one-writer.unknown", why, "none seen", _WANTED)


def _unseen(answers: Sequence[Answer], record: Record) -> str:
    """Why a replica was not queried for too long, between the ends of the steady state and of the observation; or None."""
    begin_ns, end_ns = record.steady_end_ns, record.observed_end_ns
    for replica, own in groupby(_by_replica(answers), attrgetter("replica")):
        until_ns, longest_ns = begin_ns, 0
        for asked_ns, answered_ns in [*((one.asked_ns, one.t_ns) for one in own), (end_ns, end_ns)]:
            longest_ns = max(longest_ns, min(asked_ns, end_ns) - until_ns)
            until_ns = max(until_ns, answered_ns)
        if longest_ns > UNSEEN_S_MAX * NS_PER_S:
            return f"{replica} was not queried for {seconds(longest_ns):.1f} s"
    return ""


def writer_results(record: Record) -> list[WriterResult]:
    """Who took writes when, in order of time."""
    return [
        WriterResult(
            replica=one.replica,
            service=one.service,
            site=one.site,
            begin_s=seconds(one.begin_ns - record.first_ns),
            end_s=seconds(one.end_ns - record.first_ns),
        )
        for one in writings([answer for answer in record.answers if answer.about == "writes"])
    ]


def _by_replica(answers: Sequence[Answer]) -> list[Answer]:
    return sorted(answers, key=attrgetter("replica", "asked_ns"))
