"""Addresses that members of a cluster advertise: shut behind a fence only while nobody at home may come in."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mini_stack import mini_stack

from chaoslab.clock import Deadline
from chaoslab.stack.embedded import EmbeddedStack

CLUSTER = "x-chaoslab: {advertised: ['app-east:8000', 'app-west:8000']}\n"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    overlay = tmp_path_factory.mktemp("cluster") / "cluster.yaml"
    overlay.write_text(CLUSTER)
    with mini_stack(Path(overlay)) as up:
        yield up


def gets_in(stack: EmbeddedStack, replica: str, within_s: float = 0.3) -> bool:
    """Whether connect() to the advertised address of a replica comes back."""
    front = next(front for front in stack._wiring.fronts if replica in front.name)
    with closing(socket.socket()) as client:
        client.setblocking(False)
        client.connect_ex(front.listen)
        return bool(select.select([], [client], [], within_s)[1])


def test_a_burnt_site_hides_and_an_isolated_one_lets_its_own_in(stack: EmbeddedStack) -> None:
    """It opens before the first of it starts: neighbours find each other behind the fence. The survivor's stays open."""
    around = stack.topology.flows_around("east")
    stack.links.fence(around)
    assert gets_in(stack, "app-east")
    stack.kill(["app-east"])
    assert not gets_in(stack, "app-east")
    assert gets_in(stack, "app-west")
    stack.start(["app-east"], Deadline.after(20))
    assert gets_in(stack, "app-east")
    stack.links.lift(around)
    assert gets_in(stack, "app-east")


def test_death_without_a_fence_hides_nothing(stack: EmbeddedStack) -> None:
    """A dead process is told of by the kernel, and so it has to be seen."""
    stack.kill(["app-east"])
    assert gets_in(stack, "app-east")
    stack.start(["app-east"], Deadline.after(20))
