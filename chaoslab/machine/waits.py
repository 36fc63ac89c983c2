"""How long the control keeps its caller waiting: probed as the journeys are, told second by second."""

from __future__ import annotations

import asyncio
from typing import Literal

from chaoslab.clock import NS_PER_S, Clock
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.grid import Grid, staggered
from chaoslab.probe.line import Line, Shot
from chaoslab.probe.plan import Target
from chaoslab.probe.shooter import HttpShooter
from chaoslab.probe.wire import Wire
from chaoslab.starvation import FSYNC, READ

RATE = 10.0
TIMEOUT_S = 10.0
_LEAD_S = 0.05


class Waits:
    """Of one target: the longest wait of each second, answered or not."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._next = 0  # the first slot that may still be open
        self._answered: set[int] = set()
        self._longest_ns: int | None = None
        self._refused: str | None = None

    def take(self, shot: Shot) -> None:
        """A slot has come to its end."""
        self._answered.add(shot.slot)
        if shot.good or shot.end_ns - shot.due_ns >= TIMEOUT_S * NS_PER_S:
            self._longest_ns = max(self._longest_ns or 0, shot.end_ns - shot.due_ns)
        else:
            self._refused = shot.error

    def until(self, now_ns: int) -> tuple[float | None, str | None]:
        """The longest wait in milliseconds since the last call, and why there was no right answer, if so."""
        longest_ns, refused = self._longest_ns, self._refused
        self._longest_ns = self._refused = None
        while self._next in self._answered:
            self._answered.discard(self._next)
            self._next += 1
        oldest_ns = now_ns - self._grid.due_ns(self._next)  # of the slots that are still open
        if oldest_ns > 0:
            longest_ns = max(longest_ns or 0, oldest_ns)
        return (None if longest_ns is None else round(longest_ns / 1e6, 1)), refused


class ControlProbe:
    """A line of reads and a line of fsyncs to one control."""

    def __init__(self, url: str, clock: Clock) -> None:
        endpoint = Endpoint.parse(url)
        grids = staggered(clock.now_ns() + round(_LEAD_S * NS_PER_S), RATE, 2)
        self._wire = Wire(endpoint, clock)
        self._overs: list[asyncio.Task[None]] = []
        self._waits = {name: Waits(grid) for name, grid in zip((READ, FSYNC), grids, strict=True)}
        self._lines = [
            Line(HttpShooter(target, endpoint, "", self._wire), grid, self._waits[name].take, clock)
            for (name, target), grid in zip(_targets().items(), grids, strict=True)
        ]

    def start(self) -> None:
        for line in self._lines:
            line.start()
        self._overs = [asyncio.create_task(line.over()) for line in self._lines]

    def stop(self) -> None:
        """Send no more; what is under way is of no interest any more."""
        for line in self._lines:
            line.stop()
        for over in self._overs:
            over.cancel()
        self._wire.close()

    def until(self, now_ns: int) -> tuple[dict[str, float | None], list[str]]:
        """The longest waits since the last call by name, and what went wrong besides. Raises what broke in our own code."""
        for over in self._overs:
            if over.done():
                over.result()
        told = {name: waits.until(now_ns) for name, waits in self._waits.items()}
        refused = [f"the control's {name}: {why}" for name, (_, why) in told.items() if why is not None]
        return {name: longest for name, (longest, _) in told.items()}, refused


def _targets() -> dict[str, Target]:
    return {READ: _target(READ, "read", "GET"), FSYNC: _target(FSYNC, "write", "POST")}


def _target(name: str, op: Literal["read", "write"], method: str) -> Target:
    path, waits_s = f"/{name}", TIMEOUT_S
    return Target(name=name, service="control", op=op, method=method, path=path, within_s=waits_s, timeout_s=waits_s)
