"""The fault vocabulary: what each tag of a timeline does to a stack, how it is proven, and how it is undone."""

from __future__ import annotations

from collections.abc import Callable

from chaoslab.clock import SYSTEM, Clock
from chaoslab.faults.base import ActsInCycles, CycleEvent, EndsByItself, Evidence, Fault
from chaoslab.faults.command import ExecFault
from chaoslab.faults.dependency import DependencyFault
from chaoslab.faults.link import CutFault, DegradeFault, FlapFault
from chaoslab.faults.service import KillFault, PauseFault, RestartFault, StopFault, ThrottleFault
from chaoslab.faults.site import IsolateFault, PowerLossFault
from chaoslab.spec import model
from chaoslab.stack.protocol import Stack

__all__ = ["ActsInCycles", "CycleEvent", "EndsByItself", "Evidence", "Fault", "fault_for"]


_MADE_BY: dict[type[model.FaultBase], Callable[..., Fault]] = {
    model.SitePowerLoss: PowerLossFault,
    model.SiteIsolate: IsolateFault,
    model.LinkCut: CutFault,
    model.LinkDegrade: DegradeFault,
    model.ServiceKill: KillFault,
    model.LinkFlap: FlapFault,
    model.ServicePause: PauseFault,
    model.ServiceStop: StopFault,
    model.ServiceRestart: RestartFault,
    model.ServiceThrottle: ThrottleFault,
    model.DependencyDown: DependencyFault,
    model.Exec: ExecFault,
}


def fault_for(spec: model.FaultBase, stack: Stack, clock: Clock = SYSTEM) -> Fault:
    """The fault that a timeline entry asks for, on this stack."""
    return _MADE_BY[type(spec)](spec, stack, clock)
