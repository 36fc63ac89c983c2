"""Conditions of the stack: whether each holds, and how it is brought about. Decides nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jmespath

from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.engine.asking import SHOWN, Asking, Change, NoAnswer
from chaoslab.history.rows import Condition
from chaoslab.spec.stackfile.condition import ConditionSpec
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.stack.protocol import Stack

Role = Literal["steady", "fault", "failback"]  # why a condition is checked

_REFUSED_AGAIN_S = 1.0  # from a refused call to the next; it changed nothing, and often was only slightly early
_AT_WORK_S = 10.0  # how long an accepted call may take to show an effect: a second call would be a second disturbance


@dataclass(frozen=True)
class Attempt:
    """A call to bring a condition about. `refused`: it changed nothing."""

    row: Condition
    called_ns: int
    refused: bool


class Conditions:
    """The conditions that a run needs, observed from outside. Requests that bring one about are sent from `sent_from`."""

    def __init__(self, stack: Stack, ids: Sequence[str], clock: Clock = SYSTEM, *, sent_from: str = OUTSIDE) -> None:
        self._asking = Asking(stack)
        self._changing = Asking(stack, sent_from=sent_from)
        self._specs = {id_: stack.topology.spec.conditions[id_] for id_ in ids}
        self._clock = clock
        self._rests: dict[str, Deadline] = {}
        self.last_look: dict[str, Condition] = {}  # by id

    def look(self, role: Role) -> list[Condition]:
        """One row for each condition, as of now."""
        for id_, spec in self._specs.items():
            holds, observed = self.observe(spec)
            self.last_look[id_] = Condition(t_ns=self._clock.now_ns(), id=id_, holds=holds, observed=observed, role=role)
        return list(self.last_look.values())

    def observe(self, spec: ConditionSpec) -> tuple[bool, str]:
        """Whether a condition holds now, and what was observed."""
        try:
            answer = self._asking.look(spec)
            wanted = spec.expect or "it ends with status 0"
            if spec.expect is None or jmespath.search(spec.expect, answer) is True:
                return True, wanted
            return False, f"not true: {wanted}; observed: {json.dumps(answer, default=str)[:SHOWN]}"
        except (NoAnswer, jmespath.exceptions.JMESPathError) as failed:
            return False, str(failed)

    def can_be_brought_about(self, id_: str) -> bool:
        """Whether its spec defines how."""
        return self._specs[id_].bring_about is not None

    def bring_about(self, id_: str) -> Attempt | None:
        """Ask the stack to make a condition true; the effect may take a while.

        None if its spec does not define how, or while an earlier call may still take effect.
        """
        how, rest = self._specs[id_].bring_about, self._rests.get(id_)
        if how is None or (rest is not None and not rest.passed):
            return None
        called_ns = self._clock.now_ns()
        try:
            values = {}
            for name, value in how.values.items():
                values[name] = jmespath.search(value.pick, self._changing.look(value))
                if values[name] is None:
                    asked = f"GET {value.get}: " if value.get is not None else ""
                    raise NoAnswer(f"{asked}the answer has nothing at {value.pick}")
            change = self._changing.change(how, values)
        except (NoAnswer, jmespath.exceptions.JMESPathError) as failed:
            change = Change(f"bring_about: {failed}", refused=True)  # a value could not be read: nothing was requested
        row = Condition(t_ns=self._clock.now_ns(), id=id_, holds=False, observed=change.observed, role="bring-about")
        self._rests[id_] = Deadline.after(_REFUSED_AGAIN_S if change.refused else _AT_WORK_S, self._clock)
        return Attempt(row, called_ns, change.refused)
