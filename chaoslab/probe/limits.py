"""What this process may take of the machine: descriptors, and a turn on the processor when a slot is due."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import Final

_NICE: Final = -10


def raise_file_limit() -> None:
    """A hung entry holds rate × timeout connections open for each journey: take all the descriptors we may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses what Linux grants; then the soft limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def come_first() -> None:
    """Run before what is measured where that is allowed (root); elsewhere late slots show as skew all the same."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
