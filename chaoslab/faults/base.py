"""What every fault can do, and the evidence it brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from chaoslab.clock import Deadline
from chaoslab.undo import AnyStep


@dataclass(frozen=True)
class Evidence:
    """Proof, seen from outside, that a fault bites or is healed. `since_ns`: no later than this it was so (monotonic)."""

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

    def verify(self) -> Evidence:
        """Raises FaultNotEffective when the effect is not seen."""

    def heal(self, deadline: Deadline) -> dict[str, Any]:
        """Undo it. Raises NotReady or StackError when that fails."""

    def verify_heal(self, deadline: Deadline) -> Evidence:
        """Raises NotReady when what worked before does not work again by the deadline."""


CycleEvent = Literal["inject", "effective", "heal", "healed"]
TellCycle = Callable[[int, CycleEvent], None]  # the number of the cycle, from 1


@runtime_checkable
class ActsInCycles(Protocol):
    """A fault that begins and ends again and again. After `inject` it tells of everything but the begin of the first cycle."""

    def tell_cycles(self, tell: TellCycle) -> None:
        """Whom to tell: inject and heal before each is called, effective and healed once it was read back."""


@runtime_checkable
class EndsByItself(Protocol):
    """A fault that is over, and undone by itself, once `inject` returns. Where that raised, it has to be healed."""

    ends_by_itself: Literal[True]
