"""Workers without a port are killed, paused, stopped and burnt; the kernel's or the engine's word is the evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_stack import FakeStack
from mini_stack import MINI, mini_stack
from pydantic import TypeAdapter

from chaoslab.clock import Deadline
from chaoslab.errors import FaultNotEffective, NotReady
from chaoslab.faults import proof
from chaoslab.faults.base import Fault
from chaoslab.faults.proof import Before, alive_before, prove_back
from chaoslab.faults.registry import fault_for
from chaoslab.spec.fault_types import FaultSpec
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.protocol import Stack

SPEC = TypeAdapter(FaultSpec)
WORKER: dict[str, Any] = {
    "command": ["python", "-c", "import time; time.sleep(600)"],
    "labels": {"chaoslab.site": "far"},
}
FAULTS = [
    {"fault": "service.kill", "service": "worker"},
    {"fault": "service.pause", "service": "worker"},
    {"fault": "service.stop", "service": "worker", "grace": "1s"},
    {"fault": "service.restart", "service": "worker", "grace": "1s"},
    {"fault": "site.power-loss", "site": "far"},
]


@pytest.fixture(autouse=True)
def _short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "LIVES_S", 0.2)


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("workers") / "overlay.yaml"
    section = {"sites": ["east", "west", "far"]}
    file.write_text(yaml.safe_dump({"services": {"worker": WORKER}, "x-chaoslab": section}))
    return file


@pytest.fixture(scope="module")
def working(overlay: Path) -> Iterator[EmbeddedStack]:
    with mini_stack(overlay) as up:
        yield up


def made(stack: Stack, written: dict[str, Any]) -> Fault:
    return fault_for(SPEC.validate_python({"id": "f", **written}), stack)


@pytest.mark.parametrize("written", FAULTS, ids=[str(one["fault"]) for one in FAULTS])
def test_a_worker_is_proven_down_and_back(working: EmbeddedStack, written: dict[str, Any]) -> None:
    """Known bad: `nothing answered before the fault … no port at all`, which made each of these inconclusive."""
    fault = made(working, written)
    before = working.testimony(["worker"])["worker"].began
    fault.prepare()
    fault.inject()
    down = fault.verify()
    if written["fault"] != "service.restart":
        assert "worker" in down.detail["testified"]
        fault.heal(Deadline.after(20))
    back = fault.verify_heal(Deadline.after(20))
    assert working.states()["worker"] == "running"
    assert (working.testimony(["worker"])["worker"].began == before) is (written["fault"] == "service.pause")
    assert "worker" in back.detail["testified"]


@pytest.fixture
def fake(overlay: Path) -> FakeStack:
    stack = FakeStack(load_stack([MINI / "compose.yaml", overlay]).topology())
    stack.up(Deadline.after(1), lambda _: None)
    return stack


def test_a_worker_that_had_ended_before_proves_nothing(fake: FakeStack) -> None:
    fake.kill(["worker"])
    with pytest.raises(FaultNotEffective, match="no port at all"):
        alive_before(fake, fake.topology.of_service("worker"))


@pytest.mark.parametrize("written", FAULTS, ids=[str(one["fault"]) for one in FAULTS])
def test_a_worker_whose_image_declares_a_port(written: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the image of a server, and listens nowhere. Known bad: `nothing answered before the fault`, so inconclusive."""
    file = tmp_path / "overlay.yaml"
    section = {"sites": ["east", "west", "far"]}
    file.write_text(yaml.safe_dump({"services": {"worker": {**WORKER, "expose": [8000]}}, "x-chaoslab": section}))
    stack = FakeStack(load_stack([MINI / "compose.yaml", file]).topology())
    stack.up(Deadline.after(1), lambda _: None)
    monkeypatch.setattr(stack, "reaches", lambda *_, **__: False)
    fault = made(stack, written)
    fault.prepare()
    fault.inject()
    assert "worker" in fault.verify().detail.get("testified", {}) or written["fault"] == "service.restart"
    fault.heal(Deadline.after(5))
    assert "worker" in fault.verify_heal(Deadline.after(5)).detail["testified"]


def test_a_kill_without_effect_is_found(fake: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: a runtime whose kill does nothing."""
    fault = made(fake, FAULTS[0])
    fault.prepare()
    with pytest.raises(FaultNotEffective, match="worker is running"):
        fault.verify()


def test_a_worker_that_begins_again_and_again_is_not_back(fake: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: it runs whenever somebody looks, but never for long."""
    before = alive_before(fake, fake.topology.of_service("worker"))
    assert prove_back(fake, before, Deadline.after(2))
    testify = fake.testimony

    def restless(replicas: Any) -> Any:
        fake.lives["worker"] += 1
        return testify(replicas)

    monkeypatch.setattr(fake, "testimony", restless)
    with pytest.raises(NotReady, match="replicas without a port to run again"):
        prove_back(fake, Before(workers=("worker",)), Deadline.after(0.6))
