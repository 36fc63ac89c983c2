"""The probe rate when the experiment sets none: as often as the objectives need, and no more. Pure.

The prober runs on the machine that it measures. Eight journeys at 50 slots a second keep two CPUs 60 % busy; at 10 a
second they keep them 24 % busy, and the interval of an RTO is 0.05 s wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chaoslab.spec.model import Experiment
from chaoslab.spec.objectives import objectives_for
from chaoslab.spec.stackfile.model import StackSpec
from chaoslab.units import format_s

RESOLUTION = 0.005  # a slot's period, as a share of the tightest time objective
PERIOD_MAX_S = 0.1
UNASKED_MAX = 50.0  # slots a second; more only with `probe.rate`
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
    """The rate in use and its reason. Once resolved, a rate that was asked for is known by its number alone."""
    derived, rate = derived_rate(experiment, stack), experiment.probe.rate
    if rate is None or rate == derived.per_s:
        return derived
    return ProbeRate(rate, f"set by probe.rate; the objectives need {derived.per_s:g}")


def derived_rate(experiment: Experiment, stack: StackSpec) -> ProbeRate:
    """What the objectives need: the largest of several demands, a whole number, and at most UNASKED_MAX."""
    per_s, why = 1 / PERIOD_MAX_S, f"slots are at most {format_s(PERIOD_MAX_S)} apart"
    names = stack.journeys if experiment.probe.journeys is None else experiment.probe.journeys
    probed = {stack.journeys[name].service for name in names if name in stack.journeys}
    limits = [
        limit.value
        for service, objectives in objectives_for(experiment, stack).items()
        if service in probed
        for wanted in (objectives, *objectives.under.values())  # under single faults there may be others
        for limit in (wanted.rto, wanted.failback, wanted.restored)
        if limit is not None
    ]
    if limits:
        tightest_s = min(limits)
        period_s = RESOLUTION * tightest_s
        words = f"{RESOLUTION:.1%} of the tightest objective, {format_s(tightest_s)}, is {format_s(period_s)}"
        per_s, why = max((per_s, f"{why}; {words}"), (1 / period_s if period_s else math.inf, words))
    hold_s = experiment.failback.hold
    if hold_s:
        words = (
            f"{RECOVERY_SLOTS} good slots make a recovery, and twice as many must fit into the {format_s(hold_s)} of failback"
        )
        per_s, why = max((per_s, why), (2 * RECOVERY_SLOTS / hold_s, words))
    if per_s > UNASKED_MAX:
        return ProbeRate(UNASKED_MAX, f"the maximum without probe.rate; {why}")
    return ProbeRate(float(math.ceil(per_s - 1e-9)), why)
