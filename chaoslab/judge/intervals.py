"""The arithmetic of slots and intervals: judge/README.md, Slots and Clocks. Pure; instants are monotonic nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from operator import sub

from chaoslab.clock import NS_PER_MS, NS_PER_S
from chaoslab.judge.slots import Slots

# Stable: if one slot in six were still bad, 25 good ones in a row would come by chance once in a hundred times;
# half a second is for high rates, where 25 slots pass between two pauses of a garbage collector.
STABLE_SLOTS = 25
STABLE_S = 0.5
CHANCE_MAX = 0.01  # accepted probability of mistaking good slots in a row for a recovery while a share is still bad
SHARE_SLOTS_MIN = 10  # bad slots needed to estimate the share of bad ones
SKEWED_SHARE_MAX = 0.01  # of the slots may be sent more than one period late; with more, the prober itself was held up
GAP_PERIODS_MAX = 10  # periods without a slot
QUIET_END_S = 1.0  # how long before the end of the observation the last slot may be due


def is_quiet(quiet_ns: int, period_ns: int) -> bool:
    """Whether the last slot was due so long before the end that the end was not observed."""
    return quiet_ns > max(GAP_PERIODS_MAX * period_ns, QUIET_END_S * NS_PER_S)


def stable_slots(period_ns: int) -> int:
    """How many good slots in a row make a recovery at this rate."""
    return max(STABLE_SLOTS, math.ceil(STABLE_S * NS_PER_S / period_ns))


def chance_slots(share_bad: float) -> int:
    """Good slots in a row that come by chance with probability CHANCE_MAX while this share is bad (0 < share_bad <= 1)."""
    if share_bad >= 1:
        return 0
    return math.ceil(math.log(CHANCE_MAX) / math.log1p(-share_bad) - 1e-9)  # 99 % bad is one slot, not 1.0000000002


def share_bad(bad: Sequence[int], stable: int) -> float:
    """The share of bad slots towards the end of an outage. `bad`: the indexes of its bad slots, in order.

    An outage may end more gradually than it began, so the lowest share in any final part with SHARE_SLOTS_MIN bad slots or more
    counts. What lies before the last return of a service that flapped is ignored. A good run was a return if it is stable, and
    twice as long as chance allows, both by the slots before it and by those after it. (Twice, because a long run is likelier
    among many runs.) It is no return if too few bad slots follow.
    """
    first = 0
    for number in range(len(bad) - SHARE_SLOTS_MIN, 0, -1):
        good_run = bad[number] - bad[number - 1] - 1
        if good_run >= stable:
            lowest = min(_share(bad, 0, number), _share(bad, number, len(bad)))
            if good_run >= 2 * chance_slots(lowest):
                first = number
                break
    begins = range(first, max(first + 1, len(bad) - SHARE_SLOTS_MIN + 1))
    return min(_share(bad, begin, len(bad)) for begin in begins)


def _share(bad: Sequence[int], begin: int, end: int) -> float:
    return (end - begin) / (bad[end - 1] - bad[begin] + 1)


def skewed(slots: Slots) -> int:
    """Slots sent more than one period late: the prober itself was held up."""
    return sum(map(slots.period_ns.__lt__, map(sub, slots.sent, slots.due)))


def longest_gap_ns(slots: Slots) -> int:
    """The longest stretch between two slots; 0 with fewer than two."""
    return max(map(sub, slots.due[1:], slots.due), default=0)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed; None without values. Infinity is allowed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def latencies_ms(slots: Slots) -> list[float]:
    """Latencies of the good slots, from their due time."""
    return [taken_ns / NS_PER_MS for taken_ns in compress(map(sub, slots.end, slots.due), slots.good)]


def seconds(nanoseconds: int) -> float:
    return nanoseconds / NS_PER_S
