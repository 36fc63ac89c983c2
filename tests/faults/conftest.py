"""One mini stack for all tests of faults, which each leaves healed; and one in memory, new for each test that has to go red."""

from collections.abc import Iterator

import pytest
from fake_stack import FakeStack
from mini_stack import MINI, mini_stack

from chaoslab.clock import Deadline
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.embedded.stack import EmbeddedStack


@pytest.fixture(scope="session")
def stack() -> Iterator[EmbeddedStack]:
    with mini_stack(cut=["store"]) as up:
        yield up


@pytest.fixture
def fake() -> FakeStack:
    stack = FakeStack(load_stack([MINI / "compose.yaml"]).topology())
    stack.up(Deadline.after(1), lambda _: None)
    return stack
