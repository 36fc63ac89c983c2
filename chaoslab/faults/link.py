"""Faults of the links between places."""

from __future__ import annotations

import math
import threading
from collections import Counter
from concurrent.futures import Future
from statistics import median
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from chaoslab.background import in_thread
from chaoslab.cleanup.journal import AnyStep
from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective, NotReady
from chaoslab.faults.base import OnCycle, Proof
from chaoslab.faults.destroy import SiteDestroy
from chaoslab.faults.proof import Endpoint, not_hidden, prove_return, prove_silence, reachable
from chaoslab.faults.site import SiteIsolate, SitePowerLoss
from chaoslab.faults.targets import UNKNOWN, UNUSABLE
from chaoslab.spec.fault import FaultBase, Pair, Touched
from chaoslab.spec.fault_types import FaultType
from chaoslab.spec.stackfile.topology import Flow, Topology
from chaoslab.spec.yaml.model import Whole
from chaoslab.spec.yaml.problems import suggest
from chaoslab.spec.yaml.quantities import Ratio, Seconds
from chaoslab.spec.yaml.report import Report
from chaoslab.stack.protocol import Degradation, Stack

# How much of the requested latency has to be seen, and how often it is measured: half allows for jitter.
_SEEN_SHARE = 0.5
_SAMPLES = 5
_STALL_S = 0.1  # half of the shortest time after which TCP resends a lost segment
_POLL_S = 0.02
_MISS_CHANCE = 0.001  # probability that a lossy link looks intact in the sample


