"""Known bad: each architecture check finds the fault that it is for, in a small tree made for it."""

from __future__ import annotations

import pytest
import source_tree as tree

MAP = """
```
errors            the lowest
│
├─ spec           a layer
engine            the highest
```

| layer | what is in it, in order | what for |
|---|---|---|
| | errors | the lowest |
| spec/ | yaml, its files | a layer with a layer in it |
| | engine | the highest |
"""
LAYERS = ["errors", "spec.yaml", "spec", "engine"]
GOOD = {
    "__init__.py": '"""The package."""\n__version__ = "1"\n',
    "errors.py": "import pathlib\n",
    "spec/__init__.py": '"""Nothing."""\n',
    "spec/model.py": "from pkg.errors import Wrong\nfrom pkg.spec.yaml.source import Y\n",
    "spec/yaml/__init__.py": "",
    "spec/yaml/source.py": "",
    "engine.py": "import subprocess\nfrom pkg import errors\nfrom pkg.spec.model import X\nchild: subprocess.Popen[bytes]\n",
    "__main__.py": "from pkg.engine import main\nmain()\n",
}


@pytest.fixture
def modules(tmp_path):
    """The good tree, with some files changed."""

    def make(**changed: str) -> dict[str, tree.Module]:
        root = tmp_path / "pkg"
        for path, text in {**GOOD, **{name.replace("__", "/") + ".py": text for name, text in changed.items()}}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        return tree.read_tree(root)

    return make


def test_a_good_tree_has_no_fault(modules):
    """Else the cases below would prove nothing."""
    good = modules()
    assert tree.read_map(MAP) == LAYERS
    assert tree.read_diagram(MAP) == ["errors", "spec", "engine"]
    for found in (tree.off_the_map(good, LAYERS, {"__main__"}), tree.upward(good, LAYERS), tree.cycles(good)):
        assert list(found) == []
    for found in (tree.launches(good, set()), tree.timekeepers(good, set()), tree.effects(good, {"engine"}, {"os"})):
        assert list(found) == []


def test_a_module_without_a_layer(modules):
    """It landed and nobody told the map."""
    found = list(tree.off_the_map(modules(hall__extra="x = 1\n"), LAYERS, {"__main__"}))
    assert found == ["hall.extra: not on the map; give it a layer of chaoslab/README.md"]


def test_a_layer_without_a_module(modules):
    """It went, or the map has a typo."""
    found = list(tree.off_the_map(modules(), [*LAYERS, "ghost", "errors"], {"__main__"}))
    assert found == ["ghost: on the map, and there is no such layer", "errors: twice on the map"]


def test_a_layer_that_imports_from_the_one_around_it(modules):
    """A layer in a layer stands above it."""
    found = list(tree.upward(modules(spec__yaml__source="from pkg.spec import model\n", spec__model="x = 1\n"), LAYERS))
    assert found == ["spec.yaml.source imports spec.model, which stands below it"]


@pytest.mark.parametrize(
    "text",
    [
        "from pkg.engine import main\n",
        "import pkg.engine\n",
        "from pkg import engine\n",
        "def late():\n    from pkg.engine import main\n",
    ],
)
def test_an_import_from_below(modules, text):
    """However it is written, late ones too."""
    assert list(tree.upward(modules(errors=text), LAYERS)) == ["errors imports engine, which stands below it"]


def test_a_cycle(modules):
    """By way of a third."""
    found = list(tree.cycles(modules(errors="from pkg import engine\n")))
    assert found[:2] == ["engine imports itself by way of others", "errors imports itself by way of others"]


def test_a_public_name_taken_inside(modules):
    """By way of the package's own module, which knows every layer."""
    found = list(tree.by_the_front(modules(errors="from pkg import run\nfrom pkg import __version__\n"), {"__version__"}))
    assert found == ["errors takes run from the package; take it from its layer"]


def test_an_effect_far_away(modules):
    """The judge imports something that imports something that opens sockets."""
    found = tree.effects(modules(errors="import socket\n"), {"engine"}, {"socket"})
    assert list(found) == ["errors imports socket, and the judge imports errors"]


def test_a_foreign_package_outside_its_seam(modules):
    """Also by a submodule."""
    assert list(tree.foreigners(modules(engine="import docker.errors\n"), "docker", {"errors"}))


def test_a_concrete_class_where_a_protocol_would_do(modules):
    """The engine picks."""
    bad = modules(engine="from pkg.spec.model import Concrete\n")
    assert list(tree.pickers(bad, {"spec.model:Concrete"}, {"cli"})) == ["engine picks Concrete; only cli may"]
    assert list(tree.pickers(bad, {"spec.model:Concrete"}, {"engine"})) == []


@pytest.mark.parametrize(
    "text",
    [
        "if name == 'compose': ...\n",
        "if name in ('embedded', 'compose'): ...\n",
        "match name:\n    case 'compose': ...\n",
        "stack = stacks['compose']\n",
    ],
)
def test_a_branch_on_a_runtime_s_name(modules, tmp_path, text):
    """Each way to write one; naming it in a message or a table is none."""
    modules(engine=text, errors="cure = 'use compose'; names = ('compose',)\n")
    found = set(tree.branches_on(tmp_path / "pkg", {"embedded", "compose"}, {"runtimes"}))
    assert {line.partition(":")[0] for line in found} == {"engine"}
    assert not set(tree.branches_on(tmp_path / "pkg", {"embedded", "compose"}, {"engine"}))


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess\nsubprocess.run(['ls'])\n",
        "import subprocess\nsubprocess.Popen(['ls'])\n",
        "from subprocess import check_output\n",
        "from os import fork\n",
        "import os\nos.system('ls')\n",
        "import os\nos.execvp('ls', ['ls'])\n",
        "import os\nos.fork()\n",
        "import asyncio\nasyncio.create_subprocess_exec('ls')\n",
        "import multiprocessing\n",
    ],
)
def test_a_process_started_elsewhere(modules, text):
    """Each way to start one."""
    assert list(tree.launches(modules(engine=text), {"process"}))


@pytest.mark.parametrize(
    "text",
    [
        "import time\n",
        "from time import sleep\n",
        "from datetime import datetime\ndatetime.now()\n",
        "import datetime\ndatetime.datetime.utcnow()\n",
        "from datetime import date\ndate.today()\n",
        "import asyncio\nasyncio.get_running_loop().time()\n",
    ],
)
def test_a_clock_read_elsewhere(modules, text):
    """Each way to read one."""
    assert list(tree.timekeepers(modules(engine=text), {"clock"}))
