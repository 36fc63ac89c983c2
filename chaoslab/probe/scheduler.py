"""Sends the slots of one target on their grid (open loop), each in its own task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.history.rows import Outcome
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.grid import Grid
from chaoslab.probe.sender import Sender


class SlotResult(NamedTuple):
    """What became of one slot. Instants are monotonic; `pooled`: it went over a reused connection."""

    slot: int
    due_ns: int
    sent_ns: int
    end_ns: int
    good: bool
    outcome: Outcome
    status: int | None
    error: str | None
    pooled: bool


class SlotScheduler:
    """Sends every slot when it is due, whatever became of the slots before it, until it is stopped or past the last slot.

    After a stall of this process each missed slot is still sent, late, unless its timeout has passed; then it is bad, unsent.
    Every slot has exactly one result, passed to `on_result`.
    """

    def __init__(
        self,
        sender: Sender,
        grid: Grid,
        on_result: Callable[[SlotResult], None],
        clock: Clock,
        *,
        slots_max: int | None = None,
    ) -> None:
        """Needs a running event loop. `slots_max` None: until it is stopped."""
        self._sender, self._grid, self._on_result, self._clock = sender, grid, on_result, clock
        self._slots_max = slots_max
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None
        self._open: dict[int, tuple[asyncio.Task[None], int]] = {}  # by slot: its task, and when it was sent
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Begin; the first slot is sent when the grid says."""
        self._set_timer(self._clock.now_ns())

    def stop(self) -> None:
        """Send no more slots; those that are open go on. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._over.done():
            self._over.set_result(None)

    async def over(self) -> None:
        """Returns once the last slot is sent. Raises any error of the prober itself, which must not look like an outage."""
        await asyncio.shield(self._over)

    async def drain(self) -> None:
        """Wait for the open slots, at most their own timeout; a slot that is open after that is bad."""
        if self._open:
            await asyncio.wait([task for task, _ in self._open.values()], timeout=self._sender.timeout_s + 0.5)
        for slot, (task, sent_ns) in list(self._open.items()):
            self._report(slot, sent_ns, Exchange(self._clock.now_ns(), sent=True, error="still open at the end"))
            task.cancel()

    def _set_timer(self, now_ns: int) -> None:
        if self._next == self._slots_max:
            self.stop()
            return
        wait_s = (self._grid.due_ns(self._next) - now_ns) / NS_PER_S
        self._timer = asyncio.get_running_loop().call_later(max(0.0, wait_s), self._send_due)

    def _send_due(self) -> None:
        now_ns = self._clock.now_ns()
        while self._grid.due_ns(self._next) <= now_ns and self._next != self._slots_max:
            task = asyncio.get_running_loop().create_task(self._send(self._next))
            self._open[self._next] = (task, self._clock.now_ns())
            task.add_done_callback(self._raise_own_error)
            self._next += 1
        self._set_timer(now_ns)

    async def _send(self, slot: int) -> None:
        sent_ns = self._clock.now_ns()
        left_s = self._sender.timeout_s - (sent_ns - self._grid.due_ns(slot)) / NS_PER_S
        if left_s > 0:
            exchange = await self._sender.send(slot, fresh=slot % 2 == 0, left_s=left_s)
        else:
            exchange = Exchange(sent_ns, sent=False, error="unsent: the prober itself stalled")
        self._report(slot, sent_ns, exchange)

    def _report(self, slot: int, sent_ns: int, exchange: Exchange) -> None:
        """Report a slot once: a slot that `drain` has given up may still end."""
        if self._open.pop(slot, None) is None:
            return
        due_ns = self._grid.due_ns(slot)
        good, outcome, error = self._sender.assess(exchange, due_ns)
        self._on_result(
            SlotResult(slot, due_ns, sent_ns, exchange.end_ns, good, outcome, exchange.status, error, exchange.pooled)
        )

    def _raise_own_error(self, task: asyncio.Task[None]) -> None:
        """Make `over` raise what broke in the prober's own code."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._over.done():
            if self._timer is not None:
                self._timer.cancel()
            self._over.set_exception(error)
