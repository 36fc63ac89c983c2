"""The map in chaoslab/README.md is true, and the properties beside it hold. Each check is tried on a tree that breaks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import source_tree as tree

from chaoslab.spec import fault_types

ROOT = Path(__file__).parents[2] / "chaoslab"
MODULES = tree.read_tree(ROOT)
MAP = (ROOT / "README.md").read_text()
LAYERS = tree.read_map(MAP)

JUDGE = {name for name in MODULES if name.startswith("judge.")}
EFFECTS = {
    *("os", "io", "sys", "shutil", "tempfile", "glob", "signal", "resource", "threading", "multiprocessing", "concurrent"),
    *("subprocess", "socket", "asyncio", "select", "ssl", "http", "urllib", "logging", "time", "random", "secrets", "uuid"),
    *("psutil", "aiohttp", "requests", "docker", "toxiproxy", "locust", "gevent", "click", "rich", "jinja2"),
}
# Modules that the judge imports for one pure thing, and what that thing is.
IMPURE_FRIENDS = {"clock": "NS_PER_S and NS_PER_MS, the lengths of a second and of a millisecond"}
DOCKER = {name for name in MODULES if name.startswith("stack.compose.")}
SEAMS = {
    "locust": {"load.locust_plugin"},
    "gevent": {"load.locust_plugin"},
    "docker": DOCKER,
    "toxiproxy": {"stack.toxiproxy.driver"},
    "jinja2": {"report.html", "gameday.pages", "adopt.write"},
    "yaml": {name for name in MODULES if name.startswith("spec.")},
}
CONCRETE = {"stack.embedded.stack:EmbeddedStack", "stack.compose.stack:ComposeStack"}
PICKERS = {"run.embedded", "run.compose"}
SHIMS = {"locust_rows", "stack.docker_sweep", "__main__"}  # old names, and the program's
TIMEKEEPERS = {"clock"}
LAUNCHERS = {"process"}


def test_every_module_stands_in_a_layer_of_the_map():
    """A layer that lands gets a row; one that goes loses it."""
    assert list(tree.off_the_map(MODULES, LAYERS, SHIMS)) == []


def test_the_diagram_shows_the_layers_of_the_table():
    """In the same order, layers inside of layers left out."""
    assert tree.read_diagram(MAP) == [layer for layer in LAYERS if "." not in layer]


@pytest.mark.parametrize("shim", sorted(SHIMS))
def test_an_old_name_holds_nothing_of_its_own(shim):
    """It imports the one module that it stands for."""
    assert len(MODULES[shim].imports) == 1


def test_the_map_is_short():
    """One screen; who reads it for the first time reads all of it."""
    assert len(MAP.splitlines()) <= 60


def test_imports_point_up():
    """A module knows what stands above it on the map, never what stands below."""
    assert list(tree.upward(MODULES, LAYERS, SHIMS)) == []


def test_every_module_of_faults_is_registered():
    """Known bad: a new file in faults/ whose faults no experiment can name."""
    defining = {path.stem for path in (ROOT / "faults").glob("*.py") if "\nFAULT_TYPES" in path.read_text()}
    assert defining == set(fault_types._OUR_MODULES)


def test_there_are_no_cycles():
    """Each module can be understood after those that it imports."""
    assert list(tree.cycles(MODULES)) == []


def test_nobody_inside_goes_by_the_front():
    """Public names are imported from their layers; the package's module would hide which."""
    assert list(tree.by_the_front(MODULES, {"__version__"})) == []


def test_the_judge_is_pure():
    """A stored run can be judged again, anywhere, and comes to the same."""
    without = {name: module for name, module in MODULES.items() if name not in IMPURE_FRIENDS}
    for module in without.values():
        module.imports -= IMPURE_FRIENDS.keys()
    assert list(tree.effects(without, JUDGE & without.keys(), EFFECTS)) == []
    for friend in IMPURE_FRIENDS:
        taken = {name for module in JUDGE for name in MODULES[module].names if name.startswith(f"{friend}:")}
        assert taken <= {f"{friend}:NS_PER_S", f"{friend}:NS_PER_MS"}


def test_the_judge_loads_no_fault():
    """The kinds of faults are imported by name, which no import statement shows: not for the judge alone."""
    code = "import sys, chaoslab.judge.verdict; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("chaoslab.") for name in found.stdout.split() if name.startswith("chaoslab.")}
    assert "judge.verdict" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in ("faults", "process", "stack", "engine")}


def test_reports_know_nothing_of_the_engine():
    """What is shown comes from rows and results alone."""
    busy = {name for name in MODULES if name.partition(".")[0] in ("engine", "run", "load", "probe", "stack", "faults")}
    reports = {name for name in MODULES if name.startswith("report")}
    assert not tree.reach(MODULES, *reports) & busy


@pytest.mark.parametrize("package", SEAMS)
def test_foreign_packages_stay_behind_their_seam(package):
    """Each is known in one place, where its errors become ours."""
    assert list(tree.foreigners(MODULES, package, SEAMS[package])) == []


def test_nobody_imports_what_patches_the_interpreter():
    """Locust's processes import `load/locust_plugin`; ours never do."""
    plugin = {"load.locust_plugin", "locust_rows"}
    assert [module.name for module in MODULES.values() if module.imports & plugin and module.name not in plugin] == []


def test_few_places_pick_a_runtime():
    """Everything else asks for a Stack."""
    assert list(tree.pickers(MODULES, CONCRETE, PICKERS)) == []


def test_nobody_branches_on_a_runtime_s_name():
    """What differs between runtimes, each says of itself. (Of YAML, `compose` is a dialect.)"""
    assert list(tree.branches_on(ROOT, {"embedded", "compose"}, {"run.runtimes", "spec.yaml.source"})) == []


def test_one_module_spawns():
    """So that every process is in a session of its own, and can be found and ended."""
    assert list(tree.launches(MODULES, LAUNCHERS)) == []


def test_one_module_reads_the_clock():
    """So that tests own the time."""
    assert list(tree.timekeepers(MODULES, TIMEKEEPERS)) == []
