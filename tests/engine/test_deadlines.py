"""How long a boot and a heal may take is in the stack's spec, and what is built before the boot does not count in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fake_stack import FakeStack
from mini_stack import MINI

from chaoslab.cleanup.journal import UndoJournal
from chaoslab.clock import Deadline
from chaoslab.engine.active_fault import Surroundings
from chaoslab.engine.stack_session import PREPARE_TIMEOUT_S, StackSession
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.spec.yaml.problems import SpecErrors
from chaoslab.stack.protocol import OnProgress


class Timed(FakeStack):
    """Keeps the deadlines that it gets, in order."""

    given: tuple[tuple[str, float], ...] = ()

    def prepare(self, deadline: Deadline, on_progress: OnProgress) -> None:
        self.given += (("prepare", deadline.timeout_s),)

    def up(self, deadline: Deadline, on_progress: OnProgress) -> None:
        self.given += (("up", deadline.timeout_s),)
        super().up(deadline, on_progress)


def stack_with(folder: Path, **section: str) -> Timed:
    overlay = folder / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"x-chaoslab": section}))
    return Timed(load_stack([MINI / "compose.yaml", overlay]).topology())


@pytest.mark.parametrize(("section", "boot_s", "heal_s"), [({}, 120, 60), ({"boot": "5m", "heal": "2m"}, 300, 120)])
def test_the_stack_says_how_long(section: dict[str, str], boot_s: float, heal_s: float, tmp_path: Path) -> None:
    """Known bad: a stack that needs three minutes to boot could never be rehearsed, nor one whose images are built."""
    stack, journal = stack_with(tmp_path, **section), UndoJournal(tmp_path / "undo.jsonl")
    session = StackSession(stack, journal)
    session.prepare(lambda _: None)
    session.make_ready(lambda _: None)
    session.prepare(lambda _: None)  # of a later trial: there is nothing to do
    assert stack.given == (("prepare", PREPARE_TIMEOUT_S), ("up", boot_s))
    assert Surroundings(stack, journal, lambda _: None, session.clock).heal_timeout_s == heal_s


@pytest.mark.parametrize("wrong", ["0s", "soon", "-1s"])
def test_no_time_is_no_deadline(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match="boot"):
        stack_with(tmp_path, boot=wrong)
