"""How many connections this process may hold open."""

from __future__ import annotations

import contextlib
import resource


def raise_file_limit() -> None:
    """A hung entry holds rate × timeout connections open for each journey: take all the descriptors we may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses what Linux grants; then the soft limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
