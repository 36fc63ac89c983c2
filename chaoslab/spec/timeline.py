"""When each action of a timeline begins: faults are injected and healed, steps are begun. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from chaoslab.spec.fault import FaultBase
from chaoslab.spec.model import ExperimentObjectives
from chaoslab.spec.objectives import under_fault

_LEAST_S = 30.0  # a fault without a heal time lasts at least this long
_BEYOND_RTO = 1.2  # and longer than the longest RTO, or no service could miss it
_BEYOND_RTO_S = 5.0  # at least: slots that are late, and seconds in which the machine was starved, do not count

Verb = Literal["heal", "inject", "begin"]


class TimedStep(Protocol):
    """A step of a timeline, which is no fault: its begin, and how long an unattended run may take for it, in seconds.

    `at` counts from the effect of the fault `after`, the end of the step `after`, or the heal of the fault `after_heal`.
    """

    @property
    def id(self) -> str: ...

    @property
    def at(self) -> float: ...

    @property
    def at_most_s(self) -> float: ...

    @property
    def after(self) -> str | None: ...

    @property
    def after_heal(self) -> str | None: ...


@dataclass(frozen=True)
class Action:
    """`at_s` counts from the end of the steady state; `id` is that of the fault or the step.

    `latest`: a heal at recovery, which is at `at_s` at the latest.
    """

    at_s: float
    verb: Verb
    id: str
    latest: bool = False


def schedule(
    timeline: Sequence[FaultBase], objectives: Sequence[ExperimentObjectives], steps: Sequence[TimedStep] = ()
) -> list[Action]:
    """All actions in order of time; at the same instant faults are healed first, then injected, then steps begin.

    A fault without `heal_after` heals at the end. A step is over when its effect is seen, which has no fixed time; one that
    comes after another is listed as if that took its whole budget.
    """
    end_s = end_of(timeline, objectives)
    begins_s = _begins(timeline, objectives, steps)
    ends_s = [end_s if fault.heal_after is None else fault.at + lasts_s(fault, objectives) for fault in timeline]
    heals = [Action(at_s, "heal", fault.id, fault.heals_at_recovery) for at_s, fault in zip(ends_s, timeline, strict=True)]
    injects = [Action(fault.at, "inject", fault.id) for fault in timeline]
    begins = [Action(begins_s[step.id], "begin", step.id) for step in steps]
    order: tuple[Verb, ...] = ("heal", "inject", "begin")
    return sorted([*heals, *injects, *begins], key=lambda action: (action.at_s, order.index(action.verb), action.id))


def end_of(timeline: Sequence[FaultBase], objectives: Sequence[ExperimentObjectives], steps: Sequence[TimedStep] = ()) -> float:
    """Seconds from the end of the steady state to the last heal, or until the last step must be over."""
    ends_s = [fault.at + lasts_s(fault, objectives) for fault in timeline]
    begins_s = _begins(timeline, objectives, steps)
    return max([*ends_s, *(begins_s[step.id] + step.at_most_s for step in steps)], default=0.0)


def _begins(
    timeline: Sequence[FaultBase], objectives: Sequence[ExperimentObjectives], steps: Sequence[TimedStep]
) -> dict[str, float]:
    """By step, when it begins at the latest; each stands after those that it comes after."""
    over_s = {fault.id: fault.at for fault in timeline}
    healed_s = {fault.id: fault.at + lasts_s(fault, objectives) for fault in timeline}
    begins_s: dict[str, float] = {}
    for step in steps:
        after_s = over_s.get(step.after or "", 0.0)
        begins_s[step.id] = step.at + max(after_s, healed_s.get(step.after_heal or "", 0.0))
        over_s[step.id] = begins_s[step.id] + step.at_most_s
    return begins_s


def lasts_s(fault: FaultBase, objectives: Sequence[ExperimentObjectives]) -> float:
    """Seconds from the injection to the heal: at least, for a fault without `heal_after`; at most, for a heal at recovery."""
    if isinstance(fault.heal_after, float):
        return fault.heal_after
    if fault.heals_at_recovery:
        limits = [under_fault(one, fault.id).rto for one in objectives]
        return max((missed_after_s(limit.value) for limit in limits if limit is not None), default=0.0)
    longest_rto_s = max((one.rto.value for one in objectives if one.rto is not None), default=0.0)
    return max(_LEAST_S, longest_rto_s * _BEYOND_RTO)


def missed_after_s(rto_s: float) -> float:
    """Seconds from a fault's effect, after which a service that is not back has missed its RTO, and the judge can tell."""
    return max(rto_s * _BEYOND_RTO, rto_s + _BEYOND_RTO_S)
