"""What sends the slots of one target, whatever its protocol."""

from __future__ import annotations

from typing import Protocol

from chaoslab.probe.assessment import Assessment
from chaoslab.probe.exchange import Exchange


class Sender(Protocol):
    """Sends a slot and assesses the exchange. `timeout_s` counts from the due time; no exchange takes longer.

    Needs a running event loop from its construction on.
    """

    @property
    def timeout_s(self) -> float: ...

    async def send(self, slot: int, *, fresh: bool, left_s: float) -> Exchange:
        """`fresh`: over a new connection. `left_s`: what is left of the slot's timeout. What the stack does raises nothing."""

    def assess(self, exchange: Exchange, due_ns: int) -> Assessment: ...

    def close(self) -> None:
        """Close what is kept open."""
