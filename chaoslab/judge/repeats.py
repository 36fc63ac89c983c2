"""Several runs of one experiment: which was the worst, and the spread of the measurements. Pure.

Nothing is averaged: an objective that was missed once is missed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from chaoslab.errors import WORST_FIRST
from chaoslab.history.result import Interval, Result
from chaoslab.judge.intervals import percentile


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement over all runs that have it. The truths lie in `low`..`high`; `high` None: a run never saw the end.

    `worst` is that of the worst run, as an interval (low and high the same for what is counted), and `worst_run` its number,
    from 1. Seconds, but shares for availability. `p95`: what 95 % of the runs took at most; None if more than 5 % never ended,
    and for availability.
    """

    low: float
    high: float | None
    worst: Interval
    worst_run: int
    runs: int
    p95: float | None = None


def worst_run(results: Sequence[Result]) -> int:
    """The index of the run that decides: the worst verdict; among equals one that could not be cleaned up, then the first."""

    def badness(index: int) -> tuple[int, bool, int]:
        result = results[index]
        return WORST_FIRST.index(result.verdict), result.cleanup != "incomplete", index

    return min(range(len(results)), key=badness)


def spread_of(results: Sequence[Result]) -> dict[str, Spread]:
    """By objective (`talk.rto`): everything that was measured and can be compared. Empty without runs."""
    measured: dict[str, list[tuple[int, Interval]]] = defaultdict(list)
    for number, result in enumerate(results, 1):
        for name, service in result.services.items():
            if service.rto_s is not None:
                measured[f"{name}.rto"].append((number, service.rto_s))
            if service.failback_s is not None:
                measured[f"{name}.failback"].append((number, service.failback_s))
            if service.pause_s is not None:
                measured[f"{name}.pause"].append((number, service.pause_s))
            measured[f"{name}.availability"].append((number, Interval(service.availability, service.availability)))
        for name, ledger in result.ledger.items():
            measured[f"{name}.rpo"].append((number, Interval(ledger.rpo_s, ledger.rpo_s, ledger.objective_s)))
    spread: dict[str, Spread] = {}
    for id_, found in measured.items():
        highs = [interval.high for _, interval in found]
        if id_.endswith(".availability"):  # more is better
            worst_run, worst = min(found, key=lambda one: one[1].low)
            p95 = None
        else:  # never ended is longer than anything that did
            worst_run, worst = max(
                found, key=lambda one: (one[1].high is None, one[1].low if one[1].high is None else one[1].high)
            )
            p95 = percentile([math.inf if high is None else high for high in highs], 0.95)
        spread[id_] = Spread(
            low=min(interval.low for _, interval in found),
            high=None if None in highs else max(high for high in highs if high is not None),
            worst=worst,
            worst_run=worst_run,
            runs=len(found),
            p95=None if p95 == math.inf else p95,
        )
    return spread
