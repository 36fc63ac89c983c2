"""The slots of one target, sent on their grid, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.events import Outcome
from chaoslab.probe.grid import Grid
from chaoslab.probe.shooter import Shooter
from chaoslab.probe.wire import Answer


class Shot(NamedTuple):
    """One slot as it went."""

    slot: int
    due_ns: int
    sent_ns: int
    end_ns: int
    good: bool
    outcome: Outcome
    status: int | None
    error: str | None
    pooled: bool


class Line:
    """Sends every slot when it is due, whatever became of the ones before, until told to stop or past the last.

    After a stall of our own each missed slot is still sent, late, unless its time is over; then it is bad as it stands.
    """

    def __init__(
        self, shooter: Shooter, grid: Grid, emit: Callable[[Shot], None], clock: Clock, *, slots_max: int | None = None
    ) -> None:
        self._shooter, self._grid, self._emit, self._clock = shooter, grid, emit, clock
        self._slots_max = slots_max
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None
        self._open: dict[int, tuple[asyncio.Task[None], int]] = {}  # by slot: who carries it, and when it was sent
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Begin; the first slot goes out when the grid says."""
        self._arm(self._clock.now_ns())

    def stop(self) -> None:
        """Send no more slots; those under way go on."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._over.done():
            self._over.set_result(None)

    async def over(self) -> None:
        """Returns once the last slot is sent. Raises what broke in our own code, if anything did."""
        await asyncio.shield(self._over)

    async def drain(self) -> None:
        """Wait for the slots under way, at most their own timeout; one that is still open then is bad."""
        if self._open:
            await asyncio.wait([task for task, _ in self._open.values()], timeout=self._shooter.timeout_s + 0.5)
        for slot, (task, sent_ns) in list(self._open.items()):
            self._report(slot, sent_ns, Answer(self._clock.now_ns(), sent=True, error="still open at the end"))
            task.cancel()

    def _arm(self, now_ns: int) -> None:
        if self._next == self._slots_max:
            self.stop()
            return
        wait_s = (self._grid.due_ns(self._next) - now_ns) / NS_PER_S
        self._timer = asyncio.get_running_loop().call_later(max(0.0, wait_s), self._tick)

    def _tick(self) -> None:
        now_ns = self._clock.now_ns()
        while self._grid.due_ns(self._next) <= now_ns and self._next != self._slots_max:
            self._send(self._next)
            self._next += 1
        self._arm(now_ns)

    def _send(self, slot: int) -> None:
        task = asyncio.get_running_loop().create_task(self._fly(slot))
        self._open[slot] = (task, self._clock.now_ns())
        task.add_done_callback(self._landed)

    async def _fly(self, slot: int) -> None:
        sent_ns = self._clock.now_ns()
        left_s = self._shooter.timeout_s - (sent_ns - self._grid.due_ns(slot)) / NS_PER_S
        if left_s > 0:
            answer = await self._shooter.shoot(slot, fresh=slot % 2 == 0, left_s=left_s)
        else:
            answer = Answer(sent_ns, sent=False, error="unsent: the prober itself stood still")
        self._report(slot, sent_ns, answer)

    def _report(self, slot: int, sent_ns: int, answer: Answer) -> None:
        """Once for each slot: one that was given up may still come to an end."""
        if self._open.pop(slot, None) is None:
            return
        due_ns = self._grid.due_ns(slot)
        found = self._shooter.assess(answer, due_ns)
        self._emit(
            Shot(slot, due_ns, sent_ns, answer.end_ns, found.good, found.outcome, answer.status, found.error, answer.pooled)
        )

    def _landed(self, task: asyncio.Task[None]) -> None:
        broken = None if task.cancelled() else task.exception()
        if broken is not None and not self._over.done():
            if self._timer is not None:
                self._timer.cancel()
            self._over.set_exception(broken)