class LinkFault(FaultBase):
    """Of the link between two places."""

    source: str = Field(alias="from")
    to: str
    direction: Literal["both", "from-to", "to-from"] = "both"
    target_fields: ClassVar[tuple[str, ...]] = ("source", "to")
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The directions that it affects."""
        there, back = self.ways
        return {"both": (there, back), "from-to": (there,), "to-from": (back,)}[self.direction]

    @property
    def ways(self) -> tuple[Flow, Flow]:
        """Both directions."""
        return Flow(self.source, self.to), Flow(self.to, self.source)

    @property
    def link(self) -> Pair:
        return Pair((self.source, self.to))

    def check(self, topology: Topology, report: Report) -> None:
        for key, place in (("from", self.source), ("to", self.to)):
            if place not in topology.places:
                report((key,), f"unknown place {place!r}{suggest(place, topology.places)}", UNKNOWN)
        if self.source == self.to:
            message = f"a link connects two different places, not {self.to!r} to itself"
            report(("to",), message, UNUSABLE)


class LinkCut(LinkFault):
    """silent: packets are lost. refuse: connections are refused and closed. reset: established ones are reset."""

    fault: Literal["link.cut"]
    in_words: ClassVar[str] = "no connection: {}"
    mode: Literal["silent", "refuse", "reset"] = "silent"

    def touches(self, topology: Topology) -> Touched:
        link = frozenset({self.link})
        return Touched(fences=link) if self.mode == "silent" else Touched(proxies=link)


class LinkDegrade(LinkFault):
    """Latency and jitter one way, bandwidth in kilobytes a second, loss as the share of connections that wait to resend."""

    fault: Literal["link.degrade"]
    in_words: ClassVar[str] = "a poor connection: {}"
    latency: Seconds = 0.0
    jitter: Seconds = 0.0
    bandwidth_kbps: Annotated[Whole, Field(ge=1)] | None = None
    loss: Ratio = 0.0

    def check(self, topology: Topology, report: Report) -> None:
        super().check(topology, report)
        if not (self.latency or self.jitter or self.bandwidth_kbps or self.loss):
            message = "this link.degrade changes nothing; give it latency, jitter, bandwidth_kbps or loss"
            report(("fault",), message, "timeline.no-effect")

    def touches(self, topology: Topology) -> Touched:
        return Touched(proxies=frozenset({self.link}))


class LinkFlap(LinkFault):
    """The link is silently cut and restored `count` times; it is cut for the first half of each `period`.

    The first cut may last longer, until it is verified. After all cycles, the link stays restored.
    """

    fault: Literal["link.flap"]
    in_words: ClassVar[str] = "the connection came and went: {}"
    period: Annotated[Seconds, Field(ge=1.0, description="One cycle: half of it cut, half of it restored; 1s or more.")]
    count: Annotated[Whole, Field(ge=1, le=1000, description="How many cycles.")]

    def check_times(self, report: Report) -> None:
        if self.heals_at_recovery:
            message = (
                f"{self.fault} restores the link in each cycle, which is no recovery; give heal_after a duration, such as 30s"
            )
            report(("heal_after",), message, "timeline.cycles-recovered")
        elif isinstance(self.heal_after, float) and self.period * self.count > self.heal_after:
            message = f"{self.count} cycles of {self.period:g}s do not fit into {self.heal_after:g}s; raise heal_after"
            report(("count",), message, "timeline.cycles-too-long")

    def conflicts_with(self, other: FaultBase) -> bool:
        """No cycle can be verified while an end of the link is missing or another fault cuts the link."""
        if isinstance(other, SiteIsolate | SitePowerLoss):
            return other.site in self.link
        if isinstance(other, SiteDestroy):
            return not self.link.isdisjoint(other.sites)
        return isinstance(other, LinkCut | LinkFlap) and other.link == self.link

    def touches(self, topology: Topology) -> Touched:
        return Touched(fences=frozenset({self.link}))


def _reachable_across(stack: Stack, flows: tuple[Flow, ...]) -> tuple[Endpoint, ...]:
    """Ports that answer callers across the link, in the directions in which connections are opened."""
    return tuple(
        endpoint for flow in flows for endpoint in reachable(stack, stack.topology.in_site(flow.to), seen_from=flow.source)
    )


class CutFault:
    """silent: packets in these directions are lost. refuse and reset: connections in these directions are refused or reset."""

    def __init__(self, spec: LinkCut, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._id = spec.id
        self._mode = spec.mode
        self._stack = stack
        self._clock = clock
        self._flows = spec.flows
        self._opened = spec.ways if spec.mode == "silent" else self._flows
        self._endpoints: tuple[Endpoint, ...] = ()

    def prepare(self) -> None:
        self._endpoints = _reachable_across(self._stack, self._opened)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        links = self._stack.links
        if self._mode == "silent":
            links.fence(self._flows, self._id)
        else:
            {"refuse": links.refuse, "reset": links.reset}[self._mode](self._flows)
        return {"mode": self._mode}

    def verify(self) -> Proof:
        return prove_silence(self._stack, self._endpoints, self._clock)

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        if self._mode == "silent":
            return not_hidden(self._stack.links.lift(self._flows, self._id))
        self._stack.links.restore(self._flows)
        return {}

    def verify_heal(self, deadline: Deadline) -> Proof:
        return prove_return(self._stack, self._endpoints, deadline)


class FlapFault:
    """Repeated silent cuts of one or both directions, by a thread that cuts the link for half of each period."""

    def __init__(self, spec: LinkFlap, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._clock = clock
        self._flows = spec.flows
        self._endpoints: tuple[Endpoint, ...] = ()
        self._looked = threading.Event()  # the first cut waits for it
        self._over = threading.Event()
        self._cuts = 0
        self._is_cut = False  # or about to be
        self._on_cycle: OnCycle = lambda _number, _event: None
        self._let_in: Counter[str] = Counter()
        self._flapping: Future[None] | None = None

    def on_cycle(self, report: OnCycle) -> None:
        self._on_cycle = report

    def prepare(self) -> None:
        self._endpoints = _reachable_across(self._stack, self._spec.ways)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        self._cuts, self._is_cut = 1, True
        self._stack.links.fence(self._flows, self._spec.id)
        self._flapping = in_thread(self._go_on, "flap")
        return {"period_s": self._spec.period, "count": self._spec.count}

    def _go_on(self) -> None:
        """Restore the link after the first cut, and make the later cuts, until all are done or the heal ends it."""
        half_s = self._spec.period / 2
        while self._pause(half_s):
            while not (self._looked.is_set() or self._over.is_set()):
                self._clock.sleep(_POLL_S)
            self._mend()
            if self._cuts == self._spec.count or not self._pause(half_s):
                return
            self._cuts, self._is_cut = self._cuts + 1, True
            self._on_cycle(self._cuts, "inject")
            self._stack.links.fence(self._flows, self._spec.id)
            self._on_cycle(self._cuts, "effective")

    def _pause(self, seconds: float) -> bool:
        """Wait for that time. False if the fault was healed before."""
        deadline = Deadline.after(seconds, self._clock)
        while not (self._over.is_set() or deadline.passed):
            self._clock.sleep(min(_POLL_S, deadline.left_s))
        return not self._over.is_set()

    def _mend(self) -> None:
        """Restore the link. If it is not cut, this does nothing, and is not the heal of a cycle."""
        was_cut = self._is_cut
        if was_cut:
            self._on_cycle(self._cuts, "heal")
        self._let_in += Counter(self._stack.links.lift(self._flows, self._spec.id))
        self._is_cut = False
        if was_cut:
            self._on_cycle(self._cuts, "healed")

    def verify(self) -> Proof:
        """Verify the first cut from outside; each later one is read back from the links."""
        try:
            return prove_silence(self._stack, self._endpoints, self._clock)
        finally:
            self._looked.set()

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Raises the error of a later cut, after the link was restored."""
        self._over.set()
        while self._flapping is not None and not (self._flapping.done() or deadline.passed):
            self._clock.sleep(_POLL_S)
        self._mend()
        if self._flapping is not None and not self._flapping.done():
            raise NotReady(f"waited {deadline.timeout_s:.0f} s for the flapping to end; last seen: cut {self._cuts} times")
        if self._flapping is not None:
            self._flapping.result()
        return {"cuts": self._cuts, "wanted": self._spec.count, **not_hidden(self._let_in)}

    def verify_heal(self, deadline: Deadline) -> Proof:
        return prove_return(self._stack, self._endpoints, deadline)


