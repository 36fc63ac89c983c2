"""A small CPU share for containers that boot during a heal: CPU shares, which weigh only containers against each other."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from chaoslab.errors import ChaoslabError
from chaoslab.stack.compose.containers import Containers

HELD_SHARES, USUAL_SHARES = 64, 1024  # Docker's own scale


class CpuShares:
    """A `boot_share.Means`. Docker keeps the shares of a dead container, so replicas have theirs from the start."""

    def __init__(self, containers: Containers, replicas: Collection[str]) -> None:
        self._containers, self._replicas = containers, [*replicas]
        self._before: dict[str, int] = {}
        self._why: str | None = None

    def look(self) -> None:
        """Set them, once: the containers exist, and keep what they are given."""

        def hold_back(container: str) -> None:
            self._before[container] = self._containers.shares(container)
            self._set(container, HELD_SHARES)

        if self._before or self._why:
            return
        try:
            self._containers.at_once(hold_back, [one.id for one in self._containers.of(self._replicas)])
        except ChaoslabError as refused:
            self._why = str(refused)

    def put_back(self) -> None:
        try:
            self._containers.at_once(lambda one: self._set(one[0], one[1] or USUAL_SHARES), [*self._before.items()])
        except ChaoslabError as refused:
            self._why = str(refused)

    def _set(self, container: str, shares: int) -> None:
        self._containers.set_shares(container, shares)
        if (found := self._containers.shares(container)) != shares:
            self._why = f"{container[:12]} has {found} CPU shares and not {shares}"

    def detail(self) -> dict[str, Any]:
        why = {"why": self._why} if self._why else {}
        return {"means": "cpu-shares", "shares": HELD_SHARES, "of": USUAL_SHARES, "containers": len(self._before), **why}
