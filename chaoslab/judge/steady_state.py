"""The steady state: whether all journeys and conditions were in order in the last seconds before an instant. Pure.

The run waits for it and the judge checks it again, from the same rows: judge/README.md, Valid run. A slot counts as known at
that instant: answered, or late without an answer (it hangs, or was never sent), which is bad; a slot that may still be in time
is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Condition, Machine
from chaoslab.judge.intervals import percentile, seconds
from chaoslab.judge.slots import Slots
from chaoslab.judge.starvation import busy_machine
from chaoslab.spec.model import JourneyThresholds, SteadyState
from chaoslab.units import format_s

_ENOUGH = 0.9  # of the slots must have been answered; fewer means that the prober stalls, or has not run for long enough
_ROUNDING_NS = 10_000  # by how much slots may be off a grid of whole nanoseconds


def why_not_steady(
    journeys: Mapping[str, Slots],
    conditions: Sequence[Condition],
    machine: Iterable[Machine],
    wanted: SteadyState,
    end_ns: int,
) -> Iterator[str]:
    """Why the last `hold` seconds before `end_ns` were not a steady state; empty if they were."""
    begin_ns = end_ns - round(wanted.hold * NS_PER_S)
    if not journeys:
        yield "no journey is probed"
    for name, slots in journeys.items():
        yield from (f"{name}: {what}" for what in _of_journey(slots, begin_ns, end_ns, wanted.journeys))
    looked = {row.id: row for row in conditions if row.role in ("steady", "fault") and row.t_ns <= end_ns}  # as last seen
    for id_ in wanted.conditions:
        if id_ not in looked:
            yield f"condition {id_} was never checked"
        elif not looked[id_].holds:
            yield f"condition {id_} did not hold: {looked[id_].observed}"
    if (busy := busy_machine(machine, begin_ns, end_ns)) is not None:
        yield busy


def _of_journey(slots: Slots, begin_ns: int, end_ns: int, wanted: JourneyThresholds) -> Iterator[str]:
    answered = [slot for slot in slots.due_in(begin_ns, end_ns) if slot.end_ns <= end_ns]
    last = f"in the last {format_s(seconds(end_ns - begin_ns))}"
    if not answered:
        yield f"no slot {last}"
        return
    # Late without an answer: due on the grid of those that were answered, early enough to be late by now, and not among them.
    close_ns = max(begin_ns, end_ns - slots.within_ns)
    first_ns = begin_ns + (answered[0].due_ns - begin_ns) % slots.period_ns
    due = len(range(first_ns, close_ns - _ROUNDING_NS, slots.period_ns))
    late = max(0, due - sum(slot.due_ns < close_ns for slot in answered))
    count = len(answered) + late
    if len(answered) < count * _ENOUGH:
        yield f"{len(answered)} of {count} slots were answered {last}, which is too few"
        return
    share = sum(slot.good for slot in answered) / count
    if wanted.good is not None and not wanted.good.holds(share):
        yield f"{share:.2%} of the slots are good, but {wanted.good} is required"
    # For the percentile, a bad slot took forever.
    took_s = [seconds(slot.end_ns - slot.due_ns) if slot.good else float("inf") for slot in answered]
    p95_s = percentile([*took_s, *[float("inf")] * late], 0.95)
    if wanted.p95 is not None and p95_s is not None and not wanted.p95.holds(p95_s):
        measured = "beyond the good answers" if p95_s == float("inf") else f"{p95_s * 1000:.0f} ms"
        yield f"p95 is {measured}, but {wanted.p95} is required"
