"""How many connections this process may hold open."""

from __future__ import annotations

import contextlib
import resource


def raise_file_limit() -> None:
    """Raise the limit on open files as far as this process may; never an error.

    An entry that hangs holds rate × timeout connections open for each journey.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses what Linux grants: the soft limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
