"""Starting replicas again when a fault is healed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from chaoslab.clock import Deadline
from chaoslab.stack.protocol import CanHoldBack, Stack

HELD_MAX_S = 20.0


@contextlib.contextmanager
def held_back(stack: Stack, replicas: Sequence[str], deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Replicas of these that start in the block get a small share of the processors until the block ends, however it ends.

    On a busy machine such a boot might never end, so the limit is removed after HELD_MAX_S, or half of the time until the
    deadline. At the end, the dictionary says how the share was limited, for the fault's row.
    """
    detail: dict[str, Any] = {}
    if not isinstance(stack, CanHoldBack):
        yield detail
        return
    stack.hold_back(replicas, min(HELD_MAX_S, deadline.left_s / 2))
    try:
        yield detail
    finally:
        detail["share"] = stack.let_go(replicas)
