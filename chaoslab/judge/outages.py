"""Outages of a journey: where each begins, and the interval that its length lies in (judge/README.md, Outages). Pure.

An outage is over at the first of a stable run of good slots. It lasted at least from the first bad slot's due time to the last
one's, and at most from the due time of the last good slot before it to the end of the first good answer after it.
`OutageTracker` finds outages as slots come in, `outages` in complete slots; both find the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from chaoslab.clock import NS_PER_S
from chaoslab.judge.intervals import stable_slots
from chaoslab.judge.slots import Slots


class SlotLike(Protocol):
    """What an outage is made of: `slots.Slot` or `rows.Probe`."""

    @property
    def due_ns(self) -> int: ...

    @property
    def end_ns(self) -> int: ...

    @property
    def good(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch of bad slots. Instants are monotonic; the two good ones are None where no good slot was seen on that side."""

    first_bad_ns: int  # due
    last_bad_ns: int  # due
    slots: int  # bad ones
    good_before_ns: int | None = None  # due time of the last good slot before
    good_after_ns: int | None = None  # end of the first good answer after

    @property
    def low_s(self) -> float:
        """Seconds it lasted at least."""
        return (self.last_bad_ns - self.first_bad_ns) / NS_PER_S

    @property
    def high_s(self) -> float | None:
        """Seconds it lasted at most; None when its begin or its end was not seen."""
        if self.good_before_ns is None or self.good_after_ns is None:
            return None
        return (self.good_after_ns - self.good_before_ns) / NS_PER_S


class OutageTracker:
    """Finds outages in slots that are fed in order of their due time."""

    def __init__(self, period_ns: int) -> None:
        self._stable = stable_slots(period_ns)
        self._good_before_ns: int | None = None
        self._current: Outage | None = None
        self._good_run = 0  # good slots since the last bad one
        self._good_after_ns = 0  # end of the first of them

    @property
    def current(self) -> Outage | None:
        """The outage that has not ended."""
        return self._current

    def feed(self, slot: SlotLike) -> Outage | None:
        """Take the next slot; returns the outage that this slot proves over."""
        if not slot.good:
            self._good_run = 0
            if self._current is None:
                self._current = Outage(slot.due_ns, slot.due_ns, 1, self._good_before_ns)
            else:
                self._current = replace(self._current, last_bad_ns=slot.due_ns, slots=self._current.slots + 1)
            return None
        if self._good_run == 0:
            self._good_after_ns = slot.end_ns
        self._good_run += 1
        self._good_before_ns = slot.due_ns
        return self.finish() if self._good_run >= self._stable else None

    def finish(self) -> Outage | None:
        """The outage that is open when the slots end; it ended if a good slot followed it at all."""
        outage, self._current = self._current, None
        return replace(outage, good_after_ns=self._good_after_ns) if outage and self._good_run else outage


def outages(slots: Slots) -> list[Outage]:
    """Every outage in the slots of one journey, in order."""
    stable = stable_slots(slots.period_ns)
    stretches: list[list[int]] = []
    for number in slots.bad_numbers():
        if stretches and number - stretches[-1][-1] <= stable:
            stretches[-1].append(number)
        else:
            stretches.append([number])
    return [
        Outage(
            first_bad_ns=slots.due[bad[0]],
            last_bad_ns=slots.due[bad[-1]],
            slots=len(bad),
            good_before_ns=slots.due[bad[0] - 1] if bad[0] else None,
            good_after_ns=slots.end[bad[-1] + 1] if bad[-1] + 1 < len(slots) else None,
        )
        for bad in stretches
    ]
