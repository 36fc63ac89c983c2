"""The map in chaoslab/README.md is true, and the properties beside it hold. Each check is tried on a tree that breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest
import source_tree as tree

ROOT = Path(__file__).parents[2] / "chaoslab"
MODULES = tree.read_tree(ROOT)
MAP = (ROOT / "README.md").read_text()
ROWS = tree.read_map(MAP)

JUDGE = {
    *("slots", "writes", "outages", "record", "measure", "buckets", "starvation", "said", "clocks", "premises", "checks"),
    *("case", "figures", "verdict"),
    *("result", "schedule", "events", "units", "spec.model", "spec.objectives"),
}
EFFECTS = {
    *("os", "io", "sys", "shutil", "tempfile", "glob", "signal", "resource", "threading", "multiprocessing", "concurrent"),
    *("subprocess", "socket", "asyncio", "select", "ssl", "http", "urllib", "logging", "time", "random", "secrets", "uuid"),
    *("psutil", "aiohttp", "requests", "docker", "toxiproxy", "locust", "gevent", "click", "rich", "jinja2", "matplotlib"),
}
# Modules that the judge imports for one pure thing, and what that thing is.
IMPURE_FRIENDS = {"clock": "NS_PER_S, the length of a second"}
DOCKER = {name for name in MODULES if name.startswith("stack.docker_")} | {"links.docker_links"}
SEAMS = {
    "locust": {"locust_rows"},
    "gevent": {"locust_rows"},
    "docker": DOCKER,
    "toxiproxy": {"links.driver"},
    "matplotlib": {"report.charts"},
    "yaml": {name for name in MODULES if name.startswith("spec.")},
}
CONCRETE = {"stack.embedded:EmbeddedStack", "stack.compose:ComposeStack"}
PICKERS = {"cli", "commands", "runner", "pytest_plugin"}
TIMEKEEPERS = {"clock"}
LAUNCHERS = {"process"}


def test_the_map_names_every_module_once():
    """A module that lands gets a row; one that goes loses it."""
    assert list(tree.off_the_map(MODULES, ROWS)) == []


def test_the_map_is_short():
    """One screen; who reads it for the first time reads all of it."""
    assert len(MAP.splitlines()) <= 60


def test_imports_point_up():
    """A module knows what stands above it on the map, never what stands below."""
    assert list(tree.upward(MODULES, ROWS)) == []


def test_there_are_no_cycles():
    """Each module can be understood after those that it imports."""
    assert list(tree.cycles(MODULES)) == []


def test_the_judge_is_pure():
    """A stored run can be judged again, anywhere, and comes to the same."""
    without = {name: module for name, module in MODULES.items() if name not in IMPURE_FRIENDS}
    for module in without.values():
        module.imports -= IMPURE_FRIENDS.keys()
    assert list(tree.effects(without, JUDGE & without.keys(), EFFECTS)) == []
    for friend in IMPURE_FRIENDS:
        taken = {name for module in JUDGE for name in MODULES[module].names if name.startswith(f"{friend}:")}
        assert taken <= {f"{friend}:NS_PER_S"}


def test_reports_know_nothing_of_the_engine():
    """What is shown comes from rows and results alone."""
    reports = {name for name in MODULES if name.startswith("report")}
    assert not tree.reach(MODULES, *reports) & {"engine", "runner", "load", "prober", "stack.embedded", "stack.compose"}


@pytest.mark.parametrize("package", SEAMS)
def test_foreign_packages_stay_behind_their_seam(package):
    """Each is known in one place, where its errors become ours."""
    assert list(tree.foreigners(MODULES, package, SEAMS[package])) == []


def test_nobody_imports_what_patches_the_interpreter():
    """Locust's processes import `locust_rows`; ours never do."""
    assert [module.name for module in MODULES.values() if "locust_rows" in module.imports] == []


def test_few_places_pick_a_runtime():
    """Everything else asks for a Stack."""
    assert list(tree.pickers(MODULES, CONCRETE, PICKERS)) == []


def test_one_module_spawns():
    """So that every process is in a session of its own, and can be found and ended."""
    assert list(tree.launches(MODULES, LAUNCHERS)) == []


def test_one_module_reads_the_clock():
    """So that tests own the time."""
    assert list(tree.timekeepers(MODULES, TIMEKEEPERS)) == []
