"""The prober without a stack: any URLs; reports outages as they begin and end, each as an interval."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from chaoslab.clock import NS_PER_S, SYSTEM, Clock
from chaoslab.judge.intervals import SKEWED_SHARE_MAX
from chaoslab.judge.outages import Outage, OutageTracker
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.grid import Grid, staggered
from chaoslab.probe.limits import raise_file_limit
from chaoslab.probe.plan import Http, HttpCall, Target, Tcp
from chaoslab.probe.scheduler import SlotResult, SlotScheduler
from chaoslab.probe.senders import sender_of

LEAD_S = 0.05


@dataclass(frozen=True)
class Asked:
    """How to probe: `rate` slots a second for each URL, above 0.

    `for_s` None: until a signal. A slot is good when its answer comes `within_s` of its due time; it ends after `timeout_s`.
    """

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
    """What was seen of one URL: its slots, how many were good or sent more than a period late (`skewed`), and its outages."""

    url: str
    slots: int = 0
    good: int = 0
    skewed: int = 0
    outages: list[Outage] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)  # of each outage's first bad slot


@dataclass(frozen=True)
class Findings:
    """What was seen of all URLs. `t0_ns` is the monotonic instant of the first slot."""

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
    """Probe until `asked.for_s` is over, or SIGINT or SIGTERM comes; then wait for the open slots.

    Raises SpecError when a URL cannot be probed.
    """
    endpoints = [Endpoint.parse(url) for url in urls]
    raise_file_limit()
    return asyncio.run(_probe(urls, endpoints, asked, on_change, clock))


async def _probe(
    urls: Sequence[str], endpoints: Sequence[Endpoint], asked: Asked, on_change: Callable[[Change], None], clock: Clock
) -> Findings:
    t0_ns = clock.now_ns() + round(LEAD_S * NS_PER_S)
    slots_max = None if asked.for_s is None else max(1, round(asked.for_s * asked.rate))
    observers, schedulers = [], []
    for url, endpoint, grid in zip(urls, endpoints, staggered(t0_ns, asked.rate, len(urls)), strict=True):
        target = Target(
            name=endpoint.authority,
            service=endpoint.host,
            op="read",
            how=Tcp() if endpoint.scheme == "tcp" else Http(call=HttpCall(path=""), statuses=tuple(range(200, 400))),
            within_s=asked.within_s,
            timeout_s=asked.timeout_s,
        )
        sender = sender_of(target, endpoint, "", lambda *_: None, clock)
        observer = UrlObserver(url, grid, on_change)
        observers.append(observer)
        schedulers.append(SlotScheduler(sender, grid, observer.on_result, clock, slots_max=slots_max))

    def stop() -> None:
        for scheduler in schedulers:
            scheduler.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    for scheduler in schedulers:
        scheduler.start()
    await asyncio.gather(*(scheduler.over() for scheduler in schedulers))
    await asyncio.gather(*(scheduler.drain() for scheduler in schedulers))
    return Findings(t0_ns, [observer.finish() for observer in observers])


class UrlObserver:
    """Takes the results of one URL's slots, which come in any order, and finds its outages in them.

    An outage is over when a run would say so too: after as many good slots as `stable_slots` asks for.
    """

    def __init__(self, url: str, grid: Grid, on_change: Callable[[Change], None]) -> None:
        self._seen, self._grid, self._on_change = UrlFindings(url), grid, on_change
        self._tracker = OutageTracker(grid.period_ns)
        self._early: dict[int, SlotResult] = {}  # results of slots behind one that is still open
        self._error: str | None = None

    def on_result(self, result: SlotResult) -> None:
        self._early[result.slot] = result
        while (slot := self._early.pop(self._seen.slots, None)) is not None:
            self._seen.slots += 1
            self._seen.good += slot.good
            self._seen.skewed += slot.sent_ns - slot.due_ns > self._grid.period_ns
            was_up = self._tracker.current is None
            ended = self._tracker.feed(slot)
            if was_up and self._tracker.current is not None:
                self._error = slot.error
                self._on_change(Change(self._seen.url, "began", self._tracker.current, slot.error))
            if ended is not None:
                self._keep(ended)
                self._on_change(Change(self._seen.url, "ended", ended, self._error))

    def finish(self) -> UrlFindings:
        last = self._tracker.finish()
        if last is not None:
            self._keep(last)
        return self._seen

    def _keep(self, outage: Outage) -> None:
        self._seen.outages.append(outage)
        self._seen.errors.append(self._error)
