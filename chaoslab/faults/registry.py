"""From an entry of a timeline to its fault on a stack."""

from __future__ import annotations

from chaoslab.clock import SYSTEM, Clock
from chaoslab.errors import SpecError
from chaoslab.faults.base import Fault
from chaoslab.spec.fault import FaultBase
from chaoslab.spec.fault_types import fault_types
from chaoslab.stack.protocol import Stack


def fault_for(spec: FaultBase, stack: Stack, clock: Clock = SYSTEM) -> Fault:
    """The fault that this entry requests. Raises SpecError where its package is not installed."""
    known = fault_types().get(spec.fault)
    if known is None:
        raise SpecError(f"no installed package provides the fault {spec.fault!r}")
    fault: Fault = known.make(spec, stack, clock)
    return fault
