"""Refuse, reset and degrade: what a server that speaks Toxiproxy's API does to the connections of a link."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from chaoslab.links.driver import ToxiproxyDriver
from chaoslab.links.wire import Direction, ToxicType
from chaoslab.stack.protocol import Degradation
from chaoslab.stack.topology import Flow

_RESET = "chaoslab_reset"
_DEGRADE = "chaoslab_degrade"
# Linux waits at least this long, on top of the round trip, before it sends a lost segment again.
_RETRANSMIT_MS = 200
_STREAMS: tuple[Direction, Direction] = ("upstream", "downstream")


class ToxicVerbs:
    """The verbs of `Links` that toxics can do, on one server. Safe to use from several threads.

    Each verb is idempotent, covers every proxy told to `carry`, and raises LinkError when reading back does not show it.
    """

    def __init__(self, driver: ToxiproxyDriver) -> None:
        self._driver = driver
        self._flows: dict[str, Flow] = {}  # proxy → the way its connections are opened
        self._lock = threading.RLock()

    def carry(self, name: str, flow: Flow) -> None:
        """Note that a proxy of the server carries connections that are opened `flow`'s way."""
        with self._lock:
            self._flows[name] = flow

    def refuse(self, flows: Sequence[Flow]) -> None:
        """Close the links whose connections are opened these ways: established ones end with FIN, new ones are refused."""
        for name in self._opened(flows):
            self._driver.disable(name)

    def reset(self, flows: Sequence[Flow]) -> None:
        """Reset connections that are opened these ways, by Toxiproxy's reset_peer on both streams.

        That means: new connections get RST at their first byte, established ones end (with FIN) at their next byte,
        and one that stays idle lives on.
        """
        for name in self._opened(flows):
            for stream in _STREAMS:
                self._driver.add_toxic(name, "reset_peer", stream=stream, name=f"{_RESET}_{stream}", timeout=0)

    def degrade(self, flows: Sequence[Flow], how: Degradation) -> None:
        """Apply latency, jitter, bandwidth and loss to what travels these ways; it replaces an earlier degradation.

        Bandwidth is each connection's own, as Toxiproxy has it.
        Loss: on a lossy path TCP loses no byte, the sender waits out its retransmission timer. So the share `loss` of
        connections suffers an added latency of that timer, 200 ms and the round trip of the degraded link. That is
        milder on long-lived connections than packets lost at random, and never stalls one for good.
        """
        for flow in flows:
            for name, stream in self._carrying(flow):
                self._clear(name, stream)
                for label, kind, toxicity, attributes in _toxics(how):
                    toxic = f"{_DEGRADE}_{stream}_{label}"
                    self._driver.add_toxic(name, kind, stream=stream, name=toxic, toxicity=toxicity, **attributes)

    def restore(self, flows: Sequence[Flow]) -> None:
        """Undo refuse, reset and degrade for these flows."""
        for flow in flows:
            for name, stream in self._carrying(flow):
                self._clear(name, stream)
        for name in self._opened(flows):
            for stream in _STREAMS:
                self._driver.remove_toxic(name, f"{_RESET}_{stream}")
            self._driver.enable(name)

    def _opened(self, flows: Sequence[Flow]) -> list[str]:
        with self._lock:
            return [name for name, flow in self._flows.items() if flow in flows]

    def _carrying(self, flow: Flow) -> list[tuple[str, Direction]]:
        """What travels a flow: the requests of links opened that way, and the answers of links opened the other way."""
        back = Flow(flow.to, flow.source)
        with self._lock:
            requests: list[tuple[str, Direction]] = [(name, "upstream") for name, each in self._flows.items() if each == flow]
            return requests + [(name, "downstream") for name, each in self._flows.items() if each == back]

    def _clear(self, name: str, stream: Direction) -> None:
        ours = f"{_DEGRADE}_{stream}_"
        for toxic in self._driver.proxy(name).toxics:
            if toxic.name.startswith(ours):
                self._driver.remove_toxic(name, toxic.name)


def _toxics(how: Degradation) -> list[tuple[str, ToxicType, float, dict[str, int]]]:
    """Label, kind, toxicity and attributes of each toxic that a degradation needs."""
    wanted: list[tuple[str, ToxicType, float, dict[str, int]]] = []
    if how.latency_ms or how.jitter_ms:
        wanted.append(("latency", "latency", 1.0, {"latency": how.latency_ms, "jitter": how.jitter_ms}))
    if how.loss:
        wanted.append(("loss", "latency", how.loss, {"latency": _RETRANSMIT_MS + 2 * how.latency_ms}))
    if how.bandwidth_kbps is not None:
        wanted.append(("bandwidth", "bandwidth", 1.0, {"rate": how.bandwidth_kbps}))
    return wanted
