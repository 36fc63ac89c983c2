"""Outages in a line of slots: where each begins, and the interval that its length lies in. Pure.

The truth of an isolated outage lies between two observations. It lasted at least from the first bad slot's due time
to the last one's (`low`), and at most from the due time of the last good slot before it to the end of the first good
answer after it (`high`). An outage that touches either end of what was looked at has no upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from chaoslab.clock import NS_PER_S


class SlotLike(Protocol):
    """What an outage is made of; `events.Probe` is one."""

    @property
    def due_ns(self) -> int: ...

    @property
    def end_ns(self) -> int: ...

    @property
    def good(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Outage:
    """A run of bad slots. Instants are monotonic; the two good ones are None where nothing good was seen on that side."""

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
    """Finds outages in slots fed in order of their due time.

    An outage is over at the first of `stable_slots` good slots in a row; with 1 every run of bad slots counts alone.
    """

    def __init__(self, stable_slots: int = 1) -> None:
        self._stable_slots = stable_slots
        self._good_before_ns: int | None = None
        self._open: Outage | None = None
        self._run = 0  # good slots since the last bad one
        self._run_end_ns = 0  # when the first of them was answered

    @property
    def current(self) -> Outage | None:
        """The outage that is going on."""
        return self._open

    def feed(self, slot: SlotLike) -> Outage | None:
        """Take the next slot; returns the outage that this slot proves to be over."""
        if not slot.good:
            self._bad(slot)
            return None
        ended = self._good(slot) if self._open else None
        self._good_before_ns = slot.due_ns
        return ended

    def finish(self) -> Outage | None:
        """The outage still open when the slots end, closed if a good slot followed it at all."""
        if self._open and self._run:
            return self._close(self._open)
        return self._open

    def _bad(self, slot: SlotLike) -> None:
        self._run = 0
        if self._open is None:
            self._open = Outage(slot.due_ns, slot.due_ns, 1, self._good_before_ns)
        else:
            self._open = replace(self._open, last_bad_ns=slot.due_ns, slots=self._open.slots + 1)

    def _good(self, slot: SlotLike) -> Outage | None:
        if self._run == 0:
            self._run_end_ns = slot.end_ns
        self._run += 1
        return self._close(self._open) if self._open and self._run >= self._stable_slots else None

    def _close(self, outage: Outage) -> Outage:
        self._open, self._run = None, 0
        return replace(outage, good_after_ns=self._run_end_ns)


def outages(slots: Sequence[SlotLike], *, stable_slots: int = 1) -> list[Outage]:
    """Every outage in the slots of one journey, given in any order."""
    tracker = OutageTracker(stable_slots)
    ended = [tracker.feed(slot) for slot in sorted(slots, key=lambda slot: slot.due_ns)]
    return [outage for outage in (*ended, tracker.finish()) if outage is not None]
