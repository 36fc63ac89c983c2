"""When each slot is due. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from chaoslab.clock import NS_PER_S


@dataclass(frozen=True, slots=True)
class Grid:
    """Slot i is due `i / rate` seconds after `t0_ns` (monotonic), computed from i so that no rounding adds up.

    `rate`: slots a second, above 0.
    """

    t0_ns: int
    rate: float

    @property
    def period_ns(self) -> int:
        return round(NS_PER_S / self.rate)

    def due_ns(self, slot: int) -> int:
        return self.t0_ns + round(slot * NS_PER_S / self.rate)


def staggered(t0_ns: int, rate: float, count: int) -> list[Grid]:
    """`count` grids of the same rate whose slots fall evenly between each other's, so that they are never in phase.

    The first begins at `t0_ns` (monotonic); `rate`: slots a second, above 0.
    """
    return [Grid(t0_ns + round(index * NS_PER_S / (rate * count)), rate) for index in range(count)]
