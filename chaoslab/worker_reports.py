"""What a Locust worker on another machine says of its requests, second by second. Pure.

Such a worker writes no rows here. Every one to three seconds it reports to its master how many requests ended in each second of
its own wall clock, and how many requests took how long in all of that time, rounded by Locust (147 ms reads 150). So counts
are exact for each second of the worker's clock; the latencies of one report are spread evenly over its seconds. Locust puts
failed requests among the latencies, and a refused connection is quick: a report with failures says nothing of latency.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MOVED_S = 0.25  # a worker's clock is corrected by no less, so that its seconds do not waver about the edges of ours


@dataclass(frozen=True)
class Second:
    """One second of a worker's wall clock (seconds since 1970). `latencies_ms`: how many of its requests took that long."""

    wall_s: int
    requests: int
    failures: int
    latencies_ms: Mapping[int, int]


def seconds_of(total: Mapping[str, Any]) -> list[Second]:
    """The seconds of one report, oldest first, from its `stats_total`; a second without a request is left out."""
    requests, failures = total["num_reqs_per_sec"], total["num_fail_per_sec"]
    good = [] if total["num_failures"] else _ascending(total["response_times"])
    return [
        Second(int(second), count, failures.get(second, 0), Counter(_evenly(good, count) if good else ()))
        for second, count in sorted(requests.items())
    ]


def _ascending(response_times: Mapping[float, int]) -> list[int]:
    return [round(ms) for ms, count in sorted(response_times.items()) for _ in range(count)]


def _evenly(ordered: list[int], count: int) -> list[int]:
    """As many values as asked for, at equal distances from each other."""
    return [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]


class WallClocks:
    """How far the wall clocks of workers are behind ours, from when each worker's last request ended and its report came in.

    The shortest time between the two that was ever seen counts as the difference of the clocks.
    """

    def __init__(self) -> None:
        self._behind_s: dict[str, float] = {}

    def age_s(self, worker: str, wall_s: float, total: Mapping[str, Any], now_wall_s: float) -> float:
        """How long ago it was `wall_s` on the clock of the worker whose report came in now."""
        last = total["last_request_timestamp"]
        if last is not None:
            seen_s = now_wall_s - last
            known_s = self._behind_s.setdefault(worker, seen_s)
            if seen_s < known_s - _MOVED_S:
                self._behind_s[worker] = seen_s
        return now_wall_s - self._behind_s.get(worker, 0.0) - wall_s
