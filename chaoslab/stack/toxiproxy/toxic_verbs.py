"""Refuse, reset and degrade: the effects of a server with Toxiproxy's API on the connections of a link."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence

from chaoslab.spec.stackfile.topology import Flow
from chaoslab.stack.protocol import BlockMode, Degradation
from chaoslab.stack.toxiproxy.driver import ToxiproxyDriver, toxic
from chaoslab.stack.toxiproxy.wire import Direction, ToxicView

_RESET = "chaoslab_reset"
_DEGRADE = "chaoslab_degrade"
_BLOCK = "chaoslab_block"
_LINK = "link"  # why a proxy is closed: its whole link is, or its replica is blocked
# Linux waits at least this long, on top of the round trip, before it sends a lost segment again.
_RETRANSMIT_MS = 200
_STREAMS: tuple[Direction, Direction] = ("upstream", "downstream")


class ToxicVerbs:
    """The verbs of `Links` that toxics can do, on one server. Safe to use from several threads.

    Each verb is idempotent, covers every proxy given to `carry`, and raises LinkError when reading back does not show it.
    """

    def __init__(self, driver: ToxiproxyDriver) -> None:
        self._driver = driver
        self._flows: dict[str, Flow] = {}  # proxy → the way its connections are opened
        self._replicas: dict[str, str] = {}  # proxy → the replica that it leads to
        self._closed: dict[str, set[str]] = {}  # proxy → why it is closed
        self._lock = threading.RLock()
        self._changing = threading.Lock()  # a lock of its own: lifting a fence waits for no toxic

    def carry(self, name: str, flow: Flow, replica: str = "") -> None:
        """Note that a proxy of the server carries connections that are opened `flow`'s way, to this replica."""
        with self._lock:
            self._flows[name], self._replicas[name] = flow, replica

    def refuse(self, flows: Sequence[Flow]) -> None:
        """Close the links whose connections are opened these ways: established ones end with FIN, new ones are refused."""
        self._close(self._opened(flows), _LINK)

    def reset(self, flows: Sequence[Flow]) -> None:
        """Reset connections that are opened these ways, by Toxiproxy's reset_peer on both streams.

        That means: new connections get RST at their first byte, established ones end (with FIN) at their next byte,
        and one that stays idle lives on.
        """
        both = [toxic("reset_peer", stream=stream, name=f"{_RESET}_{stream}", timeout=0) for stream in _STREAMS]
        self._set(dict.fromkeys(self._opened(flows), both), ours=_resets)

    def degrade(self, flows: Sequence[Flow], how: Degradation) -> None:
        """Apply latency, jitter, bandwidth and loss to what travels these ways; it replaces an earlier degradation.

        Bandwidth is each connection's own, as Toxiproxy has it.
        Loss: on a lossy path TCP loses no byte, the sender waits out its retransmission timer. So the share `loss` of
        connections suffers an added latency of that timer, 200 ms and the round trip of the degraded link. That is
        milder on long-lived connections than packets lost at random, and never stalls one for good.
        """
        for stream in _STREAMS:
            name, views = f"{_DEGRADE}_{stream}", list[ToxicView]()
            if how.latency_ms or how.jitter_ms:
                views.append(
                    toxic("latency", stream=stream, name=f"{name}_latency", latency=how.latency_ms, jitter=how.jitter_ms)
                )
            if how.loss:
                delay_ms = _RETRANSMIT_MS + 2 * how.latency_ms
                views.append(toxic("latency", stream=stream, name=f"{name}_loss", toxicity=how.loss, latency=delay_ms))
            if how.bandwidth_kbps is not None:
                views.append(toxic("bandwidth", stream=stream, name=f"{name}_bandwidth", rate=how.bandwidth_kbps))
            self._set(dict.fromkeys(self._carrying(flows, stream), views), ours=_degrades(stream))

    def restore(self, flows: Sequence[Flow]) -> None:
        """Undo refuse, reset and degrade for these flows."""
        for stream in _STREAMS:
            self._set({name: [] for name in self._carrying(flows, stream)}, ours=_degrades(stream))
        opened = self._opened(flows)
        self._set({name: [] for name in opened}, ours=_resets)
        self._open(opened, _LINK)

    def disturbances(self) -> list[str]:
        """What is not as on an untouched server, in words: proxies that are closed, and toxics, whoever made them."""
        found: list[str] = []
        for name, proxy in sorted(self._driver.proxies().items()):
            found += [] if proxy.enabled else [f"the link {name} is closed"]
            found += [f"the link {name} has the toxic {seen.name}" for seen in proxy.toxics]
        return found

    def block(self, replicas: Collection[str], mode: BlockMode, *, except_flows: Collection[Flow] = ()) -> None:
        """Make these unreachable through every proxy except those of `except_flows`.

        refuse: established connections end with FIN, new ones are refused. silent: what is sent either way is lost; on
        `unblock`, connections that lost something end.
        """
        names = [name for name in self._leading_to(replicas) if self._flows[name] not in except_flows]
        if mode == "refuse":
            self._close(names, _BLOCK)
        else:
            both = [toxic("timeout", stream=stream, name=f"{_BLOCK}_{stream}", timeout=0) for stream in _STREAMS]
            self._set(dict.fromkeys(names, both), ours=_blocks)

    def unblock(self, replicas: Collection[str]) -> None:
        """Undo every block of these."""
        names = self._leading_to(replicas)
        self._set({name: [] for name in names}, ours=_blocks)
        self._open(names, _BLOCK)

    def _set(self, wanted: Mapping[str, Sequence[ToxicView]], ours: Callable[[ToxicView], bool]) -> None:
        """One change at a time: of two that restore one link at once, the later would find the toxics gone that it had read."""
        with self._changing:
            self._driver.set_toxics(wanted, ours=ours)

    def _close(self, names: Sequence[str], why: str) -> None:
        with self._lock:
            for name in names:
                self._closed.setdefault(name, set()).add(why)
            self._driver.disable(*names)

    def _open(self, names: Sequence[str], why: str) -> None:
        """Enable those that nothing else keeps closed."""
        with self._lock:
            for name in names:
                self._closed.get(name, set()).discard(why)
            self._driver.enable(*(name for name in names if not self._closed.get(name)))

    def _leading_to(self, replicas: Collection[str]) -> list[str]:
        with self._lock:
            return [name for name, replica in self._replicas.items() if replica in replicas]

    def _opened(self, flows: Sequence[Flow]) -> list[str]:
        with self._lock:
            return [name for name, flow in self._flows.items() if flow in flows]

    def _carrying(self, flows: Sequence[Flow], stream: Direction) -> list[str]:
        """Proxies whose `stream` travels these flows: requests of links opened that way, answers of links opened the other."""
        return self._opened(flows if stream == "upstream" else [Flow(flow.to, flow.source) for flow in flows])


def _resets(seen: ToxicView) -> bool:
    return seen.name.startswith(_RESET)


def _blocks(seen: ToxicView) -> bool:
    return seen.name.startswith(_BLOCK)


def _degrades(stream: Direction) -> Callable[[ToxicView], bool]:
    return lambda seen: seen.name.startswith(f"{_DEGRADE}_{stream}_")
