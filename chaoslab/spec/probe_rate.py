"""How often the prober asks when the experiment does not say: as often as the objectives need, and no more. Pure.

The prober runs on the machine that it measures. Eight journeys at 50 slots a second keep two processors 60 % busy; at 10 a
second they keep them 24 % busy, and the interval of an RTO is 0.05 s wider.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from chaoslab.spec.model import Experiment, StackSpec
from chaoslab.spec.objectives import objectives_for
from chaoslab.units import format_s

RESOLUTION = 0.005  # a slot's period, as a share of the tightest time objective
PERIOD_MAX_S = 0.1
UNASKED_MAX = 50.0  # slots a second; more only where `probe.rate` says so
RECOVERY_SLOTS = 25  # good slots in a row that make a recovery
LEDGER_MIN = 10.0  # slots a second of a journey with a ledger: 20 writes in the last 2 s before a fault


@dataclass(frozen=True)
class ProbeRate:
    """Slots a second for each journey, and the reason in words."""

    per_s: float
    why: str

    def __str__(self) -> str:
        return f"{self.per_s:g} times a second: {self.why}"


def with_probe_rate(experiment: Experiment, stack: StackSpec) -> Experiment:
    """The experiment with the number that its prober uses."""
    if experiment.probe.rate is not None:
        return experiment
    probe = experiment.probe.model_copy(update={"rate": derived_rate(experiment, stack).per_s})
    return experiment.model_copy(update={"probe": probe})


def probe_rate(experiment: Experiment, stack: StackSpec) -> ProbeRate:
    """The rate in use and its reason. Once resolved, a rate that was asked for is told by its number alone."""
    derived, said = derived_rate(experiment, stack), experiment.probe.rate
    if said is None or said == derived.per_s:
        return derived
    return ProbeRate(said, f"asked for with probe.rate; the objectives need {derived.per_s:g}")


def derived_rate(experiment: Experiment, stack: StackSpec) -> ProbeRate:
    """What the objectives need: the largest of several demands, a whole number, and at most UNASKED_MAX."""
    demands = [*_demands(experiment, stack)]
    per_s, why = max(demands)
    if per_s > UNASKED_MAX:
        return ProbeRate(UNASKED_MAX, f"the most without probe.rate; {why}")
    return ProbeRate(float(math.ceil(per_s - 1e-9)), why)


def _demands(experiment: Experiment, stack: StackSpec) -> Iterator[tuple[float, str]]:
    tightest_s = min(_time_objectives_s(experiment, stack), default=None)
    words = ""
    if tightest_s is not None:
        period_s = RESOLUTION * tightest_s
        words = f"{RESOLUTION:.1%} of the tightest objective, {format_s(tightest_s)}, is {format_s(period_s)}"
        yield (1 / period_s if period_s else math.inf), words
    yield 1 / PERIOD_MAX_S, "; ".join(filter(None, [f"slots are at most {format_s(PERIOD_MAX_S)} apart", words]))
    hold_s = experiment.failback.hold
    if hold_s:
        why = f"{RECOVERY_SLOTS} good slots make a recovery, and twice as many fit into the {format_s(hold_s)} of failback"
        yield 2 * RECOVERY_SLOTS / hold_s, why


def _time_objectives_s(experiment: Experiment, stack: StackSpec) -> Iterator[float]:
    """RTO and failback of every service that is probed."""
    names = stack.journeys if experiment.probe.journeys is None else experiment.probe.journeys
    probed = {stack.journeys[name].service for name in names if name in stack.journeys}
    for service, owed in objectives_for(experiment, stack).items():
        if service in probed:
            for one in (owed, *owed.under.values()):  # under single faults there may be others
                yield from (limit.value for limit in (one.rto, one.failback) if limit is not None)
