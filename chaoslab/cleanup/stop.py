"""Ending other runs: ask each harness to heal and end, kill it when it does not, then undo what its journal still has open."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

from chaoslab import process
from chaoslab.cleanup import active_runs
from chaoslab.cleanup.active_runs import Entry
from chaoslab.cleanup.journal import undo
from chaoslab.clock import SYSTEM, Deadline
from chaoslab.kill import kill

GRACE_S = 45.0  # healing in a hurry takes 10 s, and the drain the longest timeout of a journey
_POLL_S = 0.1


def stop_all(grace_s: float = GRACE_S) -> Iterator[tuple[str, list[str]]]:
    """Block new runs, then end every run: yields for each what was done, and what is left, in words."""
    active_runs.block()
    found = active_runs.entries()
    for entry, living in found:
        if living:
            process.send([entry.pid], signal.SIGTERM)
    deadline = Deadline.after(grace_s)
    for entry, living in found:
        while active_runs.alive(entry.run_id) and not deadline.passed:
            SYSTEM.sleep(_POLL_S)
        forced = active_runs.alive(entry.run_id)
        if forced:
            kill([entry.pid], Deadline.after(5.0))
        left = heal(entry)
        how = "did not end, and was killed" if forced else "ended" if living else "had already ended"
        rest = f"left: {', '.join(left)}" if left else "nothing is left behind"
        yield f"run {entry.run_id} (process {entry.pid}) {how}; {rest}", left


def heal(entry: Entry) -> list[str]:
    """Undo what a run whose harness is gone left behind; returns what could not be undone, in words."""
    left = undo(Path(entry.journal)) if entry.journal else []
    if not left:
        active_runs.forget(entry.run_id)
    return left
