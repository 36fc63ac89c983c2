"""One fault of a timeline, from its injection to its heal. Each step runs in its own thread and writes its rows."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from chaoslab.background import in_thread
from chaoslab.cleanup.journal import EndProcesses, UndoJournal, perform
from chaoslab.clock import NS_PER_S, Clock, Deadline
from chaoslab.errors import ChaoslabError, EnvironmentFault, FaultNotEffective, LinkError, NotHealthy, NotReady
from chaoslab.faults.base import ActsInCycles, EndsByItself, Fault, Reconnects
from chaoslab.history.rows import Fault as FaultRow
from chaoslab.history.rows import Note, Row
from chaoslab.spec.fault import CALL_TIMEOUT_S, CallLimits, FaultBase, Touched
from chaoslab.stack.protocol import Stack

HASTY_HEAL_TIMEOUT_S = 10.0  # when the run ends early, healing must be quick
CUT_SHORT_S = 3.0
POLL_S = 0.02
_LIFTS_FIRST_S = 5.0

FaultEvent = Literal["inject", "effective", "ineffective", "heal", "reconnected", "healed", "unhealed"]


@dataclass
class Work:
    """An injection or a heal that was launched. `stage`: what it does now; `deadline`: by when that must end."""

    what: str
    deadline: Deadline
    stage: str = "begun"
    future: Future[None] = field(default_factory=Future)

    def enter(self, stage: str, timeout_s: float) -> None:
        self.stage, self.deadline = stage, Deadline.after(timeout_s, self.deadline.clock)

    @property
    def under_way(self) -> bool:
        """Neither ended nor given up."""
        return not self.future.done() and not self.deadline.passed

    def check(self) -> None:
        """Raises its error; NotReady if it has not ended in time."""
        if self.future.done():
            self.future.result()
        elif self.deadline.passed:
            raise NotReady(f"waited {self.deadline.timeout_s:.0f} s for {self.what} to end; last seen: {self.stage}")

    def wait_for(self, other: Work, around: Surroundings) -> None:
        """Wait until other work or the trial has ended. Raises the error of that work; NotReady if it has not ended in time."""
        while not other.future.done() and not around.closed:
            other.check()
            self.enter(f"waiting for {other.what}, which changes the same parts", CALL_TIMEOUT_S)
            around.clock.sleep(POLL_S)
        if not around.closed:
            other.check()


@dataclass
class Surroundings:
    """What all faults of one trial share. `write` takes rows from any thread. `closed`: no injection may be called any more.

    `lock`: held while a fault is checked and called, so that none is called after the end.
    """

    stack: Stack
    journal: UndoJournal
    write: Callable[[Row], None]
    clock: Clock
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def heal_timeout_s(self) -> float:
        """How long a heal may take, as the stack says."""
        return self.stack.topology.spec.heal

    def note(self, level: Literal["info", "warning"], text: str) -> None:
        """Write a note. A full disk does not prevent a heal: the next row of another kind raises the error."""
        with contextlib.suppress(EnvironmentFault):
            self.write(Note(t_ns=self.clock.now_ns(), level=level, text=text))


@dataclass(eq=False)
class ActiveFault:
    """A fault of the timeline and how far it got.

    `limits`: how long its calls may take at most. `inject_ns`: when its injection was called, None until then. `effective_ns`:
    since when its effect is verified. `recovered_ns`: when the services were back, for a fault that is healed at recovery.
    `waited`: the injection had to wait for another fault. `settled`: its call is over; `complete`: and it did everything.
    `overtaken`: the fault was healed before the call had returned. `ended`: nothing is left to heal; `whole`: and that was
    verified.
    """

    spec: FaultBase
    fault: Fault
    touches: Touched
    around: Surroundings
    limits: CallLimits = field(default_factory=CallLimits)
    inject_ns: int | None = None
    effective_ns: int | None = None
    recovered_ns: int | None = None
    waited: bool = False
    epoch: str = ""
    settled: bool = False
    complete: bool = False
    overtaken: bool = False
    ended: bool = False
    whole: bool = False
    undo_steps: list[int] = field(default_factory=list)
    injection: Work | None = None
    healing: Work | None = None

    def heal_takes_s(self, timeout_s: float) -> float:
        """How long its heal may take at most: what the fault says, or its deadline and a little more."""
        return timeout_s + HASTY_HEAL_TIMEOUT_S if self.limits.heal_s is None else self.limits.heal_s

    def __str__(self) -> str:
        return f"{self.spec.id} ({self.spec.fault} {self.spec.target})"

    @property
    def works(self) -> list[Work]:
        """Its injection and heal, as far as they were launched."""
        return [work for work in (self.injection, self.healing) if work is not None]

    # --- injecting --------------------------------------------------------------------------------------------

    def launch_injection(self, others: Sequence[ActiveFault]) -> None:
        """Inject it in a separate thread, after the running work of other faults that change the same parts."""
        before = [
            work for other in others for work in other.works if not work.future.done() and other.touches.meets(self.touches)
        ]
        work = Work(f"the injection of {self}", Deadline.after(CALL_TIMEOUT_S, self.around.clock))
        self.injection, self.waited = work, bool(before)
        work.future = in_thread(partial(self.inject, work, before), work.what)

    def inject(self, work: Work, before: Sequence[Work]) -> None:
        """Call it once the work `before` is over, and prove its effect. Raises the errors of all three."""
        around, since_ns, waited_s = self.around, self.around.clock.now_ns(), 0.0
        try:
            for other in before:
                work.wait_for(other, around)
            waited_s = (around.clock.now_ns() - since_ns) / NS_PER_S
            detail = self._call(work, {"waited_s": waited_s} if before else {})
        finally:
            self.settled = True
            if self.overtaken:  # the injection changed the stack last
                while self.healing is not None and self.healing.under_way:
                    around.clock.sleep(POLL_S)
                work.enter("healing again", around.heal_timeout_s)
                self._try_heal(Deadline.after(HASTY_HEAL_TIMEOUT_S, around.clock))
        if self.inject_ns is None:
            return
        if before:
            others = ", ".join(other.what for other in before)
            around.note(
                "info", f"{self} was injected {waited_s:.1f} s late: {others} had to end first, as both change the same parts"
            )
        if not self.overtaken:
            self._verify(work, detail)

    def _call(self, work: Work, detail: dict[str, Any]) -> dict[str, Any]:
        """Call it, unless the trial has ended. Its undo steps are stored before."""
        around = self.around
        work.enter("writing the undo journal", CALL_TIMEOUT_S)
        steps = [around.journal.plan(step) for step in self.fault.undo_steps()]
        epoch = around.stack.links.epoch()
        with around.lock:
            if not around.closed:
                self.epoch, self.undo_steps, self.inject_ns = epoch, steps, around.clock.now_ns()
        if self.inject_ns is None:
            for number in steps:
                around.journal.done(number)
            return {}
        if isinstance(self.fault, ActsInCycles):
            self.fault.on_cycle(self._write_cycle)
        if isinstance(self.fault, Reconnects):
            self.fault.on_reconnected(lambda: self._try_to_write("reconnected", {}))
        work.enter("injecting", self.limits.inject_s)
        self.write("inject", detail, at_ns=self.inject_ns)
        detail = self.fault.inject()
        self.complete = True
        self.ended = isinstance(self.fault, EndsByItself)
        return detail

    def _verify(self, work: Work, detail: dict[str, Any]) -> None:
        """Verify its effect, and write the result; for a fault that ends with its call, also whether everything works again."""
        around, over_ns = self.around, self.around.clock.now_ns()
        work.enter("verifying", self.limits.inject_s)
        try:
            proof = self.fault.verify()
            self.write("effective", detail | proof.detail, at_ns=proof.since_ns)
            self.effective_ns = proof.since_ns
        except FaultNotEffective as not_seen:
            self.write("ineffective", detail | {"why": str(not_seen)})
            raise
        finally:
            if self.ended:
                work.enter("verifying that it is over", around.heal_timeout_s + CALL_TIMEOUT_S)
                self._try_to_write("heal", {"own_end": True}, at_ns=over_ns)
                self._prove_heal({"own_end": True}, Deadline.after(around.heal_timeout_s, around.clock))

    # --- healing ----------------------------------------------------------------------------------------------

    def heal(self, work: Work, first: Sequence[Work]) -> None:
        """Heal it once the injection is over, and shortly after the heals `first`. Raises the error of the heal."""
        around = self.around
        lifts = Deadline.after(_LIFTS_FIRST_S, around.clock)
        while any(not other.future.done() for other in first) and not lifts.passed:
            around.clock.sleep(POLL_S)
        self.overtaken = not self._settle(work)
        if self.inject_ns is None or self.ended:
            return
        timeout_s = HASTY_HEAL_TIMEOUT_S if around.closed else around.heal_timeout_s
        work.enter("healing", self.heal_takes_s(timeout_s))
        self._try_heal(Deadline.after(timeout_s, around.clock))

    def _settle(self, work: Work) -> bool:
        """Wait for a running injection and its verification, which must not continue after the heal. False if it hangs.

        Once the trial has ended, it waits only for a short time, and then ends the commands of the injection.
        """
        injection, patience, clock = self.injection, None, self.around.clock
        if injection is None:
            return True
        while not injection.future.done() and not (patience or injection.deadline).passed:
            work.enter(f"waiting for the injection to end; it is at: {injection.stage}", CALL_TIMEOUT_S)
            if self.around.closed and patience is None:
                patience = Deadline.after(HASTY_HEAL_TIMEOUT_S, clock)
            clock.sleep(POLL_S)
        if not self.settled:
            work.enter("ending what the injection started", CALL_TIMEOUT_S)
            for step in self.fault.undo_steps():
                if isinstance(step, EndProcesses):
                    perform(step)
            patience = Deadline.after(CUT_SHORT_S, clock)
            while not injection.future.done() and not patience.passed:
                clock.sleep(POLL_S)
        return self.settled

    def _try_heal(self, deadline: Deadline) -> None:
        """One attempt; the removal of the stack, or the reaper, does what is left."""
        detail: dict[str, Any] = {}
        try:
            if self.around.stack.links.epoch() != self.epoch:
                detail = {"restarted": True}  # a relay ended or restarted since the injection
        except LinkError:
            detail = {"restarted": True}
        if not isinstance(self.fault, ActsInCycles):  # faults with cycles report the heal of the cycle that they end, if any
            self._try_to_write("heal", detail)
        try:
            healed = detail | self.fault.heal(deadline)
        except ChaoslabError as failed:
            self.ended = True
            if self._is_stacks_failure(failed, detail):
                return
            raise
        self._prove_heal(healed, deadline)

    def _is_stacks_failure(self, failed: ChaoslabError, detail: dict[str, Any], *, silent: bool = False) -> bool:
        """Write that it is not healed. After the full time, unhealthy replicas are the stack's failure, not the harness's."""
        unhealthy = (silent or isinstance(failed, NotHealthy)) and not self.around.closed
        self._try_to_write("unhealed", detail | {"why": str(failed)} | ({"unhealthy": True} if unhealthy else {}))
        return unhealthy

    def _prove_heal(self, detail: dict[str, Any], deadline: Deadline) -> None:
        try:
            proof = self.fault.verify_heal(deadline)
        except ChaoslabError as failed:
            # Replicas that were started and reconnected, but do not answer, are the stack's failure, not the harness's.
            silent = isinstance(failed, NotReady) and isinstance(self.fault, Reconnects)
            if self._is_stacks_failure(failed, detail, silent=silent):
                return
            raise
        finally:
            self.ended = True
        self._try_to_write("healed", detail | proof.detail, at_ns=proof.since_ns)
        self.whole = self.complete
        if self.complete:  # else a part of it may still run: the reaper ends that and heals once more
            for number in self.undo_steps:
                self.around.journal.done(number)

    # --- rows -------------------------------------------------------------------------------------------------

    def _write_cycle(self, cycle: int, event: FaultEvent) -> None:
        """A row of one cycle, marked as such: the heal of a cycle is not the heal of the fault."""
        read_back = {"evidence": "read back from the links"} if event in ("effective", "healed") else {}
        self._try_to_write(event, {"cycle": cycle, **read_back}, cycle=cycle)

    def write(self, event: FaultEvent, detail: dict[str, Any], *, at_ns: int | None = None, cycle: int = 1) -> None:
        """Write a row, as of now or `at_ns`. Each later cycle has its own id: `flap#2`. Raises EnvironmentFault."""
        spec, t_ns = self.spec, self.around.clock.now_ns() if at_ns is None else at_ns
        id_ = spec.id if cycle == 1 else f"{spec.id}#{cycle}"
        self.around.write(FaultRow(t_ns=t_ns, id=id_, name=spec.fault, target=spec.target, event=event, detail=detail))

    def _try_to_write(self, event: FaultEvent, detail: dict[str, Any], *, at_ns: int | None = None, cycle: int = 1) -> None:
        """As `write`, but a full disk does not prevent a heal: the next row of another kind raises the error."""
        with contextlib.suppress(EnvironmentFault):
            self.write(event, detail, at_ns=at_ns, cycle=cycle)
