"""Taking an embedded stack down while it starts."""

from __future__ import annotations

import threading
from pathlib import Path
from secrets import token_hex

import pytest

from chaoslab import process
from chaoslab.clock import Deadline
from chaoslab.errors import StackError
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.reach import RUN_VARIABLE

MINI = Path(__file__).parents[1] / "mini" / "compose.yaml"


@pytest.mark.parametrize("which", [1, 2])
def test_down_misses_nothing_that_is_just_being_started(tmp_path: Path, monkeypatch, which: int) -> None:
    """Known bad: what has no mark yet was not found, and then its end was awaited, or it was left. First the relay starts."""
    run_id, spawn, spawned = token_hex(4), process.spawn, 0
    stack = EmbeddedStack(load_stack([MINI]), run_id, tmp_path / "data", tmp_path / "logs")
    left: list[str] = []
    taking_down = threading.Thread(target=lambda: left.extend(stack.down()), daemon=True)

    def slow(*arguments, **options):
        nonlocal spawned
        spawned += 1
        if spawned == which:
            taking_down.start()
            taking_down.join(0.3)  # as long as that takes; or for ever, if it rightly waits for this
        return spawn(*arguments, **options)

    monkeypatch.setattr(process, "spawn", slow)
    with pytest.raises(StackError, match="was taken down while it was starting"):
        stack.up(Deadline.after(20), lambda _: None)
    taking_down.join(10)
    assert not taking_down.is_alive()
    assert left == []
    assert process.marked(RUN_VARIABLE, run_id) == []
