"""The boot of what comes back, as the heals of faults do it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from chaoslab.stack.protocol import CanHoldBack, Stack


@contextlib.contextmanager
def held_back(stack: Stack, replicas: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What starts of these in the block has a small share of the processors until the block ends, however it ends.

    What is given says then what was used, for the fault's row.
    """
    detail: dict[str, Any] = {}
    if not isinstance(stack, CanHoldBack):
        yield detail
        return
    stack.hold_back(replicas)
    try:
        yield detail
    finally:
        detail["share"] = stack.let_go(replicas)
