"""The requests that a Locust worker on another machine reports, second by second. Pure.

Such a worker writes no rows here. Every one to three seconds it reports to its master how many requests ended in each second of
its own wall clock, and how many requests took how long in all of that time, rounded by Locust (147 ms reads 150). So counts
are exact for each second of the worker's clock; the latencies of one report are spread evenly over its seconds. Locust puts
failed requests among the latencies, and a refused connection is quick: a report with failures gives no latencies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CLOCK_STEP_S = 0.25  # a clock difference is corrected by no less, so that a worker's seconds stay within the same seconds here


@dataclass(frozen=True)
class Second:
    """One second of a worker's wall clock (seconds since 1970). `latencies_ms`: how many of its requests took that long."""

    wall_s: int
    requests: int
    failures: int
    latencies_ms: Mapping[int, int]


def seconds_of(total: Mapping[str, Any]) -> list[Second]:
    """The seconds of one report, oldest first, from its `stats_total`; a second without a request is left out.

    Each gets as many latencies as it has requests, at equal distances in their order; none when any request failed.
    """
    ordered_ms: list[int] = []
    if not total["num_failures"]:
        ordered_ms = [round(ms) for ms, count in sorted(total["response_times"].items()) for _ in range(count)]
    seconds = []
    for wall_s, requests in sorted(total["num_reqs_per_sec"].items()):
        places = [(2 * number + 1) * len(ordered_ms) // (2 * requests) for number in range(requests)] if ordered_ms else []
        latencies_ms = Counter(ordered_ms[place] for place in places)
        seconds.append(Second(int(wall_s), requests, total["num_fail_per_sec"].get(wall_s, 0), latencies_ms))
    return seconds


class WallClocks:
    """How far the wall clocks of workers are behind ours, from when each worker's last request ended and its report came in.

    The shortest time between the two that was ever seen counts as the difference of the clocks.
    """

    def __init__(self) -> None:
        self._behind_s: dict[str, float] = {}

    def age_s(self, worker: str, wall_s: float, total: Mapping[str, Any], now_wall_s: float) -> float:
        """How many seconds ago it was `wall_s` on the clock of the worker whose report, with `total`, came in now."""
        last = total["last_request_timestamp"]
        if last is not None:
            seen_s = now_wall_s - last
            known_s = self._behind_s.setdefault(worker, seen_s)
            if seen_s < known_s - _CLOCK_STEP_S:
                self._behind_s[worker] = seen_s
        return now_wall_s - self._behind_s.get(worker, 0.0) - wall_s
