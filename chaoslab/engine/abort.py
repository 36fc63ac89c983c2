"""Abort conditions: safety limits of the machine, checked during a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from chaoslab.spec.model import Abort
from chaoslab.units import Threshold


@dataclass(frozen=True)
class AbortReason:
    """The condition that fired, and the observed value."""

    condition: str
    observed: str


def abort_reason(limits: Abort, folder: Path) -> AbortReason | None:
    """The first abort condition that holds now, if any. `folder` is on the disk that counts."""
    readings: list[tuple[str, Threshold | None, float]] = [
        ("host_memory", limits.host_memory, psutil.virtual_memory().percent / 100),
        ("disk_used", limits.disk_used, psutil.disk_usage(str(folder)).percent / 100),
    ]
    for name, threshold, measured in readings:
        if threshold is not None and threshold.holds(measured):
            return AbortReason(f"{name} {threshold}", f"{measured:.1%}")
    return None
