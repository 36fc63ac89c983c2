"""When each fault of a timeline is injected and healed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chaoslab.spec.model import FaultBase, Objectives

_LEAST_S = 30.0  # a fault without a heal time lasts at least this long
_BEYOND_RTO = 1.2  # and longer than the longest RTO, or nobody could miss it


@dataclass(frozen=True, order=True)
class Action:
    """`at_s` counts from the end of the steady state."""

    at_s: float
    verb: Literal["heal", "inject"]  # at the same instant, healing goes first
    fault_id: str


def schedule(timeline: Sequence[FaultBase], objectives: Sequence[Objectives]) -> list[Action]:
    """All injections and heals in order of time; what does not say when it heals does so at the end."""
    end_s = end_of(timeline, objectives)
    actions = [Action(fault.at, "inject", fault.id) for fault in timeline]
    heals = [Action(end_s if fault.heal_after is None else fault.at + fault.heal_after, "heal", fault.id) for fault in timeline]
    return sorted(actions + heals)


def end_of(timeline: Sequence[FaultBase], objectives: Sequence[Objectives]) -> float:
    """Seconds from the end of the steady state to the last heal."""
    open_s = open_for_s(objectives)
    return max((fault.at + (open_s if fault.heal_after is None else fault.heal_after) for fault in timeline), default=0.0)


def open_for_s(objectives: Sequence[Objectives]) -> float:
    """How long a fault lasts at least that does not say when it heals."""
    longest_rto_s = max((one.rto.value for one in objectives if one.rto is not None), default=0.0)
    return max(_LEAST_S, longest_rto_s * _BEYOND_RTO)
