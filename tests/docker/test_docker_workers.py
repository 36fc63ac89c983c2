"""Workers without a port, in containers: the engine's word is the evidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from chaoslab.clock import Deadline
from chaoslab.faults.registry import fault_for
from chaoslab.spec.fault_types import FaultSpec
from chaoslab.stack.compose.stack import ComposeStack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

SPEC = TypeAdapter(FaultSpec)


def test_a_worker_is_killed_paused_stopped_and_burnt(
    make_stack: Callable[..., ComposeStack], write_stack: Callable[..., Path]
) -> None:
    """Known bad: each of these was inconclusive. `restart: always` undoes none of them."""
    worker = {"image": "chaoslab/two-site:latest", "command": ["sleep", "600"], "init": True, "restart": "always"}
    stack = make_stack(write_stack({"worker": worker}))
    stack.up(Deadline.after(60), lambda _: None)
    words = {
        "service.kill": "exited, exit status 137",
        "service.pause": "paused",
        "service.stop": "exited, exit status 143",
        "site.power-loss": "exited, exit status 137",
    }
    for kind, word in words.items():
        target = {"site": "here"} if kind == "site.power-loss" else {"service": "worker"}
        fault = fault_for(SPEC.validate_python({"id": "f", "fault": kind, **target}), stack)
        began = stack.testimony(["worker"])["worker"].began
        fault.prepare()
        fault.inject()
        assert fault.verify().detail["testified"] == {"worker": word}
        fault.heal(Deadline.after(20))
        fault.verify_heal(Deadline.after(20))
        assert (stack.testimony(["worker"])["worker"].began == began) is (kind == "service.pause")
    assert list(stack.restarts()) == []
    assert stack.down() == []
