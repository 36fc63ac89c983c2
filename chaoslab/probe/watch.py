"""Looks at the ledgers through the entry while the prober writes: what some read had shown, and what a read missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.events import LedgerRead
from chaoslab.probe.grid import Grid
from chaoslab.probe.readback import LedgerReader


def window_after_seq(grid: Grid, now_ns: int, window_s: float) -> int:
    """The sequence after which writes of the last `window_s` begin; -1 while all of them lie inside."""
    due_before_window = (now_ns - round(window_s * NS_PER_S) - grid.t0_ns) * grid.rate / NS_PER_S
    return max(-1, int(due_before_window) - 1)


async def watch_ledger(
    reader: LedgerReader,
    writer: str,
    grid: Grid,
    emit: Callable[[LedgerRead], None],
    clock: Clock,
    *,
    every_s: float,
    window_s: float,
    timeout_s: float,
) -> None:
    """Read the window again and again, `every_s` from begin to begin, until cancelled."""
    while True:
        begin_ns = clock.now_ns()
        emit(await reader.read(writer, window_after_seq(grid, begin_ns, window_s), timeout_s=timeout_s))
        await asyncio.sleep(max(0.0, every_s - (clock.now_ns() - begin_ns) / NS_PER_S))
