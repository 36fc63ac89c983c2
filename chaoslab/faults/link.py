"""Faults of the links between places."""

from __future__ import annotations

import math
import threading
from collections import Counter
from concurrent.futures import Future
from statistics import median
from typing import Any

from chaoslab.background import in_thread
from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline
from chaoslab.errors import FaultNotEffective, NotReady
from chaoslab.faults.base import Evidence, TellCycle
from chaoslab.faults.witness import Witness, not_hidden, prove_return, prove_silence, witnesses
from chaoslab.spec.model import LinkCut, LinkDegrade, LinkFlap
from chaoslab.stack.protocol import Degradation, Stack
from chaoslab.stack.topology import Flow
from chaoslab.undo import AnyStep

# How much of the promised latency has to be seen, and how often it is measured: half leaves room for jitter.
_SEEN_SHARE = 0.5
_SAMPLES = 5
_STALL_S = 0.1  # half of the least time after which TCP sends a lost segment again
_POLL_S = 0.02
_MISS_CHANCE = 0.01  # of a lossy link looking whole in the sample


def flows_of(spec: LinkCut | LinkDegrade | LinkFlap) -> tuple[Flow, ...]:
    """The ways that a link fault is about."""
    there, back = Flow(spec.source, spec.to), Flow(spec.to, spec.source)
    return {"both": (there, back), "from-to": (there,), "to-from": (back,)}[spec.direction]


def _callers(stack: Stack, flows: tuple[Flow, ...]) -> tuple[Witness, ...]:
    """Ports that answer callers across the link; the ways of the flows are those in which connections are opened."""
    return tuple(
        witness for flow in flows for witness in witnesses(stack, stack.topology.in_site(flow.to), seen_from=flow.source)
    )


