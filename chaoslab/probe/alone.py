"""The prober without a stack: any URLs, outages as they happen, and each as an interval at the end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from chaoslab.clock import NS_PER_S, SYSTEM, Clock
from chaoslab.outages import Outage, OutageTracker
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.grid import Grid, staggered
from chaoslab.probe.limits import raise_file_limit
from chaoslab.probe.line import Line, Shot
from chaoslab.probe.plan import Target
from chaoslab.probe.shooter import HttpShooter, Shooter, TcpShooter
from chaoslab.probe.wire import Wire

STABLE_SLOTS = 3  # good ones in a row that end an outage, so that one that comes and goes is told as one
SKEWED_SHARE_MAX = 0.01
LEAD_S = 0.05


@dataclass(frozen=True)
class Asked:
    """How to look. `for_s` None means until a signal; `within_s` counts from the due time."""

    rate: float = 50.0
    for_s: float | None = None
    within_s: float = 0.5
    timeout_s: float = 1.0


@dataclass(frozen=True)
class Change:
    """An outage of a URL began or ended. `error` is that of its first bad slot."""

    url: str
    event: Literal["began", "ended"]
    outage: Outage
    error: str | None


@dataclass
class UrlFindings:
    """What was seen of one URL."""

    url: str
    slots: int = 0
    good: int = 0
    skewed: int = 0
    outages: list[Outage] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)  # of each outage's first bad slot


@dataclass(frozen=True)
class Findings:
    """What was seen. `t0_ns` is the monotonic instant of the first slot."""

    t0_ns: int
    urls: list[UrlFindings]

    @property
    def slots(self) -> int:
        return sum(found.slots for found in self.urls)

    @property
    def good(self) -> int:
        return sum(found.good for found in self.urls)

    @property
    def skewed(self) -> int:
        return sum(found.skewed for found in self.urls)

    @property
    def trustworthy(self) -> bool:
        """Whether the prober itself kept time: at most 1 % of its slots went out more than a period late."""
        return self.skewed <= SKEWED_SHARE_MAX * self.slots


def probe_urls(
    urls: Sequence[str], asked: Asked, on_change: Callable[[Change], None] = lambda _: None, clock: Clock = SYSTEM
) -> Findings:
    """Probe until the time is over, or SIGINT or SIGTERM comes; then wait for what is under way.

    Raises SpecError when a URL cannot be probed.
    """
    endpoints = [Endpoint.parse(url) for url in urls]
    raise_file_limit()
    return asyncio.run(_probe(urls, endpoints, asked, on_change, clock))


async def _probe(
    urls: Sequence[str], endpoints: Sequence[Endpoint], asked: Asked, on_change: Callable[[Change], None], clock: Clock
) -> Findings:
    t0_ns = clock.now_ns() + round(LEAD_S * NS_PER_S)
    grids = staggered(t0_ns, asked.rate, len(urls))
    watches = [_Watch(UrlFindings(url), grid, on_change) for url, grid in zip(urls, grids, strict=True)]
    slots_max = None if asked.for_s is None else max(1, round(asked.for_s * asked.rate))
    lines = [
        Line(_shooter(endpoint, asked, clock), watch.grid, watch.see, clock, slots_max=slots_max)
        for endpoint, watch in zip(endpoints, watches, strict=True)
    ]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop_all, lines)
    for line in lines:
        line.start()
    await asyncio.gather(*(line.over() for line in lines))
    await asyncio.gather(*(line.drain() for line in lines))
    return Findings(t0_ns, [watch.finish() for watch in watches])


def _stop_all(lines: Sequence[Line]) -> None:
    for line in lines:
        line.stop()


def _shooter(endpoint: Endpoint, asked: Asked, clock: Clock) -> Shooter:
    target = Target(
        name=endpoint.authority,
        service=endpoint.host,
        op="read",
        method="GET",
        path="",
        statuses=tuple(range(200, 400)),
        within_s=asked.within_s,
        timeout_s=asked.timeout_s,
    )
    wire = Wire(endpoint, clock)
    return TcpShooter(target, wire) if endpoint.scheme == "tcp" else HttpShooter(target, endpoint, "", wire)


class _Watch:
    """Puts one URL's slots, which end in any order, back into order and finds its outages."""

    def __init__(self, found: UrlFindings, grid: Grid, on_change: Callable[[Change], None]) -> None:
        self.grid = grid
        self._found, self._on_change = found, on_change
        self._tracker = OutageTracker(STABLE_SLOTS)
        self._early: dict[int, Shot] = {}
        self._error: str | None = None

    def see(self, shot: Shot) -> None:
        self._early[shot.slot] = shot
        while (next_shot := self._early.pop(self._found.slots, None)) is not None:
            self._take(next_shot)

    def finish(self) -> UrlFindings:
        last = self._tracker.finish()
        if last is not None:
            self._keep(last)
        return self._found

    def _take(self, shot: Shot) -> None:
        self._found.slots += 1
        self._found.good += shot.good
        self._found.skewed += shot.sent_ns - shot.due_ns > self.grid.period_ns
        was_up = self._tracker.current is None
        ended = self._tracker.feed(shot)
        if was_up and self._tracker.current is not None:
            self._error = shot.error
            self._on_change(Change(self._found.url, "began", self._tracker.current, shot.error))
        if ended is not None:
            self._keep(ended)
            self._on_change(Change(self._found.url, "ended", ended, self._error))

    def _keep(self, outage: Outage) -> None:
        self._found.outages.append(outage)
        self._found.errors.append(self._error)
