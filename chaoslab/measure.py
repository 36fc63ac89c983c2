"""Slots in, intervals out: the arithmetic of measurement.md, sections 1 and 2. Pure; instants are monotonic nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from operator import sub

from chaoslab.clock import NS_PER_S
from chaoslab.result import Outage
from chaoslab.slots import Slots

LUCK = 0.01  # the odds that we accept of taking a lucky run of good slots for a recovery

# Stable: if one slot in six were still bad, 25 good ones in a row would come by luck once in a hundred times;
# half a second is for high rates, where 25 slots pass between two pauses of a garbage collector.
STABLE_SLOTS = 25
STABLE_S = 0.5
GAP_PERIODS_MAX = 10  # periods without a slot
BLIND_END_S = 1.0  # how long before the end of what is judged the prober may have gone quiet
TAIL = 10  # bad slots that it takes to tell how thin a brown-out is


def blind_after(quiet_ns: int, period_ns: int) -> bool:
    """Whether nobody looked any more when no slot was due for so long before an end."""
    return quiet_ns > max(GAP_PERIODS_MAX * period_ns, BLIND_END_S * NS_PER_S)


def stable_slots(period_ns: int) -> int:
    """How many good slots in a row make a recovery at this rate."""
    return max(STABLE_SLOTS, math.ceil(STABLE_S * NS_PER_S / period_ns))


def lucky_slots(share_bad: float) -> int:
    """Good slots in a row that come by luck with odds of LUCK while this share is bad: by so many the truth may be later."""
    if share_bad >= 1:
        return 0
    return math.ceil(math.log(LUCK) / math.log1p(-share_bad) - 1e-9)  # 99 % bad is one slot, not 1.0000000002


def share_bad(bad: Sequence[int], stable: int) -> float:
    """The share of bad slots towards the end of what ended with the last of them. `bad`: the bad slots' numbers, in order.

    A black-out that thins out ends as a brown-out, so of all ends of it that hold TAIL bad slots or more the thinnest counts.
    """
    first = _last_return(bad, stable)
    begins = range(first, max(first + 1, len(bad) - TAIL + 1))
    return min(_share(bad, begin, len(bad)) for begin in begins)


def _last_return(bad: Sequence[int], stable: int) -> int:
    """Where the last outage begins of a service that flapped; what went before it says nothing of how thin it is.

    A good run was a return when it is stable, and twice as long as luck would allow, by what was before it and by what came
    after. (Twice, because there are many runs to find a lucky one among.) A few bad slots after it say too little.
    """
    for number in range(len(bad) - TAIL, 0, -1):
        good_run = bad[number] - bad[number - 1] - 1
        if good_run >= stable:
            thinnest = min(_share(bad, 0, number), _share(bad, number, len(bad)))
            if good_run >= 2 * lucky_slots(thinnest):
                return number
    return 0


def _share(bad: Sequence[int], begin: int, end: int) -> float:
    return (end - begin) / (bad[end - 1] - bad[begin] + 1)


def outages(seen: Slots, *, since_ns: int, origin_ns: int) -> list[Outage]:
    """Every stretch of bad slots that reached into what came after `since_ns`. `origin_ns`: what `at_s` counts from."""
    stable = stable_slots(seen.period_ns)
    stretches: list[list[int]] = []
    for number in seen.bad_numbers():
        if stretches and number - stretches[-1][-1] <= stable:
            stretches[-1].append(number)
        else:
            stretches.append([number])
    return [_outage(own, seen, origin_ns) for own in stretches if seen.due[own[-1]] >= since_ns]


def _outage(bad: Sequence[int], seen: Slots, origin_ns: int) -> Outage:
    """Between the last good slot before it, by its due time, and the first good answer after it."""
    first, last = bad[0], bad[-1]
    begin_ns = seen.due[first - 1] if first else seen.due[0]
    ended = last + 1 < len(seen)
    end_ns = seen.end[last + 1] if ended else seen.end[-1]
    low_s, high_s = seconds(seen.due[last] - seen.due[first]), seconds(end_ns - begin_ns)
    return Outage(seconds(seen.due[first] - origin_ns), min(low_s, high_s), high_s, len(bad), ended=ended)


def skewed(seen: Slots) -> int:
    """Slots sent more than one period late: the harness itself stalled."""
    return sum(map(seen.period_ns.__lt__, map(sub, seen.sent, seen.due)))


def longest_gap_ns(seen: Slots) -> int:
    """The longest stretch between two slots; 0 with fewer than two."""
    return max(map(sub, seen.due[1:], seen.due), default=0)


def good_share(seen: Slots) -> float:
    """Share of good slots, from 0 to 1; 0 where there are none."""
    return 1 - seen.bad / len(seen) if len(seen) else 0.0


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank; None without values. `values` may hold infinity."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def latencies_ms(seen: Slots) -> list[float]:
    """Latencies of the good slots, from their due time."""
    return [taken_ns / 1e6 for taken_ns in compress(map(sub, seen.end, seen.due), seen.good)]


def seconds(nanoseconds: int) -> float:
    return nanoseconds / NS_PER_S
