"""Modules that several areas of tests share stand beside this file."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaoslab.errors import EnvironmentFault
from chaoslab.stack.docker_engine import Engine, connect, require_compose

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def _registry_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of tests are not among the user's: healing and stopping all of them must not reach what runs beside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime", numbered=True)))
        yield


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine here; without one the test is skipped, unless CHAOSLAB_REQUIRE_DOCKER says that none may be."""
    try:
        found = connect()
        require_compose()
    except EnvironmentFault as missing:
        if os.environ.get("CHAOSLAB_REQUIRE_DOCKER"):
            raise
        pytest.skip(str(missing))
    return found
