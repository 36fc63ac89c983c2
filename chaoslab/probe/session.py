"""Executes a plan: the slots and the ledger reads of its targets, until stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.history.rows import Machine, Probe, Row
from chaoslab.judge.starvation import JOURNEY
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.grid import Grid, staggered
from chaoslab.probe.ledger_reader import LedgerReader
from chaoslab.probe.ledger_source import require_source
from chaoslab.probe.payload import hash_of, payload_of, write_id
from chaoslab.probe.plan import ProbePlan, Target, writer_of
from chaoslab.probe.scheduler import SlotResult, SlotScheduler
from chaoslab.probe.senders import sender_of
from chaoslab.probe.sessions import wait_for_closing

LEAD_S = 0.05  # from the start to the first slot
CLOSE_S = 1.5  # what closing connections may take at the end


async def run_plan(plan: ProbePlan, emit: Callable[[Row], None], stop: asyncio.Event, clock: Clock) -> None:
    """Probe until `stop` is set, then wait for the open slots.

    Raises SpecError when a target cannot be sent at all, and any error of the prober's own code: a prober that is itself
    broken must not look like an outage.
    """
    main = Endpoint.parse(plan.base_url)
    probers = []
    try:
        for target in plan.targets:
            endpoint = Endpoint.of(target.entry) if target.entry is not None else main
            probers.append(_TargetProber(plan, target, endpoint, emit, clock))
    except BaseException:
        for prober in probers:
            prober.sender.close()
        raise
    grids = staggered(clock.now_ns() + round(LEAD_S * NS_PER_S), plan.rate, len(plan.targets))
    for prober, grid in zip(probers, grids, strict=True):
        prober.begin(grid)
    tasks = [
        asyncio.create_task(stop.wait()),
        *(asyncio.create_task(prober.slots.over()) for prober in probers),
        *(asyncio.create_task(prober.read_ledger(prober.ledger)) for prober in probers if prober.ledger),
    ]
    for prober in probers:
        prober.slots.start()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for prober in probers:
            prober.slots.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(prober.slots.drain() for prober in probers))
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for prober in probers:
            prober.sender.close()
        await wait_for_closing(CLOSE_S)


class _TargetProber:
    """One target with all that it takes to probe it."""

    slots: SlotScheduler

    def __init__(self, plan: ProbePlan, target: Target, endpoint: Endpoint, emit: Callable[[Row], None], clock: Clock) -> None:
        self._plan, self._target, self._emit, self._clock = plan, target, emit, clock
        self._writer = writer_of(plan.writer, target.name)
        self.sender = sender_of(target, endpoint, self._writer, self._note_blocked, clock)
        ledger = target.ledger
        if ledger is not None:
            require_source(ledger.site)
        how = ledger.entry if ledger is not None else None
        self.ledger = LedgerReader(target, ledger, how, endpoint, clock) if ledger is not None and how is not None else None

    def begin(self, grid: Grid) -> None:
        """The slots are due on this grid, once `slots` is started."""
        self._grid = grid
        self.slots = SlotScheduler(self.sender, grid, self._write_row, self._clock)

    async def read_ledger(self, ledger: LedgerReader) -> None:
        """Read the writes of the last seconds through the entry again and again, from begin to begin, until cancelled."""
        plan, grid = self._plan, self._grid
        while True:
            begin_ns = self._clock.now_ns()
            before_window_ns = begin_ns - round(plan.ledger_window_s * NS_PER_S) - grid.t0_ns
            after_seq = max(-1, int(before_window_ns * grid.rate / NS_PER_S) - 1)
            self._emit(await ledger.read(self._writer, after_seq, timeout_s=self._target.timeout_s))
            await asyncio.sleep(max(0.0, plan.ledger_every_s - (self._clock.now_ns() - begin_ns) / NS_PER_S))

    def _note_blocked(self, begin_ns: int, end_ns: int) -> None:
        """A user's class kept the event loop from everything else: a second in which the instrument stood still."""
        why = f"{self._target.name}: its class blocked the prober for {(end_ns - begin_ns) / NS_PER_S:.2f} s"
        self._emit(Machine(t_ns=end_ns, begin_ns=begin_ns, starved=True, late=[JOURNEY], why=why))

    def _write_row(self, result: SlotResult) -> None:
        target = self._target
        written = write_id(self._writer, result.slot) if target.op == "write" else None
        self._emit(
            Probe(
                t_ns=self._clock.now_ns(),
                journey=target.name,
                service=target.service,
                op=target.op,
                due_ns=result.due_ns,
                sent_ns=result.sent_ns,
                end_ns=result.end_ns,
                good=result.good,
                outcome=result.outcome,
                id=written,
                writer=self._writer if written else None,
                seq=result.slot if written else None,
                hash=hash_of(payload_of(written)) if written else None,
                status=result.status,
                error=result.error,
                pooled=result.pooled,
            )
        )
