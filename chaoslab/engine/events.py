"""The events that the engine yields during a run."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from chaoslab.history.rows import AnyRow

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """A line of progress for people."""

    text: str


@dataclass(frozen=True)
class Tick:
    """Time passed; a chance to redraw."""


@dataclass(frozen=True)
class Finished:
    """The one terminal event. `unrecorded`: why the history stops before the end, in words; such a run cannot be judged."""

    unrecorded: str | None = None


Event = AnyRow | Progress | Tick | Finished
Events = Generator[Event, None, T]  # work that yields events while it runs, and returns a T
