"""One mini stack for all tests of faults: each leaves it healed."""

from collections.abc import Iterator

import pytest
from mini_stack import mini_stack

from chaoslab.stack.embedded import EmbeddedStack


@pytest.fixture(scope="session")
def stack() -> Iterator[EmbeddedStack]:
    with mini_stack() as up:
        yield up
