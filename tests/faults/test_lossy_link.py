"""How the loss of a link is proven: by the first request that stalls."""

from __future__ import annotations

import pytest
from fake_stack import FakeStack
from fault_contract import SPEC
from mini_stack import MINI

from chaoslab.clock import SYSTEM, Deadline
from chaoslab.errors import FaultNotEffective
from chaoslab.faults.base import Fault
from chaoslab.faults.registry import fault_for
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.spec.stackfile.model import OUTSIDE

ONE_IN_TWO = {"id": "f", "fault": "link.degrade", "from": "east", "to": "west", "loss": "50%"}


class StallingStack(FakeStack):
    """One request stalls: the `stalls`-th after its loss began."""

    stalls = 0
    asked = 0

    def reaches(self, replica: str, port: int, *, seen_from: str = OUTSIDE, timeout_s: float = 0.3) -> bool:
        if self.links.slow:
            self.asked += 1
            SYSTEM.sleep(0.15 if self.asked == self.stalls else 0.0)
        return super().reaches(replica, port, seen_from=seen_from, timeout_s=timeout_s)


def degraded(stalls: int) -> tuple[StallingStack, Fault]:
    stack = StallingStack(load_stack([MINI / "compose.yaml"]).topology())
    stack.up(Deadline.after(1), lambda _: None)
    stack.stalls = stalls
    fault = fault_for(SPEC.validate_python(ONE_IN_TWO), stack)
    fault.prepare()
    fault.inject()
    return stack, fault


def test_the_first_request_that_stalls_is_proof() -> None:
    """Known bad: all that might have to be asked were asked, and while they stalled, the fault was not known to be there."""
    stack, fault = degraded(stalls=3)
    assert fault.verify().detail["stalled_at"] == stack.asked == 3


def test_a_link_on_which_nothing_stalls_is_whole() -> None:
    """Of connections of which half wait, ten that do not come once in a thousand times."""
    stack, fault = degraded(stalls=0)
    with pytest.raises(FaultNotEffective, match="none of 10 requests"):
        fault.verify()
    assert stack.asked == 10