class DegradeFault:
    """Latency, jitter, bandwidth and loss in these directions."""

    def __init__(self, spec: LinkDegrade, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._clock = clock
        self._flows = spec.flows
        self._endpoints: tuple[Endpoint, ...] = ()
        self._before_s = 0.0

    def prepare(self) -> None:
        self._endpoints = _reachable_across(self._stack, (Flow(self._spec.source, self._spec.to),))
        self._before_s = self._latency_s()

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        how = Degradation(
            latency_ms=round(self._spec.latency * 1000),
            jitter_ms=round(self._spec.jitter * 1000),
            bandwidth_kbps=self._spec.bandwidth_kbps,
            loss=self._spec.loss,
        )
        self._stack.links.degrade(self._flows, how)
        return {"latency_before_ms": self._before_s * 1000}

    def verify(self) -> Proof:
        since_ns = self._clock.now_ns()
        detail: dict[str, Any] = {"evidence": "read back from the proxies"}
        if self._spec.latency:
            now_s, wanted_s = self._latency_s(), self._spec.latency * _SEEN_SHARE
            if now_s - self._before_s < wanted_s:
                raise FaultNotEffective(
                    f"an answer across the link took {self._before_s * 1000:.0f} ms before and {now_s * 1000:.0f} ms now; "
                    f"at least {wanted_s * 1000:.0f} ms more were expected"
                )
            detail = {"latency_ms": now_s * 1000}
        if self._spec.loss:
            tries = math.ceil(math.log(_MISS_CHANCE) / math.log(1 - self._spec.loss)) if self._spec.loss < 1 else 1
            usual_s = self._before_s + len(self._flows) * (self._spec.latency + self._spec.jitter)
            for number in range(1, tries + 1):
                answered, took_s = self._ask()
                if not answered or took_s - usual_s > _STALL_S:
                    return Proof(since_ns, detail | {"stalled_at": number})
            raise FaultNotEffective(f"none of {tries} requests across the link stalled for {_STALL_S} s")
        return Proof(since_ns, detail)

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._stack.links.restore(self._flows)
        return {}

    def verify_heal(self, deadline: Deadline) -> Proof:
        return prove_return(self._stack, self._endpoints, deadline)

    def _latency_s(self) -> float:
        return median(self._ask()[1] for _ in range(_SAMPLES))

    def _ask(self) -> tuple[bool, float]:
        endpoint, began_ns = self._endpoints[0], self._clock.now_ns()
        timeout_s = 1.0 + 2 * (self._spec.latency + self._spec.jitter)
        answered = self._stack.reaches(endpoint.replica, endpoint.port, seen_from=endpoint.seen_from, timeout_s=timeout_s)
        return answered, (self._clock.now_ns() - began_ns) / NS_PER_S


FAULT_TYPES = (FaultType(LinkCut, CutFault), FaultType(LinkDegrade, DegradeFault), FaultType(LinkFlap, FlapFault))
