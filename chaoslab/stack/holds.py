"""Who holds which ways closed: one that two faults cut opens when the last of them ends."""

from __future__ import annotations

from collections.abc import Iterable

from chaoslab.spec.stackfile.topology import Flow


class Holds:
    """The holders of each way. Not safe for several threads at once."""

    def __init__(self) -> None:
        self._holders: dict[Flow, set[str]] = {}

    def take(self, flows: Iterable[Flow], holder: str) -> None:
        for flow in flows:
            self._holders.setdefault(flow, set()).add(holder)

    def release(self, flows: Iterable[Flow], holder: str) -> frozenset[Flow]:
        """Those of the flows that nobody holds any more."""
        flows = frozenset(flows)
        for flow in flows:
            self._holders.get(flow, set()).discard(holder)
        return frozenset(flow for flow in flows if not self._holders.get(flow))
