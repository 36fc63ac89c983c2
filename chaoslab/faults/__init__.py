"""The fault vocabulary: what each tag of a timeline does to a stack, how it is proven, and how it is undone."""

from __future__ import annotations

from collections.abc import Callable

from chaoslab.faults.base import Evidence, Fault
from chaoslab.faults.command import ExecFault
from chaoslab.faults.link import CutFault, DegradeFault
from chaoslab.faults.service import KillFault, PauseFault
from chaoslab.faults.site import IsolateFault, PowerLossFault
from chaoslab.spec import model
from chaoslab.stack.protocol import Stack

__all__ = ["Evidence", "Fault", "fault_for"]


_MADE_BY: dict[type[model.FaultBase], Callable[..., Fault]] = {
    model.SitePowerLoss: PowerLossFault,
    model.SiteIsolate: IsolateFault,
    model.LinkCut: CutFault,
    model.LinkDegrade: DegradeFault,
    model.ServiceKill: KillFault,
    model.ServicePause: PauseFault,
    model.Exec: ExecFault,
}


def fault_for(spec: model.FaultBase, stack: Stack) -> Fault:
    """The fault that a timeline entry asks for, on this stack."""
    return _MADE_BY[type(spec)](spec, stack)
