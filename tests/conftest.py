"""Modules that several areas of tests share stand beside this file."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def _registry_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of tests are not among the user's: healing and stopping all of them must not reach what runs beside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime", numbered=True)))
        yield
