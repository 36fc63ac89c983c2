"""CPU shares of containers that come back: set before they start, read back, put back."""

from __future__ import annotations

from typing import Any, cast

import pytest

from chaoslab.clock import Deadline
from chaoslab.errors import StackError
from chaoslab.stack.compose.containers import ContainerInfo, Containers
from chaoslab.stack.compose.share import HELD_SHARES, USUAL_SHARES, CpuShares
from chaoslab.stack.compose.stack import ComposeStack


class FakeContainers:
    """Containers as the engine keeps them. `refuses`: it says so; `deaf`: it takes what is set and does nothing."""

    def __init__(self, shares: dict[str, int], *, refuses: bool = False, deaf: bool = False) -> None:
        self.kept, self.refuses, self.deaf = shares, refuses, deaf

    def of(self, replicas: Any) -> list[ContainerInfo]:
        return [ContainerInfo(name, name, "replica", "dead", "Exited (137)") for name in self.kept if name in replicas]

    def at_once(self, do: Any, what: Any) -> list[Any]:
        return [do(one) for one in what]

    def shares(self, container: str) -> int:
        return self.kept[container]

    def set_shares(self, container: str, shares: int) -> None:
        if self.refuses:
            raise StackError("the engine refuses")
        if not self.deaf:
            self.kept[container] = shares


def shares_of(containers: FakeContainers, *replicas: str) -> CpuShares:
    return CpuShares(cast("Containers", containers), replicas)


def test_shares_are_small_until_they_are_put_back() -> None:
    """Each gets what it had, and where nothing was set the usual; others are not touched."""
    engine = FakeContainers({"a": 0, "b": 512, "elsewhere": 7})
    means = shares_of(engine, "a", "b")
    means.look()
    means.look()
    assert engine.kept == {"a": HELD_SHARES, "b": HELD_SHARES, "elsewhere": 7}
    assert means.detail() == {"means": "cpu-shares", "shares": HELD_SHARES, "of": USUAL_SHARES, "containers": 2}
    means.put_back()
    assert engine.kept == {"a": USUAL_SHARES, "b": 512, "elsewhere": 7}


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        (FakeContainers({"a": 0}, refuses=True), "the engine refuses"),
        (FakeContainers({"a": 0}, deaf=True), "a has 0 CPU shares and not 64"),
    ],
)
def test_an_engine_that_does_not_do_it_is_told_and_is_no_error(engine: FakeContainers, why: str) -> None:
    """A heal goes on all the same; what was not read back is not claimed."""
    means = shares_of(engine, "a")
    means.look()
    assert means.detail()["why"] == why
    means.put_back()


@pytest.mark.docker
def test_a_real_container_comes_back_with_a_small_share(shop: ComposeStack) -> None:
    """On the engine, as it has it; in the end it has the usual one."""
    shop.kill(["web-east"])
    shop.hold_back(["web-east"], 20)
    shop.start(["web-east"], Deadline.after(30))
    [container] = shop._containers.of(["web-east"])
    assert shop._containers.shares(container.id) == HELD_SHARES
    detail = shop.let_go(["web-east"])
    assert (detail["means"], detail["containers"], detail["until"]) == ("cpu-shares", 1, "healthy")
    assert shop._containers.shares(container.id) == USUAL_SHARES
