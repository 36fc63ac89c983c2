"""How old a lost write was at its fault, and whether the run could have shown a loss: judge/README.md, RPO. Pure.

A fault counts from its effect and not from its call: it may still destroy a write that was acknowledged in between.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from chaoslab.clock import NS_PER_S
from chaoslab.judge.intervals import seconds
from chaoslab.judge.run_record import Injection

BEFORE_FAULT_S = 2.0  # a write must have been acknowledged this shortly before the fault, or no loss could be seen
HARMLESS = frozenset({"link.degrade", "service.throttle"})  # to data; every other fault can destroy it
PARTITIONS = frozenset({"site.isolate", "link.cut", "link.flap"})  # both sides may continue without each other

Span = tuple[int, int]  # begin and end, monotonic nanoseconds


def loss_age_s(known_ns: int, injections: Sequence[Injection]) -> float | None:
    """How long before its fault a lost write was acknowledged, at least 0; None if no RPO excuses its loss.

    No RPO excuses a write that was acknowledged after the last effect of a fault that can destroy data, or during a partition
    that was healed before the fault: the sites were connected again, and the write was not kept.
    """
    fault = next((one for one in injections if one.name not in HARMLESS and _effect_ns(one) >= known_ns), None)
    if fault is None:
        return None
    for partition in injections:
        healed_ns = partition.heal_ns if partition.healed_ns is None else partition.healed_ns
        if partition.name not in PARTITIONS or healed_ns is None:
            continue
        if _effect_ns(partition) < known_ns < healed_ns <= fault.inject_ns:
            return None
    return max(0.0, seconds(fault.inject_ns - known_ns))


def acknowledged_before(
    acks_ns: Sequence[int], injections: Sequence[Injection], clocks: Sequence[Span]
) -> tuple[bool, set[str]]:
    """Whether any fault had an acknowledgement in the last seconds before it; and the ids of faults that should have had one.

    Covers the faults that can destroy data (all, if none can), but not those that were called while an RTO clock (`clocks`)
    ran: there was already an outage.
    """
    acks_ns = sorted(acks_ns)
    faults = [fault for fault in injections if fault.name not in HARMLESS] or injections
    silent = []
    for fault in faults:
        first = bisect_left(acks_ns, fault.inject_ns - round(BEFORE_FAULT_S * NS_PER_S))
        if first == len(acks_ns) or acks_ns[first] > fault.inject_ns:
            silent.append(fault)
    running = {one.inject_ns for one in silent if any(begin_ns < one.inject_ns <= end_ns for begin_ns, end_ns in clocks)}
    return len(silent) < len(faults), {fault.id for fault in silent if fault.inject_ns not in running}


def _effect_ns(fault: Injection) -> int:
    """When its effect was seen from outside; if it never was, when it was called."""
    return fault.inject_ns if fault.effective_ns is None else fault.effective_ns
