"""Several runs of one experiment: which was the worst, and how far the measured figures lie apart. Pure.

Nothing is averaged: a promise that was broken once is broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from chaoslab.result import Interval, LedgerResult, Result, ServiceResult
from chaoslab.verdict import WORST_FIRST


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """One figure over all runs that measured it. The truths lie in `low`..`high`; `high` None: a run never saw the end.

    `worst` is the figure of the worst run, as an interval (low and high the same for what is counted), and `worst_run` its
    number, from 1. Seconds, but shares for availability.
    """

    low: float
    high: float | None
    worst: Interval
    worst_run: int
    runs: int


def worst_of(results: Sequence[Result]) -> int:
    """The index of the run that decides: the worst verdict; among equals one that could not be cleaned up, then the first."""

    def badness(index: int) -> tuple[int, bool, int]:
        result = results[index]
        return WORST_FIRST.index(result.verdict), result.cleanup != "incomplete", index

    return min(range(len(results)), key=badness)


def spread_of(results: Sequence[Result]) -> dict[str, Spread]:
    """By objective (`talk.rto`): everything that was measured and can be compared. Empty without runs."""
    measured: dict[str, list[tuple[int, Interval]]] = {}
    for number, result in enumerate(results, 1):
        for id_, interval in _measured(result):
            measured.setdefault(id_, []).append((number, interval))
    return {id_: _spread(found, more_is_better=id_.endswith(".availability")) for id_, found in measured.items()}


def _measured(result: Result) -> Iterator[tuple[str, Interval]]:
    for name, service in result.services.items():
        yield from _of_service(name, service)
    for name, ledger in result.ledger.items():
        yield f"{name}.rpo", _of_ledger(ledger)


def _of_service(name: str, service: ServiceResult) -> Iterator[tuple[str, Interval]]:
    for objective, interval in (("rto", service.rto_s), ("failback", service.failback_s)):
        if interval is not None:
            yield f"{name}.{objective}", interval
    yield f"{name}.availability", Interval(service.availability, service.availability)


def _of_ledger(ledger: LedgerResult) -> Interval:
    return Interval(ledger.rpo_s, ledger.rpo_s, ledger.objective_s)


def _spread(found: list[tuple[int, Interval]], *, more_is_better: bool) -> Spread:
    highs = [interval.high for _, interval in found]
    by_low = min(found, key=lambda one: one[1].low)
    worst_run, worst = by_low if more_is_better else max(found, key=lambda one: _length(one[1]))
    return Spread(
        low=min(interval.low for _, interval in found),
        high=None if None in highs else max(high for high in highs if high is not None),
        worst=worst,
        worst_run=worst_run,
        runs=len(found),
    )


def _length(interval: Interval) -> tuple[bool, float]:
    """Never ended is longer than anything that did."""
    return interval.high is None, interval.low if interval.high is None else interval.high
