"""What every kind of fault keeps, ours or another package's: tried on the fake stack."""

from __future__ import annotations

from typing import Any

import pytest
from fake_stack import FakeStack
from mini_stack import MINI
from pydantic import TypeAdapter

from chaoslab.clock import SYSTEM, Deadline
from chaoslab.errors import FaultNotEffective
from chaoslab.faults import proof
from chaoslab.faults.registry import fault_for
from chaoslab.spec.fault import FaultBase
from chaoslab.spec.fault_types import FaultSpec
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.yaml.problems import Place
from chaoslab.spec.yaml.report import Report

SPEC: TypeAdapter[Any] = TypeAdapter(FaultSpec)


class SlowFakeStack(FakeStack):
    """Its answers take as long as its links say."""

    def reaches(self, replica: str, port: int, *, seen_from: str = OUTSIDE, timeout_s: float = 0.3) -> bool:
        there, back = self._ways(seen_from, replica)
        slow = [self.links.slow[flow] for flow in (there, back) if flow in self.links.slow]
        SYSTEM.sleep(sum(how.latency_ms / 1000 + (0.15 if how.loss else 0.0) for how in slow))
        return super().reaches(replica, port, seen_from=seen_from, timeout_s=timeout_s)


class Nowhere:
    """Places of problems, for specs that stand in no file."""

    def key_at(self, path: tuple[str | int, ...]) -> Place:
        return Place(".".join(map(str, path)))

    value_at = key_at


def fake() -> FakeStack:
    """The mini stack, up, in memory."""
    stack = SlowFakeStack(load_stack([MINI / "compose.yaml"]).topology())
    stack.up(Deadline.after(1), lambda _: None)
    return stack


def check_contract(written: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`written`: the fault as in a timeline, without its id, on the mini stack, where nothing is wrong with it."""
    monkeypatch.setattr(proof, "EFFECT_TIMEOUT_S", 0.0)
    spec: FaultBase = SPEC.validate_python({"id": "f", **written})
    check_spec(spec)
    check_that_nothing_seen_is_no_effect(spec)
    check_life(spec)


def check_spec(spec: FaultBase) -> None:
    """It reads back from what it writes, has a target, answers for itself, and finds nothing wrong with a sound one."""
    stack, report = fake(), Report(Nowhere())
    assert SPEC.validate_python(spec.model_dump(mode="json", by_alias=True)) == spec
    assert spec.target
    spec.check_times(report)
    spec.check(stack.topology, report)
    assert report.problems == []
    assert list(spec.lacking(stack.topology, type(stack))) in ([], [*spec.lacking(stack.topology, FakeStack)])
    limits = spec.call_limits(stack.topology)
    assert limits.prepare_s >= 0 and limits.inject_s > 0 and (limits.heal_s is None or limits.heal_s > 0)
    touched = spec.touches(stack.topology)
    assert touched.replicas <= {replica.name for replica in stack.topology.replicas}
    assert all(pair <= set(stack.topology.places) for pair in touched.fences | touched.proxies)


def check_that_nothing_seen_is_no_effect(spec: FaultBase) -> None:
    """Known bad: nothing was done, so nothing may be seen."""
    fault = fault_for(spec, fake())
    fault.prepare()
    with pytest.raises(FaultNotEffective):
        fault.verify()


def check_life(spec: FaultBase) -> None:
    """Inject, see the effect; heal, see everything answer again; healing twice does no harm, and before injecting neither."""
    fault, began_ns = fault_for(spec, fake()), SYSTEM.now_ns()
    fault.prepare()
    assert isinstance(fault.undo_steps(), list)
    assert isinstance(fault.inject(), dict)
    assert began_ns <= fault.verify().since_ns <= SYSTEM.now_ns()
    for _ in range(2):
        assert isinstance(fault.heal(Deadline.after(20)), dict)
    assert fault.verify_heal(Deadline.after(20)).since_ns <= SYSTEM.now_ns()
