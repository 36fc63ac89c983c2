"""A run on the fake stack, on a clock that moves only when everybody waits: each race is played the same way every time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_stack import FakeStack
from mini_stack import write_experiment

from chaoslab.cleanup.journal import UndoJournal
from chaoslab.clock import NS_PER_S
from chaoslab.engine import trial as trial_module
from chaoslab.engine.engine import Engine
from chaoslab.engine.events import Event
from chaoslab.engine.stack_session import StackSession
from chaoslab.engine.trial import Trial, TrialPlan
from chaoslab.history.folder import RunFolder
from chaoslab.history.rows import AnyRow, Fault, Note, PhaseRow, Probe, read_history
from chaoslab.history.writer import HistoryWriter
from chaoslab.probe.plan import ProbePlan
from chaoslab.spec.load import load_experiment

_PATIENCE_S = 20.0  # of this process's own time; nothing here takes any


class StageClock:
    """Time passes while the thread that made the clock sleeps, and only once each thread begun since then waits for something.

    Waiting is sleeping on this clock, or standing at a Gate. A thread whose waiting is over counts as busy at once.
    """

    def __init__(self) -> None:
        self._now_ns = NS_PER_S
        self._own = threading.current_thread()
        self._others = frozenset(threading.enumerate())
        self._moved = threading.Condition()
        self._waiting: dict[threading.Thread, Callable[[], bool]] = {}
        self._wakes_ns: dict[threading.Thread, int] = {}

    def now_ns(self) -> int:
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        until_ns = self._now_ns + round(max(0.0, seconds) * NS_PER_S)
        me = threading.current_thread()
        if me is not self._own:
            self._wakes_ns[me] = until_ns
            self.wait(lambda: self._now_ns >= until_ns)
            return
        self.settle()
        while self._now_ns < until_ns:
            with self._moved:
                self._now_ns = min([until_ns, *(at_ns for at_ns in self._wakes_ns.values() if at_ns > self._now_ns)])
                self._moved.notify_all()
            self.settle()

    def wait(self, over: Callable[[], bool]) -> None:
        """For other threads than the clock's own."""
        me = threading.current_thread()
        with self._moved:
            self._waiting[me] = over
            while not over():
                self._moved.wait()
            del self._waiting[me]
            self._wakes_ns.pop(me, None)

    def change(self, what: Callable[[], None]) -> None:
        """Do something that a thread may wait for."""
        with self._moved:
            what()
            self._moved.notify_all()

    def settle(self) -> None:
        until = time.monotonic() + _PATIENCE_S
        while busy := self._busy():
            assert time.monotonic() < until, f"these neither end nor wait: {busy}"
            time.sleep(0.0002)

    def _busy(self) -> list[str]:
        there = [thread for thread in threading.enumerate() if thread is not self._own and thread not in self._others]
        with self._moved:
            return [one.name for one in there if one not in self._waiting or self._waiting[one]()]


class Gate:
    """Where calls of a verb stand until it is opened; `most` of them stood there at once."""

    def __init__(self, clock: StageClock) -> None:
        self._clock = clock
        self.is_open = False
        self.standing = 0
        self.most = 0
        self.came = 0

    def pass_through(self) -> None:
        def come() -> None:
            self.standing, self.came = self.standing + 1, self.came + 1
            self.most = max(self.most, self.standing)

        self._clock.change(come)
        self._clock.wait(lambda: self.is_open)
        self.standing -= 1

    def open(self) -> None:
        self._clock.change(lambda: setattr(self, "is_open", True))


