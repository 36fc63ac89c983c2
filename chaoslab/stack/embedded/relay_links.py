"""`Links` of the embedded runtime: everything through one relay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from chaoslab.errors import LinkError
from chaoslab.spec.stackfile.topology import Address, Flow
from chaoslab.stack.holds import Holds
from chaoslab.stack.toxiproxy.driver import ToxiproxyDriver
from chaoslab.stack.toxiproxy.toxic_verbs import ToxicVerbs
from chaoslab.stack.toxiproxy.wire import Fence, Link, RelayState, RouterInput, UnansweredCount, Vacant


class RelayLinks(ToxicVerbs):
    """The links between places, on a relay whose API is at `api` (host:port). Safe to use from several threads.

    Each verb is idempotent, covers every proxy added so far, and raises LinkError when reading back does not show it.
    """

    def __init__(self, api: str) -> None:
        super().__init__(ToxiproxyDriver(api))
        self._holds = Holds()

    # --- wiring

    def add_proxy(self, name: str, flow: Flow, listen: Address, upstream: Address, replica: str = "") -> Address:
        """Carry connections opened `flow`'s way from `listen` to `upstream`; returns where it listens (port 0: a free one)."""
        made = self._driver.create(name, str(listen), str(upstream), link=msgspec.to_builtins(Link(*flow)))
        self.carry(name, flow, replica)
        return _address(made.listen)

    def add_router(self, name: str, listen: Address, upstream: Address, routes: Mapping[str, str]) -> Address:
        """One address for all clients: those of a site in `routes` pass that proxy, others go straight to `upstream`."""
        body = msgspec.to_builtins(RouterInput(name, str(listen), str(upstream), dict(routes)))
        made = self._driver.call("post", "/chaoslab/routers", RouterInput, body)
        return _address(made.listen)

    # --- the fence

    def fence(self, flows: Sequence[Flow], holder: str) -> None:
        """Hold everything that travels these ways, FIN and RST included, atomically; new connections hang in connect."""
        with self._lock:
            self._holds.take(flows, holder)
            self._set_fence(self.fenced() | set(flows))

    def lift(self, flows: Sequence[Flow], holder: str) -> Mapping[str, int]:
        """Stop holding these ways, where nobody else does; connections that are still alive resume with no byte lost.

        Nothing has to be recycled: the relay dials for each waiting connection separately.
        """
        with self._lock:
            return self._set_fence(self.fenced() - self._holds.release(flows, holder)).let_in

    def fenced(self) -> frozenset[Flow]:
        """What the relay holds now."""
        return frozenset(Flow(*pair) for pair in self._driver.call("get", "/chaoslab/fence", Fence).hold)

    def disturbances(self) -> list[str]:
        """What is held, and what toxics there are, in words."""
        return [*(f"the link {flow} is cut" for flow in sorted(self.fenced())), *super().disturbances()]

    def _set_fence(self, wanted: Iterable[Flow]) -> Fence:
        hold = frozenset(wanted)
        answer = self._driver.call("put", "/chaoslab/fence", Fence, {"hold": sorted(hold)})
        seen = self.fenced()
        if seen != hold:
            raise LinkError(f"the fence should hold {_in_words(hold)}, but reads back as {_in_words(seen)}")
        return answer

    def vacate(self, places: Collection[str]) -> None:
        """Report all places without a living process: a router that only their clients would use may leave SYNs unanswered."""
        seen = self._driver.call("put", "/chaoslab/vacant", Vacant, {"places": sorted(places)}).places
        if set(seen) != set(places):
            raise LinkError(
                f"the relay should have {', '.join(places) or 'none'} as vacant, but reads back {', '.join(seen) or 'none'}"
            )

    def epoch(self) -> str:
        """Changes when the relay restarted, which silently heals every fault."""
        state = self.state()
        return f"{state.pid}:{state.started_ns}"

    def asks(self) -> list[UnansweredCount]:
        """Who connected to which proxy or router and got no answer, since the last call."""
        return self._driver.call("get", "/chaoslab/asks", list[UnansweredCount])

    def state(self) -> RelayState:
        """What the relay is and does now."""
        return self._driver.call("get", "/chaoslab/state", RelayState)


def _address(listen: str) -> Address:
    host, _, port = listen.rpartition(":")
    return Address(host, int(port))


def _in_words(flows: Iterable[Flow]) -> str:
    return ", ".join(sorted(map(str, flows))) or "nothing"
