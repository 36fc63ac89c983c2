"""The faults of one run: each injected, verified and healed in threads of its own, at its instant.

Whoever owns the run calls `launch_due` as time goes on, `check` for what went wrong, and in the end `close`: after that no
injection begins, and every one that was begun is healed once. Nothing here waits for a worker that something else keeps.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from chaoslab.background import in_thread
from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline
from chaoslab.errors import ChaoslabError, EnvironmentFault, FaultNotEffective, LinkError, NotHealthy, NotReady
from chaoslab.events import Fault as FaultRow
from chaoslab.events import Note, Row
from chaoslab.faults import ActsInCycles, CycleEvent, EndsByItself, Fault, fault_for
from chaoslab.faults.overlap import Touched, touched
from chaoslab.schedule import open_for_s
from chaoslab.spec import model
from chaoslab.stack.protocol import Stack
from chaoslab.undo import EndProcesses, UndoJournal, perform

HEAL_TIMEOUT_S = 60.0
HASTY_HEAL_TIMEOUT_S = 10.0  # when the run ends early, healing must not keep a person waiting
_CALL_TIMEOUT_S = 120.0  # for whatever a fault does that bounds itself, and has not
_CUT_SHORT_S = 3.0
_LIFTS_FIRST_S = 5.0
_POLL_S = 0.02
_POLL_NS = round(_POLL_S * NS_PER_S)


@dataclass
class Work:
    """An injection or a heal that was launched. `stage`: what it does now, and `deadline` until when that may take."""

    what: str
    deadline: Deadline
    stage: str = "begun"
    future: Future[None] = field(default_factory=Future)

    def enter(self, stage: str, timeout_s: float) -> None:
        self.stage, self.deadline = stage, Deadline.after(timeout_s, self.deadline.clock)

    @property
    def under_way(self) -> bool:
        """Not over, and not given up either."""
        return not self.future.done() and not self.deadline.passed

    def check(self) -> None:
        """Raises what it raised; NotReady when it has not ended in time."""
        if self.future.done():
            self.future.result()
        elif self.deadline.passed:
            raise NotReady(f"waited {self.deadline.timeout_s:.0f} s for {self.what} to end; last seen: {self.stage}")


@dataclass
class _Active:
    """A fault of the timeline and how far it got.

    `inject_ns`: when its injection was called, None until then. `settled`: that call is over; `complete`: and did all it
    should. `overtaken`: it was healed while that call had not come back. `ended`: nothing is left to heal.
    """

    spec: model.FaultBase
    fault: Fault
    touches: Touched
    inject_ns: int | None = None
    waited: bool = False
    epoch: str = ""
    settled: bool = False
    complete: bool = False
    overtaken: bool = False
    ended: bool = False
    undo_steps: list[int] = field(default_factory=list)
    injection: Work | None = None
    healing: Work | None = None

    def __str__(self) -> str:
        return f"{self.spec.id} ({self.spec.fault} {self.spec.target})"


class FaultRunner:
    """Runs the faults of one timeline on a stack. `write` takes the rows, from several threads."""

    def __init__(
        self,
        timeline: Sequence[model.FaultBase],
        objectives: Sequence[model.Objectives],
        stack: Stack,
        journal: UndoJournal,
        write: Callable[[Row], None],
        clock: Clock = SYSTEM,
    ) -> None:
        self._timeline = timeline
        self._open_for_s = open_for_s(objectives)
        self._stack = stack
        self._journal = journal
        self._write = write
        self._clock = clock
        self._faults: list[_Active] = []
        self._began_ns = 0
        self._closed = False
        self._lock = threading.Lock()  # whether a fault may be called and that it is, is one decision

    # --- what the owner of the run asks -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Look at what works before. Raises FaultNotEffective, told in a row, when an effect could never be seen."""
        for spec in self._timeline:
            active = _Active(spec, fault_for(spec, self._stack, self._clock), touched(spec, self._stack.topology))
            self._faults.append(active)
            try:
                active.fault.prepare()
            except FaultNotEffective as blind:
                self._row(active, "ineffective", {"why": str(blind)})
                raise

    @property
    def prepared(self) -> bool:
        """Whether preparing has begun: from then on it is no steady state that is looked at."""
        return bool(self._faults)

    @property
    def preparing_takes_s(self) -> float:
        """How long that may take at most."""
        return _CALL_TIMEOUT_S + sum(spec.timeout for spec in self._timeline if isinstance(spec, model.Exec))

    @property
    def any_injected(self) -> bool:
        return any(active.inject_ns is not None for active in self._faults)

    def begin(self) -> None:
        """The timeline begins now."""
        self._began_ns = self._clock.now_ns()

    def launch_due(self) -> int | None:
        """Launch what is due, and return when to ask again; None when only the last heals are left, which are then due."""
        now_ns = self._clock.now_ns()
        end_ns = max((self._heal_due_ns(active, or_scripted=True) for active in self._faults), default=now_ns)
        dues_ns = {
            active.spec.id: self._heal_due_ns(active)
            for active in self._faults
            if active.injection and not active.healing and active.spec.heal_after is not None
        }
        waiting = [active for active in self._faults if active.injection is None]
        self._heal([a for a in self._faults if dues_ns.get(a.spec.id, _NEVER_NS) <= now_ns and dues_ns[a.spec.id] < end_ns])
        self._inject([active for active in waiting if self._due_ns(active) <= now_ns])
        if any(active.injection and active.inject_ns is None for active in self._faults):
            return now_ns + _POLL_NS
        later = [due for due in (*map(self._due_ns, waiting), *dues_ns.values(), end_ns) if due > now_ns]
        return min(later, default=None)

    def heal_all(self) -> None:
        """Heal whatever is not being healed yet."""
        self._heal([active for active in self._faults if active.injection and not active.healing])

    @property
    def busy(self) -> bool:
        """Whether an injection or a heal is under way."""
        return any(work.under_way for work in self._works())

    def check(self) -> None:
        """Raises what went wrong with an injection or a heal; NotReady, with what was awaited, when one hangs."""
        for work in self._works():
            work.check()

    def close(self) -> list[str]:
        """From now on no injection is called. Heals, in haste, what is not being healed yet; returns what that is, in words."""
        with self._lock:
            self._closed = True
        left = [active for active in self._faults if active.inject_ns is not None and not active.ended]
        for active in left:
            if active.healing is not None:
                active.healing.deadline = Deadline.after(self._heal_takes_s(active, HASTY_HEAL_TIMEOUT_S), self._clock)
        self._heal([active for active in left if not active.healing])
        return [str(active) for active in left]

    @property
    def healing(self) -> bool:
        """Whether a heal is under way."""
        return any(active.healing is not None and active.healing.under_way for active in self._faults)

    def conclude(self) -> None:
        """Once no heal is under way: raises what went wrong with one. A heal or an injection that hangs is said in rows."""
        for active in self._faults:
            if active.inject_ns is not None and not active.settled:
                self._note("warning", f"the injection of {active} has not ended; what it may still do is undone last of all")
            if active.healing is not None and not active.healing.future.done():
                self._row(active, "unhealed", {"why": f"the heal has not ended; last seen: {active.healing.stage}"})
        for active in self._faults:
            if active.healing is not None:
                active.healing.check()

    # --- when -------------------------------------------------------------------------------------------------

    def _due_ns(self, active: _Active) -> int:
        return self._began_ns + round(active.spec.at * NS_PER_S)

    def _heal_due_ns(self, active: _Active, *, or_scripted: bool = False) -> int:
        """When a fault is to be healed, counted from the injection that was made; far away where that is not known yet.

        Those that are scripted for the same two instants are healed together: after the last of them that did not have to wait.
        """
        lasts_s = self._open_for_s if active.spec.heal_after is None else active.spec.heal_after
        together = [active] if active.waited else [mate for mate in self._faults if _are_mates(mate, active)]
        made_ns = [mate.inject_ns for mate in together]
        if or_scripted:
            made_ns = [self._due_ns(active) if at_ns is None else at_ns for at_ns in made_ns]
        known_ns = [at_ns for at_ns in made_ns if at_ns is not None]
        return max(known_ns) + round(lasts_s * NS_PER_S) if len(known_ns) == len(made_ns) else _NEVER_NS

    # --- injecting --------------------------------------------------------------------------------------------

    def _inject(self, due: Sequence[_Active]) -> None:
        """Launch these, together; those that change the same one after another, toxics before the fence in front of them."""
        for active in sorted(due, key=lambda one: (self._due_ns(one), bool(one.touches.fences))):
            before = [
                work
                for other in self._faults
                for work in (other.injection, other.healing)
                if work is not None and not work.future.done() and other.touches.meets(active.touches)
            ]
            work = Work(f"the injection of {active}", Deadline.after(_CALL_TIMEOUT_S, self._clock))
            active.injection, active.waited = work, bool(before)
            self._launch(work, lambda active=active, work=work, before=before: self._inject_one(active, work, before))  # type: ignore[misc]

    def _inject_one(self, active: _Active, work: Work, before: Sequence[Work]) -> None:
        since_ns = self._clock.now_ns()
        try:
            self._wait_for(before, work)
            waited_s = (self._clock.now_ns() - since_ns) / NS_PER_S
            detail = self._call(active, work, {"waited_s": waited_s} if before else {})
        finally:
            active.settled = True
            if active.overtaken:
                self._heal_once_more(active, work)
        if active.inject_ns is not None and before:
            behind = ", ".join(other.what for other in before)
            self._note(
                "info", f"{active} was injected {waited_s:.1f} s late: {behind} had to end first, which changes the same"
            )
        if active.inject_ns is not None and not active.overtaken:
            self._verify(active, work, detail)

    def _wait_for(self, before: Sequence[Work], work: Work) -> None:
        """Until these are over. Raises what they raised, and NotReady when one has not ended in time."""
        for other in before:
            while not other.future.done() and not self._closed:
                other.check()
                work.enter(f"waiting for {other.what}, which changes the same", _CALL_TIMEOUT_S)
                self._clock.sleep(_POLL_S)
            if not self._closed:
                other.check()

    def _call(self, active: _Active, work: Work, told: dict[str, Any]) -> dict[str, Any]:
        """Do it, unless the run has ended. The undo is on the disk first."""
        work.enter("noting how to undo it", _CALL_TIMEOUT_S)
        steps = [self._journal.plan(step) for step in active.fault.undo_steps()]
        epoch = self._stack.links.epoch()
        with self._lock:
            if not self._closed:
                active.epoch, active.undo_steps, active.inject_ns = epoch, steps, self._clock.now_ns()
        if active.inject_ns is None:
            self._undone(steps)
            return {}
        if isinstance(active.fault, ActsInCycles):
            active.fault.tell_cycles(lambda cycle, event: self._row_of_cycle(active, cycle, event))
        work.enter("injecting", self._injection_takes_s(active))
        self._row(active, "inject", told, at_ns=active.inject_ns)
        detail = active.fault.inject()
        active.complete = True
        active.ended = isinstance(active.fault, EndsByItself)
        return detail

    def _verify(self, active: _Active, work: Work, detail: dict[str, Any]) -> None:
        over_ns = self._clock.now_ns()
        work.enter("verifying", self._injection_takes_s(active))
        try:
            evidence = active.fault.verify()
            self._row(active, "effective", detail | evidence.detail, at_ns=evidence.since_ns)
        except FaultNotEffective as toothless:
            self._row(active, "ineffective", detail | {"why": str(toothless)})
            raise
        finally:
            if active.ended:
                self._end_by_itself(active, work, over_ns)

    def _end_by_itself(self, active: _Active, work: Work, over_ns: int) -> None:
        work.enter("seeing that it is over", HEAL_TIMEOUT_S + _CALL_TIMEOUT_S)
        self._row_of_heal(active, "heal", {"own_end": True}, at_ns=over_ns)
        self._see_healed(active, {"own_end": True}, Deadline.after(HEAL_TIMEOUT_S, self._clock))

    def _heal_once_more(self, active: _Active, work: Work) -> None:
        """The heal came before the injection was over, so that the injection had the last word."""
        while active.healing is not None and active.healing.under_way:
            self._clock.sleep(_POLL_S)
        work.enter("healing once more", HEAL_TIMEOUT_S)
        self._heal_one(active, Deadline.after(HASTY_HEAL_TIMEOUT_S, self._clock))

    # --- healing ----------------------------------------------------------------------------------------------

    def _heal(self, due: Sequence[_Active]) -> None:
        """Launch these, together. They wait for no other fault, whose injection may hang or may need this very heal.

        Only toxics wait, for a moment, for those that lift a fence from the same link: a proxy behind one may not answer. Not
        for the return of a whole site, which lasts as long as its boot.
        """
        works = [Work(f"the heal of {active}", Deadline.after(_CALL_TIMEOUT_S, self._clock)) for active in due]
        for active, work in zip(due, works, strict=True):
            active.healing = work
        for active, work in zip(due, works, strict=True):
            first = [
                lift
                for other, lift in zip(due, works, strict=True)
                if not other.touches.replicas and other.touches.lifts_before(active.touches)
            ]
            self._launch(work, lambda active=active, work=work, first=first: self._heal_when_settled(active, work, first))  # type: ignore[misc]

    def _heal_when_settled(self, active: _Active, work: Work, first: Sequence[Work]) -> None:
        lifts = Deadline.after(_LIFTS_FIRST_S, self._clock)
        while any(not other.future.done() for other in first) and not lifts.passed:
            self._clock.sleep(_POLL_S)
        active.overtaken = not self._settle(active, work)
        if active.inject_ns is None or active.ended:
            return
        timeout_s = HASTY_HEAL_TIMEOUT_S if self._closed else HEAL_TIMEOUT_S
        work.enter("healing", self._heal_takes_s(active, timeout_s))
        self._heal_one(active, Deadline.after(timeout_s, self._clock))

    def _settle(self, active: _Active, work: Work) -> bool:
        """Let the injection end that is under way, and its proof, or they would go on behind the heal. False when it hangs.

        Once the run has ended it has not long, and then the commands that it runs are ended.
        """
        injection, patience = active.injection, None
        if injection is None:
            return True
        while not injection.future.done() and not (patience or injection.deadline).passed:
            work.enter(f"waiting for the injection to end, which is {injection.stage}", _CALL_TIMEOUT_S)
            if self._closed and patience is None:
                patience = Deadline.after(HASTY_HEAL_TIMEOUT_S, self._clock)
            self._clock.sleep(_POLL_S)
        if not active.settled:
            work.enter("ending what the injection started", _CALL_TIMEOUT_S)
            for step in active.fault.undo_steps():
                if isinstance(step, EndProcesses):
                    perform(step)
            patience = Deadline.after(_CUT_SHORT_S, self._clock)
            while not injection.future.done() and not patience.passed:
                self._clock.sleep(_POLL_S)
        return active.settled

    def _heal_one(self, active: _Active, deadline: Deadline) -> None:
        """One attempt: what it cannot do, taking the stack down will, and the reaper."""
        broke = {"restarted": True} if self._links_broke(active) else {}
        if not isinstance(active.fault, ActsInCycles):  # those tell by themselves which cycle they end, if any
            self._row_of_heal(active, "heal", broke)
        try:
            detail = broke | active.fault.heal(deadline)
        except ChaoslabError as failed:
            active.ended = True
            unhealthy = isinstance(failed, NotHealthy) and not self._closed  # it had all its time: the stack failed, not we
            self._row_of_heal(active, "unhealed", broke | {"why": str(failed)} | ({"unhealthy": True} if unhealthy else {}))
            if unhealthy:
                return
            raise
        self._see_healed(active, detail, deadline)

    def _see_healed(self, active: _Active, detail: dict[str, Any], deadline: Deadline) -> None:
        try:
            evidence = active.fault.verify_heal(deadline)
        except ChaoslabError as failed:
            self._row_of_heal(active, "unhealed", detail | {"why": str(failed)})
            raise
        finally:
            active.ended = True
        self._row_of_heal(active, "healed", detail | evidence.detail, at_ns=evidence.since_ns)
        if active.complete:  # else something of it may still be at work: the reaper ends that and heals once more
            self._undone(active.undo_steps)

    def _undone(self, steps: Sequence[int]) -> None:
        for number in steps:
            self._journal.done(number)

    def _links_broke(self, active: _Active) -> bool:
        """Whether a part of the links ended or restarted since the injection."""
        try:
            return self._stack.links.epoch() != active.epoch
        except LinkError:
            return True

    # --- rows and threads -------------------------------------------------------------------------------------

    def _injection_takes_s(self, active: _Active) -> float:
        """How long a call of it may take at most: what its spec allows it, and enough for what bounds itself."""
        match active.spec:
            case model.Exec(timeout=timeout_s):
                return timeout_s + _CUT_SHORT_S
            case model.ServiceStop(grace=grace_s):
                return grace_s + _CALL_TIMEOUT_S
            case model.ServiceRestart(grace=grace_s, within=within_s):
                return len(active.touches.replicas) * (grace_s + within_s + _CALL_TIMEOUT_S)
        return _CALL_TIMEOUT_S

    def _heal_takes_s(self, active: _Active, timeout_s: float) -> float:
        """A command of the user's own and its check may take what the spec allows them; all else keeps to the deadline."""
        if isinstance(active.spec, model.Exec):
            return 2 * (active.spec.timeout + _CUT_SHORT_S)
        return timeout_s + HASTY_HEAL_TIMEOUT_S

    def _works(self) -> Iterator[Work]:
        for active in self._faults:
            yield from filter(None, (active.injection, active.healing))

    def _launch(self, work: Work, do: Callable[[], None]) -> None:
        work.future = in_thread(do, work.what)

    def _row(self, active: _Active, event: Any, detail: dict[str, Any] | None = None, *, at_ns: int | None = None) -> None:
        spec, t_ns = active.spec, self._clock.now_ns() if at_ns is None else at_ns
        self._write(FaultRow(t_ns=t_ns, id=spec.id, name=spec.fault, target=spec.target, event=event, detail=detail or {}))

    def _row_of_heal(self, active: _Active, event: Any, detail: dict[str, Any], *, at_ns: int | None = None) -> None:
        """A disk that is full keeps nothing from being healed; whoever writes next tells of it."""
        with contextlib.suppress(EnvironmentFault):
            self._row(active, event, detail, at_ns=at_ns)

    def _row_of_cycle(self, active: _Active, cycle: int, event: CycleEvent) -> None:
        """The first cycle has the id of its fault, each later one an id of its own: `flap#2`."""
        spec, detail = active.spec, {"evidence": "read back from the links"} if event in ("effective", "healed") else {}
        id_ = spec.id if cycle == 1 else f"{spec.id}#{cycle}"
        t_ns = self._clock.now_ns()
        with contextlib.suppress(EnvironmentFault):
            self._write(FaultRow(t_ns=t_ns, id=id_, name=spec.fault, target=spec.target, event=event, detail=detail))

    def _note(self, level: Any, text: str) -> None:
        with contextlib.suppress(EnvironmentFault):
            self._write(Note(t_ns=self._clock.now_ns(), level=level, text=text))


_NEVER_NS = 1 << 62


def _are_mates(one: _Active, other: _Active) -> bool:
    """Scripted for the same instants, and made without waiting."""
    return (one.spec.at, one.spec.heal_after) == (other.spec.at, other.spec.heal_after) and not one.waited
