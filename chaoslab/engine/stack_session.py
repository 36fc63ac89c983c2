"""A stack that is booted once, for one trial or several, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from chaoslab.cleanup.journal import UndoJournal, open_steps
from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import Interrupted, NotHealthy, StackError
from chaoslab.stack.protocol import CanBeWatched, CanPrepare, Control, OnProgress, Stack, State

PREPARE_TIMEOUT_S = 1800.0  # for building and pulling images, which is not part of the boot
CONTROL_TIMEOUT_S = 10.0
HEALTHY_TIMEOUT_S = 20.0  # for replicas that run and were healthy before


class StackSession:
    """One stack from its boot to its end, for one trial at a time. The first trial boots it; each later one needs it clean.

    Its methods block, and are called from threads; `stop` may also be called from a signal handler, at any time.
    `keep`: the stack is never taken down. `stop_reason`: why the session was asked to end, None until then.
    """

    def __init__(self, stack: Stack, journal: UndoJournal, clock: Clock = SYSTEM, *, keep: bool = False) -> None:
        self.stack = stack
        self.journal = journal
        self.clock = clock
        self.keep = keep
        self.trials = 0
        self.stop_reason: str | None = None
        self._state: Literal["new", "booting", "up", "down"] = "new"
        self._down_why = ""
        self._control: Control | None = None
        self._own_steps: frozenset[int] = frozenset()  # numbers of the undo steps of the stack itself
        self._ended_jobs: frozenset[str] = frozenset()
        self._unhealed: list[str] = []

    def stop(self, reason: str) -> None:
        """Ask the running trial to heal and end, and allow no other to begin."""
        self.stop_reason = self.stop_reason or reason

    def begin_trial(self) -> int:
        """The number of the trial that begins, from 1."""
        self.trials += 1
        return self.trials

    def prepare(self, on_progress: OnProgress) -> None:
        """Before the first trial: get what the boot needs, which does not count in its deadline. Raises EnvironmentFault."""
        if self._state == "new" and self.stop_reason is None and isinstance(self.stack, CanPrepare):
            self.stack.prepare(Deadline.after(PREPARE_TIMEOUT_S, self.clock), on_progress)

    def make_ready(self, on_progress: OnProgress) -> None:
        """Boot the stack for the first trial; for a later one, prove that it is clean.

        Raises NotReady when it does not come up, StackError when no trial may run on it, Interrupted after `stop`.
        """
        if self.stop_reason is not None:
            raise Interrupted(self.stop_reason)
        if self._state == "new":
            self._state = "booting"
            self._own_steps = frozenset(number for number, _ in open_steps(self.journal.path))
            self.stack.up(Deadline.after(self.stack.topology.spec.boot, self.clock), on_progress)
            if self._state == "booting":  # else it was stopped meanwhile
                self._state = "up"
                self._ended_jobs = frozenset(name for name, state in self.stack.states().items() if state == "dead")
        elif (why := self.why_unusable()) is not None:
            raise StackError(f"no further trial can run on this stack: {why}")

    def control(self) -> Control:
        """The stack's idle control. Raises StackError when its runtime has none, NotReady when it does not answer."""
        if self._control is None:
            if not isinstance(self.stack, CanBeWatched):
                raise StackError("this runtime has none")
            self._control = self.stack.host_control(Deadline.after(CONTROL_TIMEOUT_S, self.clock))
        return self._control

    def end_trial(self, unhealed: Sequence[str]) -> None:
        """A trial is over. `unhealed`: a sentence for each change that was not seen to be undone."""
        self._unhealed += unhealed

    def why_unusable(self) -> str | None:
        """Why no further trial may run on this stack, in words; None where it is up, clean, and was not asked to stop."""
        if self._state == "down":
            return self._down_why
        if self._state != "up":
            return "it did not come up"
        if self.stop_reason is not None:
            return f"the session was asked to stop: {self.stop_reason}"
        try:
            return "; ".join(self.why_not_clean()) or None
        except Exception as failed:  # any error: a stack that cannot be queried is not known to be clean
            return f"its state is not known: {failed}"

    def why_not_clean(self) -> list[str]:
        """What differs from the booted stack, in words; empty if all faults were seen healed and all replicas are healthy.

        Raises the stack's error if it cannot be queried.
        """
        found = [*self._unhealed, *filter(None, [self.stack.trouble()])]
        found += [f"{name} is {state}" for name, state in self._live_states().items() if state != "running"]
        found += self.stack.links.disturbances()
        left = [number for number, _ in open_steps(self.journal.path) if number not in self._own_steps]
        found += [f"{len(left)} undo steps are open in {self.journal.path}"] if left else []
        if not found:  # all replicas run, so a start only waits until they are healthy
            try:
                self.stack.start(list(self._live_states()), Deadline.after(HEALTHY_TIMEOUT_S, self.clock))
            except NotHealthy as sick:
                found.append(str(sick))
        return found

    def _live_states(self) -> dict[str, State]:
        """The states of all replicas except jobs, which had ended when the stack was up."""
        return {name: state for name, state in self.stack.states().items() if name not in self._ended_jobs}

    @property
    def is_down(self) -> bool:
        """Whether `down` took it down, or tried to."""
        return self._state == "down"

    def down(self, why: str = "") -> list[str]:
        """Take the stack down once; a second call does nothing, nor does any call with `keep`. `why`: the reason, if it is
        early.

        Returns what could not be ended, in words.
        """
        if self.keep or self._state == "down":
            return []
        self._state = "down"
        self._down_why = f"it was taken down after trial {self.trials}{why and f': {why}'}"
        return self.stack.down()
