"""The interface of every fault, and the proof of its effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from chaoslab.cleanup.journal import AnyStep
from chaoslab.clock import Deadline


@dataclass(frozen=True)
class Proof:
    """The observation that a fault is in effect or healed. `since_ns`: since when at the latest (monotonic)."""

    since_ns: int
    detail: dict[str, Any] = field(default_factory=dict)


class Fault(Protocol):
    """One fault on one stack. The order is prepare, inject, verify, heal, verify_heal; `heal` is idempotent."""

    def prepare(self) -> None:
        """Record what works before the fault, so that its silence afterwards proves something.

        Raises FaultNotEffective if nothing answers even now, so that no effect could be seen.
        """

    def undo_steps(self) -> list[AnyStep]:
        """What is stored before `inject`: how to undo what outlives the stack's own processes."""

    def inject(self) -> dict[str, Any]:
        """Inject it; returns details for the report, such as the skew of a kill."""

    def verify(self) -> Proof:
        """Raises FaultNotEffective when the effect is not seen."""

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Undo it. Raises NotReady or StackError when that fails."""

    def verify_heal(self, deadline: Deadline) -> Proof:
        """Raises NotReady if what worked before does not work again by the deadline."""


CycleEvent = Literal["inject", "effective", "heal", "healed"]
OnCycle = Callable[[int, CycleEvent], None]  # the number of the cycle, from 1


@runtime_checkable
class ActsInCycles(Protocol):
    """A fault that begins and ends repeatedly. It reports each cycle, except the begin of the first, which is `inject`."""

    def on_cycle(self, report: OnCycle) -> None:
        """Set the callback: called before each inject and heal, and with effective and healed once that was read back."""


OnReconnected = Callable[[], None]


@runtime_checkable
class Reconnects(Protocol):
    """A fault whose heal starts replicas. It reports when they were started and are no longer cut off.

    Whether they get healthy is verified later.
    """

    def on_reconnected(self, report: OnReconnected) -> None:
        """Set the callback, which is called during `heal`."""


@runtime_checkable
class EndsByItself(Protocol):
    """A fault that is over, and undone, once `inject` returns. If `inject` raises, it has to be healed."""

    ends_by_itself: Literal[True]
