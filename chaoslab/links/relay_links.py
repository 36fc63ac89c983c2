"""`Links` of the embedded runtime: everything through one relay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from chaoslab.errors import LinkError
from chaoslab.links.driver import ToxiproxyDriver
from chaoslab.links.toxic_verbs import ToxicVerbs
from chaoslab.links.wire import Fence, FrontInput, Link, RelayState, Vacant
from chaoslab.stack.topology import Address, Flow


class RelayLinks(ToxicVerbs):
    """The links between places, on a relay whose API is at `api` (host:port). Safe to use from several threads.

    Each verb is idempotent, covers every proxy added so far, and raises LinkError when reading back does not show it.
    """

    def __init__(self, api: str) -> None:
        super().__init__(ToxiproxyDriver(api))

    # --- wiring

    def add_proxy(self, name: str, flow: Flow, listen: Address, upstream: Address, replica: str = "") -> Address:
        """Carry connections opened `flow`'s way from `listen` to `upstream`; returns where it listens (port 0: a free one)."""
        made = self._driver.create(name, str(listen), str(upstream), link=msgspec.to_builtins(Link(*flow)))
        self.carry(name, flow, replica)
        return _address(made.listen)

    def add_front(self, name: str, listen: Address, upstream: Address, routes: Mapping[str, str]) -> Address:
        """One address for every consumer: callers of a site in `routes` pass that proxy, others go straight to `upstream`."""
        body = msgspec.to_builtins(FrontInput(name, str(listen), str(upstream), dict(routes)))
        made = self._driver.call("post", "/chaoslab/fronts", FrontInput, body)
        return _address(made.listen)

    # --- the fence

    def fence(self, flows: Sequence[Flow]) -> None:
        """Hold everything that travels these ways, FIN and RST included, atomically; new connections hang in connect."""
        with self._lock:
            self._set_fence(self.fenced() | set(flows))

    def lift(self, flows: Sequence[Flow]) -> Mapping[str, int]:
        """Let these ways go again; what is still alive resumes with no byte lost.

        Nothing has to be recycled: the relay dials each waiting connection by itself, never one behind another.
        """
        with self._lock:
            return self._set_fence(self.fenced() - set(flows)).let_in

    def fenced(self) -> frozenset[Flow]:
        """What the relay holds now."""
        return frozenset(Flow(*pair) for pair in self._driver.call("get", "/chaoslab/fence", Fence).hold)

    def _set_fence(self, wanted: Iterable[Flow]) -> Fence:
        hold = frozenset(wanted)
        answer = self._driver.call("put", "/chaoslab/fence", Fence, {"hold": sorted(hold)})
        seen = self.fenced()
        if seen != hold:
            raise LinkError(f"the fence was to hold {_words(hold)}, but reads back as {_words(seen)}")
        return answer

    def vacate(self, places: Collection[str]) -> None:
        """Say in which places nobody lives, all of them: a front that only they would need may hide SYNs."""
        seen = self._driver.call("put", "/chaoslab/vacant", Vacant, {"places": sorted(places)}).places
        if set(seen) != set(places):
            raise LinkError(f"nobody lives in {', '.join(places) or 'no place'}, but the relay has {', '.join(seen) or 'none'}")

    def epoch(self) -> str:
        """Changes when the relay restarted, which silently heals every fault."""
        state = self.state()
        return f"{state.pid}:{state.started_ns}"

    def state(self) -> RelayState:
        """What the relay is and does now."""
        return self._driver.call("get", "/chaoslab/state", RelayState)


def _address(listen: str) -> Address:
    host, _, port = listen.rpartition(":")
    return Address(host, int(port))


def _words(flows: Iterable[Flow]) -> str:
    return ", ".join(sorted(map(str, flows))) or "nothing"
