"""What restart policies keep on every runtime, tried on a stack that is up."""

from __future__ import annotations

import time
from collections.abc import Callable

from chaoslab.clock import Deadline, wait_until
from chaoslab.stack.compose.stack import ComposeStack
from chaoslab.stack.embedded.stack import EmbeddedStack

NAMES = ("always", "failing", "never")


def check_who_is_started_again(stack: ComposeStack | EmbeddedStack, end: Callable[[str, int], None], *, quiet_s: float) -> None:
    """The services of the stack are `always`, `failing` (restarted on failure) and `never`, besides others that do not end.

    `end`: has one of them end by itself with a status. `quiet_s`: for how long it is watched that nothing is started again.
    """
    before = stack.testimony(NAMES)
    for name in NAMES:
        end(name, 3)
    found: list[str] = []

    def noted() -> tuple[bool, list[str]]:
        found.extend(stack.restarts())
        return len(found) == 2 and stack.states()["never"] == "dead", found

    wait_until("two restarts", noted, Deadline.after(10))
    assert sorted(found) == [
        "always ended by itself with status 3, and its restart policy started it again",
        "failing ended by itself with status 3, and its restart policy started it again",
    ]
    after = stack.testimony(NAMES)
    assert [after[name].state for name in NAMES] == ["running", "running", "dead"]
    assert after["always"].began != before["always"].began

    end("failing", 0)
    stack.kill(["always"])  # a fault has it down, and the other ended well
    time.sleep(quiet_s)
    assert [stack.states()[name] for name in NAMES] == ["dead", "dead", "dead"]
    assert list(stack.restarts()) == []
    stack.start(["always"], Deadline.after(20))
    end("always", 0)  # healed: its policy holds again
    wait_until("a third", lambda: (bool(again := stack.restarts()), again), Deadline.after(10))
