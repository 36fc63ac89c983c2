"""The interface of every fault, and the proof of its effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from chaoslab.cleanup.journal import AnyStep
from chaoslab.clock import Deadline


@dataclass(frozen=True)
class Proof:
    """What shows, from outside, that a fault is in effect or healed. `since_ns`: no later than this it was so (monotonic)."""

    since_ns: int
    detail: dict[str, Any] = field(default_factory=dict)


class Fault(Protocol):
    """One fault on one stack. The order is prepare, inject, verify, heal, verify_heal; `heal` is idempotent."""

    def prepare(self) -> None:
        """Look at what works before, so that its silence afterwards proves something.

        Raises FaultNotEffective when nothing answers even now, so that no effect could ever be seen.
        """

    def undo_steps(self) -> list[AnyStep]:
        """What has to be on disk before `inject`: how to undo what outlives the stack's own processes."""

    def inject(self) -> dict[str, Any]:
        """Do it; returns what is worth reporting, such as the skew of a kill."""

    def verify(self) -> Proof:
        """Raises FaultNotEffective when the effect is not seen."""

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Undo it. Raises NotReady or StackError when that fails."""

    def verify_heal(self, deadline: Deadline) -> Proof:
        """Raises NotReady when what worked before does not work again by the deadline."""


CycleEvent = Literal["inject", "effective", "heal", "healed"]
OnCycle = Callable[[int, CycleEvent], None]  # the number of the cycle, from 1


@runtime_checkable
class ActsInCycles(Protocol):
    """A fault that begins and ends again and again. After `inject` it reports everything but the begin of the first cycle."""

    def on_cycle(self, report: OnCycle) -> None:
        """What to call: with inject and heal before each is called, with effective and healed once it was read back."""


OnReconnected = Callable[[], None]


@runtime_checkable
class Reconnects(Protocol):
    """A fault whose heal starts replicas: it reports when they were started and nothing cuts them off any more.

    Whether they get healthy is shown later.
    """

    def on_reconnected(self, report: OnReconnected) -> None:
        """What to call during `heal`."""


@runtime_checkable
class EndsByItself(Protocol):
    """A fault that is over, and undone, once `inject` returns. Where that raised, it has to be healed."""

    ends_by_itself: Literal[True]
