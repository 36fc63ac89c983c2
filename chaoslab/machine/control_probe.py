"""Probes the control as journeys are probed, and keeps the longest wait of each second."""

from __future__ import annotations

import asyncio
from typing import Literal

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.judge.starvation import FSYNC, READ
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.grid import Grid, staggered
from chaoslab.probe.http_sender import HttpSender
from chaoslab.probe.plan import Http, HttpCall, Target
from chaoslab.probe.scheduler import SlotResult, SlotScheduler

RATE = 10.0
TIMEOUT_S = 10.0
_LEAD_S = 0.05
_KINDS: tuple[tuple[str, Literal["read", "write"], str], ...] = ((READ, "read", "GET"), (FSYNC, "write", "POST"))


class LongestWait:
    """The longest wait for one target's slots, answered or not, since it was last taken."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._next = 0  # the first slot that may still be open
        self._ended: set[int] = set()
        self._longest_ns: int | None = None
        self._failure: str | None = None

    def on_result(self, result: SlotResult) -> None:
        self._ended.add(result.slot)
        wait_ns = result.end_ns - result.due_ns
        if result.good or wait_ns >= TIMEOUT_S * NS_PER_S:
            self._longest_ns = max(self._longest_ns or 0, wait_ns)
        else:
            self._failure = result.error

    def take(self, now_ns: int) -> tuple[float | None, str | None]:
        """The longest wait in milliseconds since the last call, open slots included, and why a slot failed, if one did."""
        longest_ns, failure = self._longest_ns, self._failure
        self._longest_ns = self._failure = None
        while self._next in self._ended:
            self._ended.discard(self._next)
            self._next += 1
        oldest_open_ns = now_ns - self._grid.due_ns(self._next)
        if oldest_open_ns > 0:
            longest_ns = max(longest_ns or 0, oldest_open_ns)
        return (None if longest_ns is None else round(longest_ns / 1e6, 1)), failure


class ControlProbe:
    """Probes the reads and the fsyncs of one control, each ten times a second."""

    def __init__(self, url: str, clock: Clock) -> None:
        """Needs a running event loop. Raises SpecError when `url` is not a URL."""
        endpoint = Endpoint.parse(url)
        grids = staggered(clock.now_ns() + round(_LEAD_S * NS_PER_S), RATE, len(_KINDS))
        self._senders: list[HttpSender] = []
        self._overs: list[asyncio.Task[None]] = []
        self._waits: dict[str, LongestWait] = {}
        self._schedulers: list[SlotScheduler] = []
        for (name, op, method), grid in zip(_KINDS, grids, strict=True):
            how = Http(call=HttpCall(method=method, path=f"/{name}"))
            target = Target(name=name, service="control", op=op, how=how, within_s=TIMEOUT_S, timeout_s=TIMEOUT_S)
            self._waits[name] = LongestWait(grid)
            sender = HttpSender(target, how, endpoint, "", clock)
            self._senders.append(sender)
            self._schedulers.append(SlotScheduler(sender, grid, self._waits[name].on_result, clock))

    def start(self) -> None:
        for scheduler in self._schedulers:
            scheduler.start()
        self._overs = [asyncio.create_task(scheduler.over()) for scheduler in self._schedulers]

    def stop(self) -> None:
        """Send no more slots; the results of those that are open are not needed."""
        for scheduler in self._schedulers:
            scheduler.stop()
        for over in self._overs:
            over.cancel()
        for sender in self._senders:
            sender.close()

    def longest_waits(self, now_ns: int) -> tuple[dict[str, float | None], list[str]]:
        """The longest waits (ms) since the last call by name, and why slots failed. Raises any error of the prober's own."""
        for over in self._overs:
            if over.done():
                over.result()
        taken = {name: wait.take(now_ns) for name, wait in self._waits.items()}
        failures = [f"the control's {name}: {failure}" for name, (_, failure) in taken.items() if failure is not None]
        return {name: longest_ms for name, (longest_ms, _) in taken.items()}, failures
