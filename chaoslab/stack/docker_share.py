"""A small share of the processors for containers that come back: CPU shares, which count among containers alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from chaoslab.errors import ChaoslabError
from chaoslab.stack.docker_containers import Containers

HELD_SHARES, USUAL_SHARES = 64, 1024  # Docker's own scale


class CpuShares:
    """Docker keeps the shares of a container that is dead, so those that come back have theirs from the start."""

    def __init__(self, containers: Containers, replicas: Collection[str]) -> None:
        self._containers, self._replicas = containers, [*replicas]
        self._before: dict[str, int] = {}
        self._why: str | None = None

    def look(self) -> None:
        """Once for all: the containers are there, and keep what they are given."""
        if self._before or self._why:
            return
        try:
            self._containers.at_once(self._hold_back, [one.id for one in self._containers.of(self._replicas)])
        except ChaoslabError as refused:
            self._why = str(refused)

    def _hold_back(self, container: str) -> None:
        self._before[container] = self._containers.shares(container)
        self._set(container, HELD_SHARES)

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
