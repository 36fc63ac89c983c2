"""The mini stack on the embedded runtime, for tests that need something real to hurt."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

from chaoslab.clock import Deadline
from chaoslab.process import marked
from chaoslab.spec.compose import load_stack
from chaoslab.stack.embedded import RUN, EmbeddedStack

MINI = Path(__file__).parent / "mini"


@contextlib.contextmanager
def mini_stack() -> Iterator[EmbeddedStack]:
    """A stack that is up; afterwards nothing of it is left, which is checked."""
    run_id, folder = token_hex(4), Path(tempfile.mkdtemp(prefix="chaoslab-test-"))
    stack = EmbeddedStack(load_stack([MINI / "compose.yaml"]), run_id, folder / "data", folder / "logs")
    try:
        stack.up(Deadline.after(30), lambda _: None)
        yield stack
    finally:
        assert stack.down() == []
        shutil.rmtree(folder)
    assert marked(RUN, run_id) == []
