"""`Links` of the embedded runtime: everything through one relay."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from chaoslab.errors import LinkError
from chaoslab.links.driver import ToxiproxyDriver
from chaoslab.links.wire import Direction, Fence, FrontInput, Link, RelayState
from chaoslab.stack.protocol import Degradation
from chaoslab.stack.topology import Address, Flow

_RESET = "chaoslab_reset"
_DEGRADE = "chaoslab_degrade"
# Linux waits at least this long, on top of the round trip, before it sends a lost segment again.
_RETRANSMIT_MS = 200
_STREAMS: tuple[Direction, Direction] = ("upstream", "downstream")


class RelayLinks:
    """The links between places, on a relay whose API is at `api` (host:port). Safe to use from several threads.

    Each verb is idempotent, covers every proxy added so far, and raises LinkError when reading back does not show it.
    """

    def __init__(self, api: str) -> None:
        self._driver = ToxiproxyDriver(api)
        self._flows: dict[str, Flow] = {}  # proxy → the way its connections are opened
        self._lock = threading.RLock()

    # --- wiring

    def add_proxy(self, name: str, flow: Flow, listen: Address, upstream: Address) -> Address:
        """Carry connections opened `flow`'s way from `listen` to `upstream`; returns where it listens (port 0: a free one)."""
        made = self._driver.create(name, str(listen), str(upstream), link=msgspec.to_builtins(Link(*flow)))
        with self._lock:
            self._flows[name] = flow
        return _address(made.listen)

    def add_front(self, name: str, listen: Address, upstream: Address, routes: Mapping[str, str]) -> Address:
        """One address for every consumer: callers of a site in `routes` pass that proxy, others go straight to `upstream`."""
        body = msgspec.to_builtins(FrontInput(name, str(listen), str(upstream), dict(routes)))
        made = self._driver.call("post", "/chaoslab/fronts", FrontInput, body)
        return _address(made.listen)

    # --- the fence

    def fence(self, flows: Sequence[Flow]) -> None:
        """Hold everything that travels these ways, FIN and RST included, atomically; new connections hang."""
        with self._lock:
            self._set_fence(self.fenced() | set(flows))

    def lift(self, flows: Sequence[Flow]) -> None:
        """Let these ways go again; what is still alive resumes with no byte lost.

        Nothing has to be recycled: the relay dials each waiting connection by itself, never one behind another.
        """
        with self._lock:
            self._set_fence(self.fenced() - set(flows))

    def fenced(self) -> frozenset[Flow]:
        """What the relay holds now."""
        return frozenset(Flow(*pair) for pair in self._driver.call("get", "/chaoslab/fence", Fence).hold)

    def _set_fence(self, wanted: Iterable[Flow]) -> None:
        hold = frozenset(wanted)
        self._driver.call("put", "/chaoslab/fence", Fence, {"hold": sorted(hold)})
        seen = self.fenced()
        if seen != hold:
            raise LinkError(f"the fence was to hold {_words(hold)}, but reads back as {_words(seen)}")

    # --- refuse, reset, degrade

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

        Loss: on a lossy path TCP loses no byte, the sender waits out its retransmission timer. So the share `loss` of
        connections suffers an added latency of that timer, 200 ms and the round trip of the degraded link. That is
        milder on long-lived connections than packets lost at random, and never stalls one for good.
        """
        for flow in flows:
            for name, stream in self._carrying(flow):
                self._clear(name, stream)
                for kind, toxicity, attributes in _toxics(how):
                    self._driver.add_toxic(
                        name,
                        kind.partition(":")[0],
                        stream=stream,
                        name=_toxic_name(kind, stream),
                        toxicity=toxicity,
                        **attributes,
                    )

    def restore(self, flows: Sequence[Flow]) -> None:
        """Undo refuse, reset and degrade for these flows."""
        for flow in flows:
            for name, stream in self._carrying(flow):
                self._clear(name, stream)
        for name in self._opened(flows):
            for stream in _STREAMS:
                self._driver.remove_toxic(name, f"{_RESET}_{stream}")
            self._driver.enable(name)

    def epoch(self) -> str:
        """Changes when the relay restarted, which silently heals every fault."""
        state = self.state()
        return f"{state.pid}:{state.started_ns}"

    def state(self) -> RelayState:
        """What the relay is and does now."""
        return self._driver.call("get", "/chaoslab/state", RelayState)

    # --- which proxy, which stream

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


def _toxics(how: Degradation) -> list[tuple[str, float, dict[str, int]]]:
    """Kind, toxicity and attributes of each toxic that a degradation needs; `latency:loss` is the second latency."""
    wanted: list[tuple[str, float, dict[str, int]]] = []
    if how.latency_ms or how.jitter_ms:
        wanted.append(("latency", 1.0, {"latency": how.latency_ms, "jitter": how.jitter_ms}))
    if how.loss:
        wanted.append(("latency:loss", how.loss, {"latency": _RETRANSMIT_MS + 2 * how.latency_ms}))
    if how.bandwidth_kbps is not None:
        wanted.append(("bandwidth", 1.0, {"rate": how.bandwidth_kbps}))
    return wanted


def _toxic_name(kind: str, stream: Direction) -> str:
    return f"{_DEGRADE}_{stream}_{kind.replace(':', '_')}"


def _address(listen: str) -> Address:
    host, _, port = listen.rpartition(":")
    return Address(host, int(port))


def _words(flows: Iterable[Flow]) -> str:
    return ", ".join(sorted(map(str, flows))) or "nothing"
