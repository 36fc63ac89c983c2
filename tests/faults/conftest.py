"""One mini stack for all tests of faults: each leaves it healed."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaoslab.stack.embedded import EmbeddedStack

sys.path.insert(0, str(Path(__file__).parents[1]))

from mini_stack import mini_stack  # noqa: E402


@pytest.fixture(scope="session")
def stack() -> Iterator[EmbeddedStack]:
    with mini_stack() as up:
        yield up