class CutFault:
    """silent: packets of these ways vanish. refuse and reset: connections opened these ways are turned away."""

    def __init__(self, spec: LinkCut, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._mode = spec.mode
        self._stack = stack
        self._clock = clock
        self._flows = flows_of(spec)
        self._opened = (Flow(spec.source, spec.to), Flow(spec.to, spec.source)) if spec.mode == "silent" else self._flows
        self._witnesses: tuple[Witness, ...] = ()

    def prepare(self) -> None:
        self._witnesses = _callers(self._stack, self._opened)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        links = self._stack.links
        {"silent": links.fence, "refuse": links.refuse, "reset": links.reset}[self._mode](self._flows)
        return {"mode": self._mode}

    def verify(self) -> Evidence:
        return prove_silence(self._stack, self._witnesses, self._clock)

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        if self._mode == "silent":
            return not_hidden(self._stack.links.lift(self._flows))
        self._stack.links.restore(self._flows)
        return {}

    def verify_heal(self, deadline: Deadline) -> Evidence:
        return prove_return(self._stack, self._witnesses, deadline)


class FlapFault:
    """Silent cuts of both or one of the ways, again and again, by a thread that holds the link for half of each period."""

    def __init__(self, spec: LinkFlap, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._clock = clock
        self._flows = flows_of(spec)
        self._witnesses: tuple[Witness, ...] = ()
        self._looked = threading.Event()  # the first cut waits for it
        self._over = threading.Event()
        self._cuts = 0
        self._is_cut = False  # or about to be
        self._tell: TellCycle = lambda _number, _event: None
        self._let_in: Counter[str] = Counter()
        self._flapping: Future[None] | None = None

    def tell_cycles(self, tell: TellCycle) -> None:
        self._tell = tell

    def prepare(self) -> None:
        there_and_back = (Flow(self._spec.source, self._spec.to), Flow(self._spec.to, self._spec.source))
        self._witnesses = _callers(self._stack, there_and_back)

    def undo_steps(self) -> list[AnyStep]:
        return []

    def inject(self) -> dict[str, Any]:
        self._cuts, self._is_cut = 1, True
        self._stack.links.fence(self._flows)
        self._flapping = in_thread(self._flap, "flap")
        return {"period_s": self._spec.period, "count": self._spec.count}

    def _flap(self) -> None:
        half_s = self._spec.period / 2
        while self._pause(half_s):
            while not (self._looked.is_set() or self._over.is_set()):
                self._clock.sleep(_POLL_S)
            self._mend()
            if self._cuts == self._spec.count or not self._pause(half_s):
                return
            self._cut_again()

    def _pause(self, seconds: float) -> bool:
        """False when it is over before that time has passed."""
        deadline = Deadline.after(seconds, self._clock)
        while not (self._over.is_set() or deadline.passed):
            self._clock.sleep(min(_POLL_S, deadline.left_s))
        return not self._over.is_set()

    def _cut_again(self) -> None:
        self._cuts, self._is_cut = self._cuts + 1, True
        self._tell(self._cuts, "inject")
        self._stack.links.fence(self._flows)
        self._tell(self._cuts, "effective")

    def _mend(self) -> None:
        """Lift the cut. Lifting a link that is whole does nothing, and is no cycle's heal."""
        was_cut = self._is_cut
        if was_cut:
            self._tell(self._cuts, "heal")
        self._let_in += Counter(self._stack.links.lift(self._flows))
        self._is_cut = False
        if was_cut:
            self._tell(self._cuts, "healed")

    def verify(self) -> Evidence:
        """Of the first cut, from outside; the links themselves read back each later one."""
        try:
            return prove_silence(self._stack, self._witnesses, self._clock)
        finally:
            self._looked.set()

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Raises what went wrong with a later cut, once the link is whole."""
        self._over.set()
        while self._flapping is not None and not (self._flapping.done() or deadline.passed):
            self._clock.sleep(_POLL_S)
        self._mend()
        if self._flapping is not None and not self._flapping.done():
            raise NotReady(f"waited {deadline.timeout_s:.0f} s for the flapping to end; last seen: cut {self._cuts} times")
        if self._flapping is not None:
            self._flapping.result()
        return {"cuts": self._cuts, "wanted": self._spec.count, **not_hidden(self._let_in)}

    def verify_heal(self, deadline: Deadline) -> Evidence:
        return prove_return(self._stack, self._witnesses, deadline)


class DegradeFault:
    """Latency, jitter, bandwidth and loss on what travels these ways."""

    def __init__(self, spec: LinkDegrade, stack: Stack, clock: Clock = SYSTEM) -> None:
        self._spec = spec
        self._stack = stack
        self._clock = clock
        self._flows = flows_of(spec)
        self._witnesses: tuple[Witness, ...] = ()
        self._before_s = 0.0

    def prepare(self) -> None:
        self._witnesses = _callers(self._stack, (Flow(self._spec.source, self._spec.to),))
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

    def verify(self) -> Evidence:
        since_ns = self._clock.now_ns()
        detail: dict[str, Any] = {"evidence": "read back from the proxies"}
        if self._spec.latency:
            detail = {"latency_ms": self._see_latency() * 1000}
        if self._spec.loss:
            detail["stalled"] = self._see_loss()
        return Evidence(since_ns, detail)

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        self._stack.links.restore(self._flows)
        return {}

    def verify_heal(self, deadline: Deadline) -> Evidence:
        return prove_return(self._stack, self._witnesses, deadline)

    def _see_latency(self) -> float:
        now_s, wanted_s = self._latency_s(), self._spec.latency * _SEEN_SHARE
        if now_s - self._before_s < wanted_s:
            raise FaultNotEffective(
                f"an answer across the link took {self._before_s * 1000:.0f} ms before and {now_s * 1000:.0f} ms now; "
                f"at least {wanted_s * 1000:.0f} ms more were expected"
            )
        return now_s

    def _latency_s(self) -> float:
        return median(self._ask()[1] for _ in range(_SAMPLES))

    def _see_loss(self) -> int:
        tries = math.ceil(math.log(_MISS_CHANCE) / math.log(1 - self._spec.loss)) if self._spec.loss < 1 else 1
        usual_s = self._before_s + len(self._flows) * (self._spec.latency + self._spec.jitter)  # now it stalls already
        stalled = sum(not answered or took_s - usual_s > _STALL_S for answered, took_s in (self._ask() for _ in range(tries)))
        if not stalled:
            raise FaultNotEffective(f"none of {tries} requests across the link stalled for {_STALL_S} s")
        return stalled

    def _ask(self) -> tuple[bool, float]:
        witness, began_ns = self._witnesses[0], self._clock.now_ns()
        timeout_s = 1.0 + 2 * (self._spec.latency + self._spec.jitter)
        answered = self._stack.reaches(witness.replica, witness.port, seen_from=witness.seen_from, timeout_s=timeout_s)
        return answered, (self._clock.now_ns() - began_ns) / NS_PER_S
