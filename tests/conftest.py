"""What all tests share: their order, which step runs them, and which of them run alone.

Modules that several directories of tests share stand beside this file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chaoslab.errors import EnvironmentFault
from chaoslab.stack.compose.engine import Engine, connect, require_compose

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import steps  # noqa: E402

STEP_OF = {
    "nightly": "make nightly",
    "browser": "make test-all (needs Chromium)",
    "docker": "make test-all (needs a Docker engine)",
    "toxiproxy": "make test-all (needs Toxiproxy)",
    "slow": "make test-all (takes long)",
}
UMASK = os.umask(0o022)
os.umask(UMASK)
left: Counter[str] = Counter()  # how many tests this run leaves to which step


def pytest_runtest_setup() -> None:
    """Patroni changes the umask of whoever imports it, and tests of the stacks do."""
    os.umask(UMASK)


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


# --- steps ------------------------------------------------------------------------------------------------------


def id_of(item: pytest.Item) -> str:
    """Relative to tests/."""
    return item.nodeid.removeprefix("tests/")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before -m selects by marker. The order within a directory stays."""
    for item in items:
        for mark in steps.marks(id_of(item)):
            item.add_marker(mark)
        if parameters_of(item).get("any_server") == "toxiproxy":  # the relay is the other one
            item.add_marker("toxiproxy")
    items.sort(key=lambda item: steps.place(id_of(item)))
    whole = [Path(argument).resolve() for argument in config.args] == [HERE]
    if whole and (unused := steps.unused(map(id_of, items))):
        raise pytest.UsageError(f"tests/steps.py names tests that are not there: {', '.join(unused)}")


def parameters_of(item: pytest.Item) -> Mapping[str, Any]:
    """Of its fixtures and its own."""
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        left.update(next(([step] for mark, step in STEP_OF.items() if item.get_closest_marker(mark)), []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if left:
        terminalreporter.write_line("left to " + "; ".join(f"{step}: {count} tests" for step, count in sorted(left.items())))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be skipped, a skip is a failure: CHAOSLAB_REQUIRE_DOCKER, as CI sets it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = dict(left)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CHAOSLAB_REQUIRE_DOCKER") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("\nCHAOSLAB_REQUIRE_DOCKER is set, and tests were skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# --- several workers: `pytest -n 3` -----------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Wait, before any time-out of the test begins, until no test that runs alone is under way; to run alone, until none is.

    Of the tests that use a Docker engine one runs at a time.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with contextlib.ExitStack() as held:
        if item.get_closest_marker("docker"):
            held.enter_context(locked("pyproject.toml"))
        with locked("tests/conftest.py"):  # a test that waits to run alone lets no other begin
            held.enter_context(locked("tests/steps.py", fcntl.LOCK_EX if steps.is_alone(id_of(item)) else fcntl.LOCK_SH))
        return (yield)


@contextlib.contextmanager
def locked(name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Any file that all workers have is a lock. It is unlocked at the end, even where a child of the test still has it open."""
    with (HERE.parent / name).open() as file:
        fcntl.flock(file, how)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each worker collects all tests, and leaves the same."""
    if not left:
        left.update(getattr(node, "workeroutput", {}).get("left", {}))
