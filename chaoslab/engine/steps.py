"""Steps: changes to a stack other than faults that may affect users, such as switching a leader back.

A kind of step is a class that implements `Step`; this module is independent of the kinds. Each step that began has a window in
the history: a row when it begins, and one when its effect was seen (`end`) or is known never to come (`failed`).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from chaoslab.background import in_thread
from chaoslab.clock import NS_PER_S, Clock
from chaoslab.errors import ChaoslabError
from chaoslab.history.rows import AnyRow, Fault, Note, Row
from chaoslab.history.rows import Step as StepRow

VERB_TIMEOUT_S = 60.0  # for each method of a step
_LOOK_EVERY_S = 0.2
_POLL_NS = NS_PER_S // 50


class StepFailed(Exception):
    """A step did not do what it should: a finding about the stack or the step, which ends only the step.

    `detail`: for its row.
    """

    def __init__(self, why: str, **detail: Any) -> None:
        super().__init__(why)
        self.detail = {"why": why, **detail}


@dataclass(frozen=True)
class Begun:
    """A step that was called at `at_ns`. `rows`: further rows for the history. `refused`: it changed nothing."""

    at_ns: int
    detail: dict[str, Any] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    refused: bool = False


@dataclass(frozen=True)
class Seen:
    """The effect of a step was seen at `at_ns`, and not yet at `unseen_ns`, which is None if `at_ns` is exact."""

    at_ns: int
    unseen_ns: int | None = None


class Step(Protocol):
    """One step on one stack. Each method may block for a minute at most; `undo` for its `undo_timeout_s`."""

    undo_timeout_s: float

    @property
    def id(self) -> str:
        """Its id in rows and reports."""

    @property
    def name(self) -> str:
        """Its kind."""

    def begin(self) -> Begun | None:
        """Do it, or begin to. None if nothing was requested of the stack.

        Raises StepFailed if it may not begin, ChaoslabError if the harness cannot do it.
        """

    def verify(self) -> Seen | None:
        """When its effect was seen from outside; None until then. Raises StepFailed if it will never be seen."""

    def awaited(self) -> str:
        """What was still missing at the last check, in words."""

    def end(self) -> None:
        """End what still runs of it; called once, when its effect was seen, it failed, or the trial ends.

        Raises ChaoslabError.
        """

    def undo(self) -> None:
        """Undo what must not outlast the trial; called once, at its end. Raises ChaoslabError."""


@dataclass(frozen=True)
class PlannedStep:
    """A step of a timeline. `budget`: seconds until its effect must be seen.

    `at`: seconds from the end of the steady state; or from the effect of the fault, or the end of the step, `after`; or from
    the heal of the fault `after_heal`.
    """

    step: Step
    at: float = 0.0
    budget: float = 60.0
    after: str | None = None
    after_heal: str | None = None

    @property
    def id(self) -> str:
        return self.step.id

    @property
    def at_most_s(self) -> float:
        return self.budget


@dataclass(eq=False)
class Window:
    """A step from its begin to its end. `row_id`: the id of its rows, None until it was accepted.

    `begun_ns`: when it was called.
    """

    step: Step
    row_id: str | None = None
    begun_ns: int = 0


class StepRunner:
    """The steps of one trial: those of its timeline at their instants, in threads of their own, and others on request.

    `write` takes the rows, from several threads. `unended`: a sentence for each step whose end or undo failed.
    """

    def __init__(self, timeline: Sequence[PlannedStep], write: Callable[[Row], None], clock: Clock) -> None:
        self._planned = sorted(timeline, key=lambda planned: planned.at)
        self._write = write
        self._clock = clock
        self._start_ns = 0
        self._closed = False
        self._lock = threading.Lock()  # held while a step is checked and begun
        self._numbers: Counter[str] = Counter()
        self._open: list[Window] = []
        self._begun: list[Step] = []  # to be undone
        self._happened_ns: dict[tuple[str, str], int] = {}  # by what a step may come after: key and name
        self._works: list[Future[None]] = []
        self.unended: list[str] = []

    def start(self) -> None:
        """The timeline begins now."""
        self._start_ns = self._clock.now_ns()

    def see(self, row: AnyRow) -> None:
        """Take a row, for the steps that come after it."""
        match row:
            case Fault(event="effective"):
                self._happened_ns.setdefault(("after", row.id), row.t_ns)
            case Fault(event="healed") if "cycle" not in row.detail:  # its last row is about the whole fault
                self._happened_ns.setdefault(("after_heal", row.id), row.t_ns)
            case StepRow(event="end"):
                self._happened_ns.setdefault(("after", row.id), row.t_ns)
            case Fault(event="ineffective"):
                self._skip("after", row.id, "which had no effect")
            case Fault(event="unhealed"):
                self._skip("after_heal", row.id, "which could not be healed")
            case StepRow(event="failed"):
                self._skip("after", row.id, "which failed")

    def _skip(self, key: str, id_: str, why: str) -> None:
        """Skip the steps that come after something that will not happen."""
        for planned in [planned for planned in self._planned if getattr(planned, key) == id_]:
            self._planned.remove(planned)
            self._fail(planned.step, planned.id, StepFailed(f"it did not begin: it comes after {id_}, {why}", skipped=True))

    def launch_due(self) -> int | None:
        """Launch what is due. Returns when to call again (monotonic nanoseconds); None once all are over."""
        now_ns = self._clock.now_ns()
        dues_ns: dict[str, int | None] = {}  # None while it is not known
        for planned in self._planned:
            named = [(key, id_) for key in ("after", "after_heal") if (id_ := getattr(planned, key)) is not None]
            known = all(key in self._happened_ns for key in named)
            begin_ns = max([self._start_ns, *(self._happened_ns[key] for key in named if known)])
            dues_ns[planned.id] = begin_ns + round(planned.at * NS_PER_S) if known else None
        for planned in [*self._planned]:
            due_ns = dues_ns[planned.id]
            if due_ns is not None and due_ns <= now_ns:
                self._planned.remove(planned)
                self._works.append(in_thread(partial(self.carry_out, planned), f"the step {planned.id}"))
        later_ns = [due_ns for planned in self._planned if (due_ns := dues_ns[planned.id]) is not None]
        if any(not work.done() for work in self._works) or len(later_ns) < len(self._planned):
            return now_ns + _POLL_NS
        return min(later_ns, default=None)

    def check(self) -> None:
        """Raises the error of a step of the timeline, except StepFailed, which has a row."""
        for work in self._works:
            if work.done():
                work.result()

    def carry_out(self, planned: PlannedStep) -> None:
        """Begin a step, and wait until its effect is seen. Blocks. Raises as `begin` does; a failed step has a row."""
        try:
            window = self.begin(planned.step)
        except StepFailed as failed:
            if not self._closed:
                self._fail(planned.step, planned.id, failed)
            return
        if window is None:
            return
        deadline_ns = window.begun_ns + round(planned.budget * NS_PER_S)
        try:
            while not self.verify(window) and not self._closed:
                if self._clock.now_ns() >= deadline_ns:
                    awaited = planned.step.awaited()
                    why = f"not finished within its budget of {planned.budget:g} s{awaited and f': {awaited}'}"
                    raise StepFailed(why, late=True, limit_s=planned.budget)
                self._clock.sleep(_LOOK_EVERY_S)
        except StepFailed as failed:
            if not self._closed:  # else it was cut, and failed only for that reason
                self._fail(planned.step, window.row_id or planned.id, failed)
                self._end(window)

    def _fail(self, step: Step, row_id: str, failed: StepFailed) -> None:
        self._write(StepRow(t_ns=self._clock.now_ns(), id=row_id, name=step.name, event="failed", detail=failed.detail))

    def begin(self, step: Step) -> Window | None:
        """Begin a step, and write its rows. Blocks. None if it was refused, or the trial is over.

        Raises StepFailed if it may not begin, ChaoslabError if it cannot be done; then it is ended with all others.
        """
        window = Window(step)
        with self._lock:
            if self._closed:
                return None
            self._open.append(window)
        try:
            begun = step.begin()
        except StepFailed:
            self._forget(window)
            raise
        for row in begun.rows if begun is not None else ():
            self._write(row)
        if begun is None or begun.refused:
            self._forget(window)
            return None
        self._begun.append(step)
        window.begun_ns = begun.at_ns
        self._numbers[step.id] += 1
        window.row_id = step.id if self._numbers[step.id] == 1 else f"{step.id}#{self._numbers[step.id]}"
        self._write(StepRow(t_ns=begun.at_ns, id=window.row_id, name=step.name, event="begin", detail=begun.detail))
        return window

    def verify(self, window: Window) -> bool:
        """Whether its effect is seen now; if so, its row is written, and the step is ended. Blocks."""
        seen = window.step.verify()
        if seen is None:
            return False
        detail = {} if seen.unseen_ns is None else {"unseen_ns": seen.unseen_ns}
        row_id = window.row_id or window.step.id
        self._write(StepRow(t_ns=seen.at_ns, id=row_id, name=window.step.name, event="end", detail=detail))
        self._end(window)
        return True

    def close(self) -> bool:
        """Allow no more steps to begin. Returns whether any is left to end or to undo."""
        with self._lock:
            self._closed = True
            return bool(self._open or self._begun)

    @property
    def any_begun(self) -> bool:
        return bool(self._numbers)

    @property
    def ending_takes_s(self) -> float:
        """How long `end_all` may take at most."""
        return VERB_TIMEOUT_S + sum(step.undo_timeout_s for step in self._begun)

    def end_all(self) -> None:
        """End the steps that are not over, then undo all, the latest first. Blocks; a failure does not stop the others."""
        for window in [*self._open]:
            self._end(window)
        while self._begun:
            step = self._begun.pop()
            self._guarded(step.undo, f"the step {step.name} {step.id} could not be undone")

    def _end(self, window: Window) -> None:
        """Once."""
        if self._forget(window):
            self._guarded(window.step.end, f"the step {window.step.name} {window.step.id} could not be ended")

    def _forget(self, window: Window) -> bool:
        """Note that nothing of it is left to end. False if that was known already."""
        with self._lock:
            known = window in self._open
            if known:
                self._open.remove(window)
            return known

    def _guarded(self, verb: Callable[[], None], what: str) -> None:
        """Note a failure, after which no other trial may use the stack."""
        try:
            verb()
        except ChaoslabError as failed:
            text = f"{what}: {failed}"
            self.unended.append(text)
            self._write(Note(t_ns=self._clock.now_ns(), level="warning", text=text))
