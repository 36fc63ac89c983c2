"""pay with a defect: the transfers that it queues while no database node leads are only in memory.

Not part of the stack; an overlay replaces pay with it, to prove that what was acknowledged and never applied is detected.
"""

from __future__ import annotations

from typing import Any

from pay_queues import pay_queues
from web_service import serve


class InMemoryQueue:
    """A queue that is lost with its process."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Any]] = {}

    def put(self, identity: str, terms: list[Any]) -> bool:
        return self._waiting.setdefault(identity, terms) == terms

    def first(self) -> list[Any] | None:
        return next(iter(self._waiting.values()), None)

    def remove(self, identity: str) -> None:
        self._waiting.pop(identity, None)

    def refuse(self, identity: str, why: str) -> None:
        self.remove(identity)


if __name__ == "__main__":
    serve(lambda: pay_queues(InMemoryQueue()))