class Prober:
    """Writes slots of every journey as time passes, good ones unless the stage is bad."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._plan: ProbePlan | None = None
        self._next_ns = 0

    def start(self) -> None: ...

    def begin(self, plan: ProbePlan) -> None:
        self._next_ns, self._plan = self._stage.clock.now_ns(), plan
        self._history = HistoryWriter(Path(plan.history))
        self._stage.plans.append(plan)

    def poll(self) -> str | None:
        while self._plan is not None and self._next_ns < self._stage.clock.now_ns():
            due_ns, self._next_ns = self._next_ns, self._next_ns + round(NS_PER_S / self._plan.rate)
            for one in self._plan.targets:
                ends = {"due_ns": due_ns, "sent_ns": due_ns, "end_ns": due_ns + 1_000_000}
                good = not self._stage.is_bad or one.name in self._stage.spared
                outcome: Any = ("acked" if one.op == "write" else "ok") if good else "bad"
                row = Probe(t_ns=due_ns, journey=one.name, service=one.service, op=one.op, good=good, outcome=outcome, **ends)
                self._history.append(row)
        return None

    def stop(self) -> None:
        if self._plan is not None:
            self._history.close()


class Watch:
    """Watches nothing: no machine takes part."""

    def start(self, plan: Any) -> None: ...

    def ask(self, url: str) -> None: ...

    def poll(self) -> str | None:
        return None

    def stop(self) -> None: ...


class Stage:
    """One session on the fake stack. What is to happen is set with `when`, and `play` gives the rows of a run or a trial.

    `is_bad`: whether users get bad answers now; `spared`: journeys that get good ones nevertheless.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, *timeline: dict[str, Any], keep: bool = False, **more: Any):
        steady = {"hold": "1s", "within": "20s"}
        failback = {"within": "20s", "hold": "1s"}
        changes = {"steady_state": steady, "failback": failback, "probe": {"rate": 10}, "timeline": [*timeline], **more}
        self.loaded = load_experiment(write_experiment(folder, **changes))
        self._patch = patch
        self._root = folder / "runs"
        self.folder = RunFolder.create(self._root, "mini")
        self.journal = UndoJournal(folder / "undo.jsonl")
        self.clock = StageClock()
        self.stack = FakeStack(self.loaded.compose.topology())
        self.plans: list[ProbePlan] = []
        self.is_bad = False
        self.spared: frozenset[str] = frozenset()
        self._cues: list[tuple[Callable[[], Any], Callable[[], Any]]] = []
        self._gates: list[Gate] = []
        self._seen: list[Event] = []
        patch.setattr(trial_module, "ProberProcess", lambda *_: Prober(self))
        patch.setattr(trial_module, "MachineWatch", lambda *_: Watch())
        patch.setattr(trial_module, "abort_reason", lambda *_: None)
        patch.setattr(trial_module, "read_ledgers", lambda *_: [])
        self.session = StackSession(self.stack, self.journal, self.clock, keep=keep)
        self.engine = Engine(self.session, TrialPlan(self.loaded, self.folder, "embedded"))
        self.rows: list[AnyRow] = []

    def gate(self, owner: Any, verb: str, about: Callable[..., bool] = lambda *_, **__: True) -> Gate:
        """Calls of this verb stand at a gate first, those for which `about` is true."""
        gate, real = Gate(self.clock), getattr(owner, verb)

        def call(*args: Any, **more: Any) -> Any:
            if about(*args, **more):
                gate.pass_through()
            return real(*args, **more)

        self._patch.setattr(owner, verb, call)
        self._gates.append(gate)
        return gate

    def when(self, cue: Callable[[], Any], then: Callable[[], Any]) -> None:
        """Once, as soon as `cue` is true."""
        self._cues.append((cue, then))

    def after(self, seconds: float, then: Callable[[], Any]) -> None:
        """So long after now."""
        at_ns = self.clock.now_ns() + round(seconds * NS_PER_S)
        self.when(lambda: self.clock.now_ns() >= at_ns, then)

    def trial(self, **more: Any) -> tuple[Trial, RunFolder]:
        """A trial of its own folder on this session; `more` of its plan."""
        folder = RunFolder.create(self._root, "mini")
        return Trial(self.session, TrialPlan(self.loaded, folder, "embedded", **more)), folder

    def play(self, trial: tuple[Trial, RunFolder] | None = None) -> list[AnyRow]:
        """One whole run, or one trial."""
        performed, self.folder = trial or (self.engine, self.folder)
        self._seen.clear()
        try:
            for event in performed.events():
                self._seen.append(event)
                for cue in [cue for cue in self._cues if cue[0]()]:
                    self._cues.remove(cue)
                    cue[1]()
                self.clock.settle()
        finally:
            for gate in self._gates:
                gate.open()
            self.clock.settle()
        self.rows = sorted(read_history(self.folder.history), key=lambda row: row.t_ns)
        return self.rows

    def has_begun(self, phase: str) -> bool:
        """For cues, while it plays."""
        return any(isinstance(row, PhaseRow) and (row.phase, row.event) == (phase, "begin") for row in self._seen)

    def has_noted(self, level: str) -> bool:
        return any(isinstance(row, Note) and row.level == level for row in self._seen)

    def count(self, event: str) -> int:
        return sum(isinstance(row, Fault) and row.event == event for row in self._seen)

    def faults(self, *events: str) -> list[Fault]:
        """The rows of faults, of these events or of all."""
        return [row for row in self.rows if isinstance(row, Fault) and (not events or row.event in events)]

    def events_of_faults(self) -> list[tuple[str, str]]:
        return [(row.id, row.event) for row in self.faults()]

    def seconds(self, id_: str, event: str) -> float:
        """From the begin of the faults."""
        begin = next(
            row.t_ns for row in self.rows if isinstance(row, PhaseRow) and (row.phase, row.event) == ("faults", "begin")
        )
        return (next(row.t_ns for row in self.faults(event) if row.id == id_) - begin) / NS_PER_S

    def notes(self, level: str) -> list[str]:
        return [row.text for row in self.rows if isinstance(row, Note) and row.level == level]
