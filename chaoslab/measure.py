"""Slots in, intervals out: the arithmetic of measurement.md, sections 1 and 2. Pure; instants are monotonic nanoseconds."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from chaoslab.events import Probe
from chaoslab.outages import Outage as TrackedOutage
from chaoslab.outages import outages as tracked_outages
from chaoslab.record import Window
from chaoslab.result import Outage

NS_PER_S = 1_000_000_000
LUCK = 0.01  # the odds that we accept of taking a lucky run of good slots for a recovery

# Stable: if one slot in six were still bad, 25 good ones in a row would come by luck once in a hundred times;
# half a second is for high rates, where 25 slots pass between two pauses of a garbage collector.
STABLE_SLOTS = 25
STABLE_S = 0.5
GAP_PERIODS_MAX = 10  # periods without a slot
BLIND_END_S = 1.0  # how long before the end of what is judged the prober may have gone quiet
TAIL = 10  # bad slots that it takes to tell how thin a brown-out is

Status = Literal["recovered", "unaffected", "not_recovered", "unseen"]


class Slots:
    """One journey's slots by due time, to be cut into stretches. `within_ns`: its latency objective."""

    def __init__(self, slots: Sequence[Probe], *, period_ns: int, within_ns: int) -> None:
        self._slots = slots
        self._dues = [slot.due_ns for slot in slots]
        self.period_ns = period_ns
        self.within_ns = within_ns

    def due_in(self, begin_ns: int, end_ns: int) -> Sequence[Probe]:
        """All slots due in begin..end."""
        return self._slots[bisect_left(self._dues, begin_ns) : bisect_left(self._dues, end_ns)]

    def decided_in(self, begin_ns: int, end_ns: int) -> Sequence[Probe]:
        """The slots due in begin..end without those that were still open at `end_ns`, and not late by then.

        Those tell what happened at `end_ns` (the next fault, the heal, the prober's stop), not what was before.
        """
        close_ns = max(begin_ns, end_ns - self.within_ns)
        settled = self.due_in(begin_ns, close_ns)
        return [*settled, *(slot for slot in self.due_in(close_ns, end_ns) if slot.end_ns <= end_ns)]


@dataclass(frozen=True)
class Recovery:
    """How a journey came through one window.

    `high_s` None: not recovered while we looked; or (status recovered) a brown-out after which the good run is too short
    to be more than luck. `settled`: good and stable at the end of the window.
    `blind`: not back when the prober went quiet, well before the end of the window; what came then nobody saw.
    """

    status: Status
    low_s: float
    high_s: float | None
    bad: int
    settled: bool
    window: Window
    blind: bool = False


def recovery(slots: Slots, window: Window) -> Recovery:
    """The interval of measurement.md, section 2, for one journey and one window."""
    seen = slots.decided_in(window.begin_ns, window.end_ns)
    if not seen:
        return Recovery("unseen", 0.0, None, 0, False, window)
    bad = [number for number, slot in enumerate(seen) if not slot.good]
    if not bad:
        high_s = seconds(seen[0].end_ns - window.begin_ns)
        return Recovery("unaffected", 0.0, high_s, 0, len(seen) >= stable_slots(slots.period_ns), window)
    run = seen[bad[-1] + 1 :]
    low_s = max(0.0, seconds(seen[bad[-1]].due_ns - window.verified_ns))
    if len(run) < stable_slots(slots.period_ns):
        last_ns = max((slot.due_ns for slot in slots.due_in(window.begin_ns, window.end_ns)), default=window.begin_ns)
        return Recovery(
            "not_recovered", low_s, None, len(bad), False, window, blind_after(window.end_ns - last_ns, slots.period_ns)
        )
    luck = lucky_slots(share_bad(bad, stable_slots(slots.period_ns)))
    high_s = seconds(run[0].end_ns + luck * slots.period_ns - window.begin_ns)
    return Recovery("recovered", low_s, high_s if luck <= len(run) else None, len(bad), True, window)


def blind_after(quiet_ns: int, period_ns: int) -> bool:
    """Whether nobody looked any more when no slot was due for so long before an end."""
    return quiet_ns > max(GAP_PERIODS_MAX * period_ns, BLIND_END_S * NS_PER_S)


def recoveries(slots: Slots, windows: Sequence[Window]) -> list[Recovery]:
    """Window by window; where the next struck before the journey had settled, both are one, on the first one's clock."""
    found: list[Recovery] = []
    open_since: Window | None = None
    for window in windows:
        whole = open_since.until(window) if open_since else window
        one = recovery(slots, whole)
        struck_again = window.ended_by == "inject" and window is not windows[-1]
        open_since = whole if struck_again and not one.settled else None
        if open_since is None:
            found.append(one)
    return found


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


def outages(seen: Sequence[Probe], *, period_ns: int, since_ns: int, origin_ns: int) -> list[Outage]:
    """Every stretch of bad slots that reached into what came after `since_ns`. `origin_ns`: what `at_s` counts from."""
    found = tracked_outages(seen, stable_slots=stable_slots(period_ns))
    return [_outage(one, seen, origin_ns) for one in found if one.last_bad_ns >= since_ns]


def _outage(one: TrackedOutage, seen: Sequence[Probe], origin_ns: int) -> Outage:
    begin_ns = seen[0].due_ns if one.good_before_ns is None else one.good_before_ns
    end_ns = seen[-1].end_ns if one.good_after_ns is None else one.good_after_ns
    at_s, high_s = seconds(one.first_bad_ns - origin_ns), seconds(end_ns - begin_ns)
    return Outage(at_s, min(one.low_s, high_s), high_s, one.slots, ended=one.good_after_ns is not None)


def skewed(seen: Sequence[Probe], period_ns: int) -> int:
    """Slots sent more than one period late: the harness itself stalled."""
    return sum(slot.sent_ns - slot.due_ns > period_ns for slot in seen)


def longest_gap_ns(seen: Sequence[Probe]) -> int:
    """The longest stretch between two slots; 0 with fewer than two."""
    return max((later.due_ns - earlier.due_ns for earlier, later in pairwise(seen)), default=0)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank; None without values. `values` may hold infinity."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def latencies_ms(seen: Sequence[Probe]) -> list[float]:
    """Latencies of the good slots, from their due time."""
    return [(slot.end_ns - slot.due_ns) / 1e6 for slot in seen if slot.good]


def seconds(nanoseconds: int) -> float:
    return nanoseconds / NS_PER_S
