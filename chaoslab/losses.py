"""Which fault a lost write is dated by, and whether a loss could have shown at all: measurement.md, section 3. Pure.

A fault counts from its effect and not from its call: what was acknowledged in between may still be its victim.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from chaoslab.clock import NS_PER_S
from chaoslab.measure import seconds
from chaoslab.record import Injection

BEFORE_FAULT_S = 2.0  # a write must have been acknowledged so shortly before the fault, or a loss could not have shown
HARMLESS = frozenset({"link.degrade", "service.throttle"})  # to data; every other fault can destroy it
PARTITIONS = frozenset({"site.isolate", "link.cut", "link.flap"})  # both sides may go on by themselves

Span = tuple[int, int]  # begin and end, monotonic nanoseconds


def loss_age_s(known_ns: int, injections: Sequence[Injection]) -> float | None:
    """How long before its fault a write that is lost was acknowledged, at least 0; None: no RPO excuses its loss.

    Not excused is what was acknowledged after the last effect of a fault that can destroy data, or under a partition that
    was healed before the fault came: the sites were joined again, and the write was not kept.
    """
    fault = next((one for one in injections if one.name not in HARMLESS and _effect_ns(one) >= known_ns), None)
    if fault is None or any(_parted(one, known_ns, before=fault) for one in injections):
        return None
    return max(0.0, seconds(fault.inject_ns - known_ns))


def acknowledged_before(
    acks_ns: Sequence[int], injections: Sequence[Injection], clocks: Sequence[Span]
) -> tuple[bool, set[str]]:
    """Whether any fault had an acknowledgement in the last seconds before it; and the ids of those that should and had none.

    Asked of the faults that can destroy data (of all, where none can), but not where an RTO clock ran (`clocks`) when the
    fault was called: there was an outage already.
    """
    acks_ns = sorted(acks_ns)
    faults = [one for one in injections if one.name not in HARMLESS] or injections
    silent = [one for one in faults if not _acknowledged(acks_ns, one.inject_ns)]
    running = {one.inject_ns for one in silent if any(begin_ns < one.inject_ns <= end_ns for begin_ns, end_ns in clocks)}
    return len(silent) < len(faults), {one.id for one in silent if one.inject_ns not in running}


def _effect_ns(fault: Injection) -> int:
    """When it was seen from outside; where it never was, when it was called."""
    return fault.inject_ns if fault.effective_ns is None else fault.effective_ns


def _parted(partition: Injection, known_ns: int, *, before: Injection) -> bool:
    healed_ns = partition.heal_ns if partition.healed_ns is None else partition.healed_ns
    if partition.name not in PARTITIONS or healed_ns is None:
        return False
    return _effect_ns(partition) < known_ns < healed_ns <= before.inject_ns


def _acknowledged(acks_ns: Sequence[int], fault_ns: int) -> bool:
    first = bisect_left(acks_ns, fault_ns - round(BEFORE_FAULT_S * NS_PER_S))
    return first < len(acks_ns) and acks_ns[first] <= fault_ns
