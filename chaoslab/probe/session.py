"""One prober at work: a plan's lines and ledger watches, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.events import Probe, Row
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.grid import Grid, staggered
from chaoslab.probe.line import Line, Shot
from chaoslab.probe.payload import hash_of, payload_of, write_id
from chaoslab.probe.plan import LedgerTarget, ProbePlan, Target, writer_of
from chaoslab.probe.readback import LedgerReader
from chaoslab.probe.shooter import HttpShooter
from chaoslab.probe.watch import watch_ledger
from chaoslab.probe.wire import Wire

LEAD_S = 0.05  # from the start to the first slot


async def run_plan(plan: ProbePlan, emit: Callable[[Row], None], stop: asyncio.Event, clock: Clock) -> None:
    """Probe until `stop` is set, then wait for the slots under way.

    Raises SpecError when a target cannot be sent at all, and whatever breaks in our own code: a prober that is itself
    broken must not look like an outage.
    """
    endpoint = Endpoint.parse(plan.base_url)
    grids = staggered(clock.now_ns() + round(LEAD_S * NS_PER_S), plan.rate, len(plan.targets))
    posts = [
        _Post(plan, target, grid, endpoint, Wire(endpoint, clock), emit, clock)
        for target, grid in zip(plan.targets, grids, strict=True)
    ]
    lines = [post.line() for post in posts]
    watches = [asyncio.create_task(post.watch(post.target.ledger)) for post in posts if post.target.ledger]
    for line in lines:
        line.start()
    try:
        await _until_stopped(stop, lines, watches)
    finally:
        await _end(lines, watches)
        for post in posts:
            post.wire.close()


@dataclass(frozen=True)
class _Post:
    """One target with all that it takes to probe it."""

    plan: ProbePlan
    target: Target
    grid: Grid
    endpoint: Endpoint
    wire: Wire
    emit: Callable[[Row], None]
    clock: Clock

    @property
    def writer(self) -> str:
        return writer_of(self.plan.writer, self.target.name)

    def line(self) -> Line:
        return Line(HttpShooter(self.target, self.endpoint, self.writer, self.wire), self.grid, self.report, self.clock)

    async def watch(self, ledger: LedgerTarget) -> None:
        await watch_ledger(
            LedgerReader(self.target, ledger, self.endpoint, self.wire, self.clock),
            self.writer,
            self.grid,
            self.emit,
            self.clock,
            every_s=self.plan.ledger_every_s,
            window_s=self.plan.ledger_window_s,
            timeout_s=self.target.timeout_s,
        )

    def report(self, shot: Shot) -> None:
        """The slot as a row of history."""
        target, writer = self.target, self.writer
        written = write_id(writer, shot.slot) if target.op == "write" else None
        self.emit(
            Probe(
                t_ns=self.clock.now_ns(),
                journey=target.name,
                service=target.service,
                op=target.op,
                due_ns=shot.due_ns,
                sent_ns=shot.sent_ns,
                end_ns=shot.end_ns,
                good=shot.good,
                outcome=shot.outcome,
                id=written,
                writer=writer if written else None,
                seq=shot.slot if written else None,
                hash=hash_of(payload_of(written)) if written else None,
                status=shot.status,
                error=shot.error,
                pooled=shot.pooled,
            )
        )


async def _until_stopped(stop: asyncio.Event, lines: Sequence[Line], watches: Sequence[asyncio.Task[None]]) -> None:
    """Raises the first error of our own."""
    ours = [asyncio.create_task(stop.wait()), *(asyncio.create_task(line.over()) for line in lines)]
    try:
        done, _ = await asyncio.wait([*ours, *watches], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in ours:
            task.cancel()


async def _end(lines: Sequence[Line], watches: Sequence[asyncio.Task[None]]) -> None:
    for line in lines:
        line.stop()
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*(line.drain() for line in lines))
    for watch in watches:
        with contextlib.suppress(asyncio.CancelledError):
            await watch
