"""Known bad: each architecture check finds the fault that it is for, in a small tree made for it."""

from __future__ import annotations

import pytest
import source_tree as tree

MAP = """
| in | modules | what for |
|---|---|---|
| | errors | the lowest |
| spec/ | model | a package |
| | engine, \\_\\_main\\_\\_ | the highest |
"""
ROWS = [["errors"], ["spec.model"], ["engine", "__main__"]]
GOOD = {
    "__init__.py": '"""The package."""\n__version__ = "1"\n',
    "errors.py": "import pathlib\n",
    "spec/__init__.py": '"""Nothing."""\n',
    "spec/model.py": "from pkg.errors import Wrong\n",
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
    assert tree.read_map(MAP) == ROWS
    for found in (tree.off_the_map(good, ROWS), tree.upward(good, ROWS), tree.cycles(good)):
        assert list(found) == []
    for found in (tree.launches(good, set()), tree.timekeepers(good, set()), tree.effects(good, {"engine"}, {"os"})):
        assert list(found) == []


def test_a_module_without_a_row(modules):
    """It landed and nobody told the map."""
    assert list(tree.off_the_map(modules(spec__extra="x = 1\n"), ROWS)) == [
        "spec.extra: not on the map; give it a row of chaoslab/README.md"
    ]


def test_a_row_without_a_module(modules):
    """It went, or the map has a typo."""
    found = list(tree.off_the_map(modules(), [*ROWS, ["ghost", "errors"]]))
    assert found == ["ghost: on the map, and there is no such module", "errors: twice on the map"]


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
    assert list(tree.upward(modules(errors=text), ROWS)) == ["errors imports engine, which stands below it"]


def test_a_cycle(modules):
    """By way of a third."""
    found = list(tree.cycles(modules(errors="from pkg import engine\n")))
    assert found[:2] == ["engine imports itself by way of others", "errors imports itself by way of others"]


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
