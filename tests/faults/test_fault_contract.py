"""Every kind of fault keeps the contract on the fake stack; no other layer has a list of the kinds."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from fault_contract import check_contract

import chaoslab
from chaoslab.spec.fault_types import fault_types

WAYS = {"from": "east", "to": "west"}
FAULTS: list[dict[str, Any]] = [
    {"fault": "site.power-loss", "site": "east"},
    {"fault": "site.power-loss", "site": "east", "disks": "destroy"},
    {"fault": "site.power-loss", "site": "witness", "disks": "cut"},
    {"fault": "site.power-loss", "site": "east", "services": ["app-east"]},
    {"fault": "site.destroy", "sites": ["east"], "replaced_after": "0s"},
    {"fault": "site.destroy", "sites": ["east", "west"], "replaced_after": "60s"},
    {"fault": "site.isolate", "site": "east"},
    {"fault": "link.cut", **WAYS},
    {"fault": "link.cut", **WAYS, "direction": "from-to"},
    {"fault": "link.cut", "from": "outside", "to": "east", "mode": "refuse"},
    {"fault": "link.cut", "from": "outside", "to": "east", "mode": "reset", "direction": "from-to"},
    {"fault": "link.degrade", **WAYS, "latency": "100ms"},
    {"fault": "link.degrade", **WAYS, "loss": "90%"},
    {"fault": "link.flap", **WAYS, "period": "1s", "count": 2},
    {"fault": "service.kill", "service": "app"},
    {"fault": "service.pause", "service": "app", "site": "west"},
    {"fault": "service.stop", "service": "app", "site": "west"},
    {"fault": "service.restart", "service": "app"},
    {"fault": "service.throttle", "service": "app", "site": "west", "cpu": "20%"},
    {"fault": "dependency.down", "service": "store"},
    {"fault": "dependency.down", "service": "store", "mode": "silent"},
    {"fault": "dependency.down", "service": "app", "callers": "elsewhere"},
    {"fault": "dependency.down", "service": "app", "from": "witness"},
    {"fault": "dependency.down", "service": "store", "from": ["east", "outside"], "mode": "silent"},
    {"fault": "exec", "inject": ["touch", "x"], "heal": ["rm", "-f", "x"], "verify": ["test", "-e", "x"]},
]
# The judge works on rows of any age, and knows by name what cannot lose a write.
KNOWS_KINDS = {"judge/losses.py"}


@pytest.mark.parametrize("written", FAULTS, ids=lambda w: " ".join(str(v) for v in w.values()))
def test_a_fault_keeps_the_contract(written: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with the options that change what it does."""
    monkeypatch.chdir(tmp_path)
    check_contract(written, monkeypatch)


def test_every_kind_is_tried() -> None:
    """A new one gets its line above."""
    assert {written["fault"] for written in FAULTS} == fault_types().keys()


def test_no_other_room_lists_the_kinds() -> None:
    """Whoever asks for one by its tag would not know those of other packages."""
    root = Path(chaoslab.__file__).parent
    found = set()
    for file in root.rglob("*.py"):
        where = file.relative_to(root)
        texts = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
        if where.parts[0] != "faults" and texts & fault_types().keys():
            found.add(where.as_posix())
    assert found == KNOWS_KINDS
