"""Ending other runs: ask each harness to heal and end, make it when it does not, then undo what its journal still has open."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

from chaoslab import process, registry
from chaoslab.clock import SYSTEM, Deadline
from chaoslab.kill import kill
from chaoslab.registry import Entry
from chaoslab.undo import undo

GRACE_S = 45.0  # healing in a hurry takes 10 s, and the drain the longest timeout of a journey
_POLL_S = 0.1


def stop_all(grace_s: float = GRACE_S) -> Iterator[tuple[str, list[str]]]:
    """Block new runs, then end every run: yields for each what was done, and what is left, in words."""
    registry.block()
    found = registry.entries()
    for entry, living in found:
        if living:
            process.send([entry.pid], signal.SIGTERM)
    deadline = Deadline.after(grace_s)
    for entry, living in found:
        yield _end(entry, living, deadline)


def _end(entry: Entry, living: bool, deadline: Deadline) -> tuple[str, list[str]]:
    name = f"run {entry.run_id} (process {entry.pid})"
    while registry.alive(entry.run_id) and not deadline.passed:
        SYSTEM.sleep(_POLL_S)
    forced = registry.alive(entry.run_id)
    if forced:
        kill([entry.pid], Deadline.after(5.0))
    left = heal(entry)
    how = "did not end, and was killed" if forced else "ended" if living else "had ended before"
    return f"{name} {how}; {'left: ' + ', '.join(left) if left else 'nothing of it is left'}", left


def heal(entry: Entry) -> list[str]:
    """Undo what a run that is not at work any more left behind; returns what could not be undone, in words."""
    left = undo(Path(entry.journal)) if entry.journal else []
    if not left:
        registry.forget(entry.run_id)
    return left
