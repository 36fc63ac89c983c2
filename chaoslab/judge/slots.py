"""One journey's slots as columns by due time: a run may have a million, and most uses need only their times. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import gt
from typing import NamedTuple

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Probe


class Slot(NamedTuple):
    """One slot. Instants are monotonic nanoseconds."""

    due_ns: int
    sent_ns: int
    end_ns: int
    good: bool


class Slots:
    """Slots of one journey. `within_ns`: its latency objective. Columns are read from outside, and changed only here."""

    __slots__ = ("due", "end", "good", "period_ns", "sent", "within_ns")

    def __init__(self, slots: Iterable[Slot] = (), *, period_ns: int = NS_PER_S, within_ns: int = NS_PER_S) -> None:
        self.due, self.sent, self.end, self.good = array("q"), array("q"), array("q"), bytearray()
        self.period_ns, self.within_ns = period_ns, within_ns
        for slot in slots:
            self.add(*slot)

    def __len__(self) -> int:
        return len(self.due)

    def __iter__(self) -> Iterator[Slot]:
        return (Slot(*one) for one in zip(self.due, self.sent, self.end, map(bool, self.good), strict=True))

    def add(self, due_ns: int, sent_ns: int, end_ns: int, good: bool) -> None:
        """Take one slot, in any order; call `ordered` before any other method."""
        self.due.append(due_ns)
        self.sent.append(sent_ns)
        self.end.append(end_ns)
        self.good.append(good)

    def add_rows(self, rows: Sequence[Probe]) -> None:
        """As `add`, for many."""
        self.due.fromlist([row.due_ns for row in rows])
        self.sent.fromlist([row.sent_ns for row in rows])
        self.end.fromlist([row.end_ns for row in rows])
        self.good += bytes([row.good for row in rows])

    def add_good(self, dues_ns: range) -> None:
        """Take good slots that were due at these instants, and answered at once."""
        for column in (self.due, self.sent, self.end):
            column.extend(dues_ns)
        self.good += bytes([1]) * len(dues_ns)

    def extend(self, other: Slots, begin: int, end: int) -> None:
        """Take the slots of another at the indexes begin..end."""
        for name in ("due", "sent", "end", "good"):
            getattr(self, name).extend(getattr(other, name)[begin:end])

    def insert(self, slot: Slot) -> None:
        """Insert one slot by its due time."""
        place = self._at(slot.due_ns)
        for column, value in zip((self.due, self.sent, self.end, self.good), slot, strict=True):
            column.insert(place, value)

    def sort(self) -> None:
        """Put them in order of their due time."""
        if not any(map(gt, self.due, islice(self.due, 1, None))):
            return
        order = sorted(range(len(self.due)), key=self.due.__getitem__)
        self.due, self.sent, self.end = (
            array("q", map(column.__getitem__, order)) for column in (self.due, self.sent, self.end)
        )
        self.good = bytearray(map(self.good.__getitem__, order))

    def ordered(self, *, period_ns: int, within_ns: int) -> Slots:
        """The same slots by due time, with their journey's spec; the columns are shared."""
        self.sort()
        found = Slots(period_ns=period_ns, within_ns=within_ns)
        found.due, found.sent, found.end, found.good = self.due, self.sent, self.end, self.good
        return found

    def due_in(self, begin_ns: int, end_ns: int) -> Slots:
        """All slots due in begin..end."""
        return self._cut(self._at(begin_ns), self._at(end_ns))

    def decided_in(self, begin_ns: int, end_ns: int) -> Slots:
        """The slots due in begin..end without those that were still open at `end_ns`, and not late by then.

        Those show what happened at `end_ns` (the next event, the prober's stop), not before it.
        """
        close = self._at(max(begin_ns, end_ns - self.within_ns))
        found = self._cut(self._at(begin_ns), close)
        for number in range(close, self._at(end_ns)):
            if self.end[number] <= end_ns:
                found.add(self.due[number], self.sent[number], self.end[number], bool(self.good[number]))
        return found

    @property
    def bad(self) -> int:
        """How many were bad."""
        return self.good.count(0)

    def numbers(self, begin_ns: int, end_ns: int) -> range:
        """The indexes of the slots due in begin..end."""
        return range(self._at(begin_ns), self._at(end_ns))

    def bad_numbers(self, first: int = 0) -> Iterator[int]:
        """The indexes of the bad slots from `first` on, in order."""
        number = self.good.find(0, first)
        while number >= 0:
            yield number
            number = self.good.find(0, number + 1)

    def _at(self, instant_ns: int) -> int:
        return bisect_left(self.due, instant_ns)

    def _cut(self, begin: int, end: int) -> Slots:
        found = Slots(period_ns=self.period_ns, within_ns=self.within_ns)
        found.due, found.sent, found.end = self.due[begin:end], self.sent[begin:end], self.end[begin:end]
        found.good = self.good[begin:end]
        return found
