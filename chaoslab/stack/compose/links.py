"""`Links` of the Compose runtime: a real Toxiproxy for each direction, and packet rules in its network namespace.

The WAN is the containers that join the networks of two places each; a gate is the SOCKS server by which the harness calls from
within a place; shells stay open in all of these, so that a packet rule costs one write and one read.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from chaoslab.errors import LinkError
from chaoslab.spec.stackfile.topology import Flow
from chaoslab.stack.compose.wan import Reach, Wan, fence_rules, held_by
from chaoslab.stack.holds import Holds
from chaoslab.stack.protocol import BlockMode, Degradation
from chaoslab.stack.toxiproxy.driver import ToxiproxyDriver
from chaoslab.stack.toxiproxy.toxic_verbs import ToxicVerbs

T = TypeVar("T")
_AT_ONCE = 16
_SAVE = "iptables-save -t filter"


class Containers(Protocol):
    """What the links need to know of the engine, by the names of containers in the project."""

    def began(self, containers: Iterable[str]) -> Mapping[str, str]:
        """Identity and time of start of each container that runs now."""


class Shells(Protocol):
    """How the links act inside containers, by their names in the project."""

    def run(self, name: str, script: str) -> str:
        """Run a script that may be run twice; returns its output. Raises StackError when it fails."""


@dataclass(frozen=True)
class Crossing:
    """One direction of the WAN that is up. `api`: where its Toxiproxy is driven, host:port."""

    wan: Wan
    api: str


class DockerLinks:
    """The links between places. Safe to use from several threads.

    A fence is set by one iptables-restore in each direction's namespace, all at once: atomic for each direction, and the
    directions follow within some ten milliseconds. `gates` are the containers whose pending dials are ended on lifting.
    """

    def __init__(
        self,
        crossings: Sequence[Crossing],
        reach: Reach,
        containers: Containers,
        shells: Shells,
        gates: Sequence[str] = (),
    ) -> None:
        self._crossings = tuple(crossings)
        self.reach = reach
        self._containers = containers
        self._shells = shells
        self._gates = tuple(gates)
        self._drivers = {crossing.wan.name: ToxiproxyDriver(crossing.api) for crossing in crossings}
        self._verbs = {name: ToxicVerbs(driver) for name, driver in self._drivers.items()}
        for wan in self._wans():
            for proxy in wan.proxies:
                self._verbs[wan.name].carry(proxy.name, wan.flow, proxy.replica)
        self._wanted: frozenset[Flow] = frozenset()  # what should be held; only this object changes it
        self._holds = Holds()
        self._lock = threading.RLock()

    def missing(self) -> list[str]:
        """The proxies that should listen and do not, in words."""
        there = self._each(self._wans(), lambda wan: self._drivers[wan.name].proxies())
        return [
            f"{wan.name}: {proxy.name}"
            for wan, views in there
            for proxy in wan.proxies
            if proxy.name not in views or not views[proxy.name].enabled
        ]

    # --- the fence

    def fence(self, flows: Sequence[Flow], holder: str) -> None:
        """Hold everything that travels these ways, FIN and RST included; new connections hang in connect."""
        with self._lock:
            self._holds.take(flows, holder)
            self._hold(self._wanted | set(flows), self._about(flows))

    def lift(self, flows: Sequence[Flow], holder: str) -> Mapping[str, int]:
        """Stop holding these ways, where nobody else does; connections that are still alive resume. Packet rules hide every
        connect.

        Toxiproxy dials inside its accept loop: a dial that began behind the fence would hold up all later ones until its next
        SYN, half a minute perhaps. Such dials are ended here, in the WAN and in the gates.
        """
        with self._lock:
            about = self._about(flows)
            self._hold(self._wanted - self._holds.release(flows, holder), about)
            self._each_name([*(wan.name for wan in about), *self._gates], self._end_pending_dials)
        return {}

    def redial(self) -> None:
        """End the dials that still wait for a replica which was dead, so that the next ones reach it at once; see `lift`.

        Dials behind a fence go on waiting.
        """
        with self._lock:
            open_ = [wan.name for wan in self._wans() if not self._wanted & {wan.flow, wan.back}]
            self._each_name([*open_, *(() if self._wanted else self._gates)], self._end_pending_dials)

    def fenced(self) -> frozenset[Flow]:
        """What is held now, read back: a flow counts when every namespace that it passes holds it."""
        held = dict(self._each(self._wans(), lambda wan: held_by(self._shells.run(wan.name, _SAVE), wan, self.reach)))
        carriers = {flow: [wan for wan in self._wans() if flow in (wan.flow, wan.back)] for flow in self._ways()}
        closed = {flow for flow, wans in carriers.items() if all(flow in held[wan] for wan in wans)}
        return frozenset(closed | (self._wanted - self._ways()))  # where nothing can travel, nothing has to be held

    def holds(self, wan: Wan) -> bool:
        """Whether a direction should be held now, one way or the other."""
        return bool(self._wanted & {wan.flow, wan.back})

    def disturbances(self) -> list[str]:
        """What is held, and what toxics there are in each direction, in words."""
        toxic = self._each(self._wans(), lambda wan: self._verbs[wan.name].disturbances())
        cut = [f"the link {flow} is cut" for flow in sorted(self.fenced())]
        return [*cut, *(f"{wan.name}: {what}" for wan, found in toxic for what in found)]

    def _hold(self, wanted: frozenset[Flow], about: Sequence[Wan]) -> None:
        """Set the rules of these directions, and read each back in the same script."""

        def set_rules(wan: Wan) -> frozenset[Flow]:
            rules = shlex.quote(fence_rules(wan, wanted, self.reach))
            return held_by(self._shells.run(wan.name, f"printf %s {rules} | iptables-restore && {_SAVE}"), wan, self.reach)

        self._wanted = wanted
        for wan, held in self._each(about, set_rules):
            if held != wanted & {wan.flow, wan.back}:
                raise LinkError(f"{wan.name} should hold {_in_words(wanted)}, but reads back as holding {_in_words(held)}")

    def _end_pending_dials(self, container: str) -> None:
        self._shells.run(container, "ss -K -t state syn-sent >/dev/null 2>&1 || true")

    # --- refuse, reset, degrade

    def refuse(self, flows: Sequence[Flow]) -> None:
        """Close the links whose connections are opened these ways: established ones end with FIN, new ones are refused."""
        self._all_verbs(flows, lambda verbs: verbs.refuse(flows))

    def reset(self, flows: Sequence[Flow]) -> None:
        """Reset connections that are opened these ways, by Toxiproxy's reset_peer; see ToxicVerbs.reset."""
        self._all_verbs(flows, lambda verbs: verbs.reset(flows))

    def degrade(self, flows: Sequence[Flow], how: Degradation) -> None:
        """Apply latency, jitter, bandwidth and loss to what travels these ways; see ToxicVerbs.degrade."""
        self._all_verbs(flows, lambda verbs: verbs.degrade(flows, how))

    def restore(self, flows: Sequence[Flow]) -> None:
        """Undo refuse, reset and degrade for these flows."""
        self._all_verbs(flows, lambda verbs: verbs.restore(flows))

    def block(self, replicas: Collection[str], mode: BlockMode, *, except_flows: Collection[Flow] = ()) -> None:
        """Make these unreachable from other places; see ToxicVerbs.block."""
        self._each_name(self._verbs, lambda name: self._verbs[name].block(replicas, mode, except_flows=except_flows))

    def unblock(self, replicas: Collection[str]) -> None:
        """Undo every block of these."""
        self._each_name(self._verbs, lambda name: self._verbs[name].unblock(replicas))

    def epoch(self) -> str:
        """Changes when a container of the WAN ended or restarted, which silently heals every fault."""
        began = self._containers.began([wan.name for wan in self._wans()])
        return " ".join(f"{name}={began.get(name, 'gone')}" for name in sorted(wan.name for wan in self._wans()))

    # --- all at once

    def _wans(self) -> tuple[Wan, ...]:
        return tuple(crossing.wan for crossing in self._crossings)

    def _ways(self) -> frozenset[Flow]:
        return frozenset(flow for wan in self._wans() for flow in (wan.flow, wan.back))

    def _about(self, flows: Sequence[Flow]) -> tuple[Wan, ...]:
        return tuple(wan for wan in self._wans() if wan.flow in flows or wan.back in flows)

    def _all_verbs(self, flows: Sequence[Flow], do: Callable[[ToxicVerbs], None]) -> None:
        self._each_name([wan.name for wan in self._about(flows)], lambda name: do(self._verbs[name]))

    def _each(self, wans: Sequence[Wan], do: Callable[[Wan], T]) -> list[tuple[Wan, T]]:
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            return list(zip(wans, pool.map(do, wans), strict=True))

    def _each_name(self, names: Iterable[str], do: Callable[[str], object]) -> None:
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            list(pool.map(do, names))


def _in_words(flows: Iterable[Flow]) -> str:
    return ", ".join(sorted(map(str, flows))) or "nothing"
