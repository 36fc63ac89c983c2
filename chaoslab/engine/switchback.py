"""Conditions of a steady state, such as the leader in its site: checked, and brought about if they do not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from chaoslab.engine.conditions import Conditions
from chaoslab.engine.recorder import Recorder
from chaoslab.engine.steps import Begun, Seen, StepRunner, Window
from chaoslab.history.rows import Condition

EstablishedFor = Literal["steady", "failback"]


class Switchback:
    """The step that brings one condition about. Its effect is seen once a later check finds that the condition holds."""

    name = "switchback"
    undo_timeout_s = 0.0

    def __init__(self, conditions: Conditions, condition: str) -> None:
        self.id = condition
        self._conditions = conditions
        self._called_ns = 0

    def begin(self) -> Begun | None:
        attempt = self._conditions.bring_about(self.id)
        if attempt is None:
            return None
        self._called_ns = attempt.called_ns
        return Begun(attempt.called_ns, {"observed": attempt.row.observed}, (attempt.row,), attempt.refused)

    def verify(self) -> Seen | None:
        seen = self._conditions.last_look.get(self.id)
        return Seen(seen.t_ns) if seen is not None and seen.holds and seen.t_ns >= self._called_ns else None

    def awaited(self) -> str:
        seen = self._conditions.last_look.get(self.id)
        return seen.observed if seen is not None else ""

    def end(self) -> None:
        """Nothing to end."""

    def undo(self) -> None:
        """Nothing to undo: the condition is meant to last."""


class Establishing:
    """The conditions of one trial, by what they are established for.

    Before the fault they are brought about without a step; in failback each is a step.
    """

    def __init__(self, conditions: Mapping[EstablishedFor, Conditions], steps: StepRunner, rows: Recorder) -> None:
        self._conditions = conditions
        self._steps = steps
        self._rows = rows
        self._open: list[Window] = []  # switchbacks whose effect was not seen yet

    def look(self, role: EstablishedFor) -> list[Condition]:
        """One row for each condition, as of now, not written yet. Blocks."""
        rows = self._conditions[role].look(role)
        self._open = [window for window in self._open if not self._steps.verify(window)]
        return rows

    def bring_about(self, condition: str, role: EstablishedFor) -> None:
        """Ask the stack to make it true, unless an earlier call may still take effect. Blocks."""
        if role == "failback":
            window = self._steps.begin(Switchback(self._conditions[role], condition))
            self._open += [] if window is None else [window]
        elif (attempt := self._conditions[role].bring_about(condition)) is not None:
            self._rows.write(attempt.row)
