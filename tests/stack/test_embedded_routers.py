"""Addresses that members of a cluster advertise: connects hang behind a fence only while no process of the site is alive."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mini_stack import mini_stack

from chaoslab.clock import Deadline
from chaoslab.stack.embedded.stack import EmbeddedStack

CLUSTER = "x-chaoslab: {advertised: ['app-east:8000', 'app-west:8000']}\n"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    overlay = tmp_path_factory.mktemp("cluster") / "cluster.yaml"
    overlay.write_text(CLUSTER)
    with mini_stack(Path(overlay)) as up:
        yield up


def gets_in(stack: EmbeddedStack, replica: str, within_s: float = 0.3) -> bool:
    """Whether connect() to the advertised address of a replica comes back."""
    router = next(router for router in stack._wiring.routers if replica in router.name)
    with closing(socket.socket()) as client:
        client.setblocking(False)
        client.connect_ex(router.listen)
        return bool(select.select([], [client], [], within_s)[1])


def test_a_dead_site_stalls_connects_and_an_isolated_one_accepts_its_own(stack: EmbeddedStack) -> None:
    """It accepts again before its first replica starts: they find each other behind the fence. The survivor never stalls."""
    around = stack.topology.flows_around("east")
    stack.links.fence(around, "test")
    assert gets_in(stack, "app-east")
    stack.kill(["app-east"])
    assert not gets_in(stack, "app-east")
    assert gets_in(stack, "app-west")
    stack.start(["app-east"], Deadline.after(20))
    assert gets_in(stack, "app-east")
    stack.links.lift(around, "test")
    assert gets_in(stack, "app-east")


def test_death_without_a_fence_hides_nothing(stack: EmbeddedStack) -> None:
    """The kernel refuses for a dead process, and clients have to see that."""
    stack.kill(["app-east"])
    assert gets_in(stack, "app-east")
    stack.start(["app-east"], Deadline.after(20))
