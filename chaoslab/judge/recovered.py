"""Whether a service is back from a fault, or has missed its RTO: what `heal_after: recovered` waits for. Pure.

The run waits for as much as the judge asks of a recovery, so that the heal makes no verdict inconclusive: see
judge/README.md, Heal at recovery.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from chaoslab.clock import NS_PER_S
from chaoslab.judge.intervals import chance_slots, seconds, share_bad, stable_slots
from chaoslab.judge.slots import Slots
from chaoslab.judge.steady_state import why_not_steady
from chaoslab.spec.model import JourneyThresholds, SteadyState
from chaoslab.spec.stackfile.model import FaultObjectives
from chaoslab.spec.timeline import missed_after_s

_ALL_GOOD = JourneyThresholds.model_validate({"good": ">= 100%"})
_SLOTS_MORE = 2  # slots in flight at the heal do not count


@dataclass(frozen=True)
class UnhealedFault:
    """An active fault: when it was called, and when its effect was verified (monotonic nanoseconds)."""

    id: str
    inject_ns: int
    effective_ns: int


def why_not_recovered(
    journeys: Mapping[str, Slots],
    promised: FaultObjectives,
    fault: UnhealedFault,
    hold_s: float,
    now_ns: int,
    *,
    may_fail: Collection[str] = (),
    queued_ns: int | None = None,
) -> str | None:
    """Why the heal of a fault waits for a service, in words; None once it is back, missed its RTO, or has none.

    `journeys`: all slots of the service since the fault, by due time. It is back when they were all good for `hold_s`, and for
    long enough to rule out chance. A service that has to notice the fault is not back before it has. `may_fail`: journeys whose
    degraded mode allows that. `queued_ns`: when one of its writes was last queued.
    """
    since_s = seconds(now_ns - fault.effective_ns)
    if promised.rto is None or since_s >= missed_after_s(promised.rto.value):
        return None
    bad = {
        name: [number for number in slots.bad_numbers() if slots.end[number] >= fault.inject_ns]
        for name, slots in journeys.items()
    }
    queued = queued_ns is not None and queued_ns >= fault.inject_ns
    if not promised.unaffected and not queued and not any(bad.values()):
        return f"it has not noticed {fault.id} yet"
    for name, slots in journeys.items():
        if name in may_fail:
            continue
        stable = stable_slots(slots.period_ns)
        chance = chance_slots(share_bad(bad[name], stable)) if bad[name] else 0
        run_s = seconds((max(stable, chance) + _SLOTS_MORE) * slots.period_ns + slots.within_ns)
        needed_s = max(hold_s, run_s)
        if since_s < needed_s or (bad[name] and seconds(now_ns - slots.due[bad[name][-1]]) < needed_s):
            return f"{name} has not been good for {needed_s:.1f} s"
        wanted = SteadyState().model_copy(update={"hold": needed_s, "journeys": _ALL_GOOD})
        window = slots.due_in(now_ns - math.ceil(needed_s * NS_PER_S), now_ns)
        for why in why_not_steady({name: window}, (), (), wanted, now_ns):
            return why
    return None
