"""Slots as a declared degraded mode makes them count: judge/README.md, Degraded modes. Pure.

A journey's slots are read in two ways: as judged (`as_declared`), and as seen (`as_seen`), where slots in a degraded mode are
bad whatever was declared.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from chaoslab.judge.clocks import EventTimeline, in_flight
from chaoslab.judge.slots import Slots
from chaoslab.spec.stackfile.model import Mode


def as_declared(slots: Slots, mode: Mode, later_ns: Iterable[int], timeline: EventTimeline) -> Slots:
    """The slots of clocks as they are judged. `later_ns`: when the slots that a 202 answered in time were due.

    While a fault is active, `allowed` excuses every bad slot. While none is, a 202 of a `queued` journey is bad: the service
    does not yet work as usual.
    """
    if mode == "allowed":
        return _changed(slots, (number for number in slots.bad_numbers() if timeline.active_at(slots.due[number])), good=True)
    if mode == "queued":
        late = (due_ns for due_ns in later_ns if not timeline.active_at(due_ns))
        return _changed(slots, _numbers_of(slots, late), good=False)
    return slots


def as_allowed(slots: Slots, timeline: EventTimeline) -> Slots:
    """All slots of a journey that may fail: a bad one is good where it counts while a fault is active."""
    since_ns = in_flight(slots, timeline)
    excused = (number for number in slots.bad_numbers() if timeline.active_at(since_ns.get(number, slots.due[number])))
    return _changed(slots, excused, good=True)


def as_seen(slots: Slots, mode: Mode, later_ns: Iterable[int]) -> Slots:
    """The slots, with each 202 of a `queued` journey as bad: then the journey did less than usual."""
    return _changed(slots, _numbers_of(slots, later_ns), good=False) if mode == "queued" else slots


def _numbers_of(slots: Slots, due_ns: Iterable[int]) -> Iterable[int]:
    """The indexes of the slots due at these instants; unknown instants are left out."""
    for instant_ns in due_ns:
        number = bisect_left(slots.due, instant_ns)
        if number < len(slots) and slots.due[number] == instant_ns:
            yield number


def _changed(slots: Slots, numbers: Iterable[int], *, good: bool) -> Slots:
    """A copy with the slots at some indexes good, or bad."""
    found = Slots(period_ns=slots.period_ns, within_ns=slots.within_ns)
    found.extend(slots, 0, len(slots))
    for number in [*numbers]:
        found.good[number] = good
    return found
