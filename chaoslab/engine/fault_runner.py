"""The faults of one trial: each injected, verified and healed on time, in its own threads.

The owner of the trial calls `launch_due` repeatedly, `check` for errors, and finally `close`: after that no injection begins,
and every fault that was injected is healed once. Nothing here blocks on a thread that may hang.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chaoslab.background import in_thread
from chaoslab.cleanup.journal import UndoJournal
from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline
from chaoslab.engine.active_fault import (
    HASTY_HEAL_TIMEOUT_S,
    POLL_S,
    ActiveFault,
    Surroundings,
    Work,
)
from chaoslab.engine.recovery import Recovery
from chaoslab.errors import FaultNotEffective
from chaoslab.faults.registry import fault_for
from chaoslab.history.rows import Row
from chaoslab.judge.recovered import UnhealedFault
from chaoslab.spec.fault import CALL_TIMEOUT_S, FaultBase
from chaoslab.spec.model import ExperimentObjectives
from chaoslab.spec.timeline import lasts_s
from chaoslab.stack.protocol import Stack

_NEVER_NS = 1 << 62
_POLL_NS = round(POLL_S * NS_PER_S)


class FaultRunner:
    """Runs the faults of one timeline on a stack. `write` takes the rows, from several threads.

    `recovery`: when the services are back, for faults that are healed at recovery.
    """

    def __init__(
        self,
        timeline: Sequence[FaultBase],
        objectives: Sequence[ExperimentObjectives],
        recovery: Recovery,
        stack: Stack,
        journal: UndoJournal,
        write: Callable[[Row], None],
        clock: Clock = SYSTEM,
    ) -> None:
        self._timeline = timeline
        self._lasts_s = {spec.id: lasts_s(spec, objectives) for spec in timeline}
        self._recovery = recovery
        self._stack = stack
        self._clock = clock
        self._around = Surroundings(stack, journal, write, clock)
        self._faults: list[ActiveFault] = []
        self._began_ns = 0

    # --- for the owner of the trial ---------------------------------------------------------------------

    def prepare(self) -> None:
        """Record what works before the faults. Raises FaultNotEffective, after a row, if an effect could not be seen."""
        topology = self._stack.topology
        for spec in self._timeline:
            fault = fault_for(spec, self._stack, self._clock)
            active = ActiveFault(spec, fault, spec.touches(topology), self._around, spec.call_limits(topology))
            self._faults.append(active)
            try:
                active.fault.prepare()
            except FaultNotEffective as blind:
                active.write("ineffective", {"why": str(blind)})
                raise

    @property
    def preparing_takes_s(self) -> float:
        """How long `prepare` may take at most."""
        return CALL_TIMEOUT_S + sum(spec.call_limits(self._stack.topology).prepare_s for spec in self._timeline)

    @property
    def any_injected(self) -> bool:
        return any(active.inject_ns is not None for active in self._faults)

    @property
    def unhealed(self) -> list[str]:
        """One sentence for each fault that was injected and was not seen healed."""
        return [
            f"the heal of {active} was not verified"
            for active in self._faults
            if active.inject_ns is not None and not active.whole
        ]

    def begin(self) -> None:
        """The timeline begins now."""
        self._began_ns = self._clock.now_ns()

    def launch_due(self) -> int | None:
        """Launch what is due, and return when to call again; None when only the last heals are left, which are then due."""
        now_ns = self._clock.now_ns()
        end_ns = max((self._heal_due_ns(active, or_scripted=True) for active in self._faults), default=now_ns)
        dues_ns = {
            active.spec.id: self._heal_due_ns(active)
            for active in self._faults
            if active.injection and not active.healing and active.spec.heal_after is not None
        }
        waiting = [active for active in self._faults if active.injection is None]
        due = [active for active in self._faults if dues_ns.get(active.spec.id, _NEVER_NS) <= now_ns]
        self._heal([active for active in due if dues_ns[active.spec.id] < end_ns])  # the last heals begin with failback
        # Heals of the same parts, one after another: toxics before the fence in front of them.
        for active in sorted(waiting, key=lambda fault: (self._due_ns(fault), bool(fault.touches.fences))):
            if self._due_ns(active) <= now_ns:
                active.launch_injection(self._faults)
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
        return any(work.under_way for active in self._faults for work in active.works)

    def check(self) -> None:
        """Raises the error of an injection or a heal; NotReady, with what was awaited, if one hangs."""
        for active in self._faults:
            for work in active.works:
                work.check()

    def close(self) -> list[str]:
        """Allow no more injections, and heal quickly what is not being healed yet; returns what that is, in words."""
        with self._around.lock:
            self._around.closed = True
        left = [active for active in self._faults if active.inject_ns is not None and not active.ended]
        for active in left:
            if active.healing is not None:
                active.healing.deadline = Deadline.after(active.heal_takes_s(HASTY_HEAL_TIMEOUT_S), self._clock)
        self._heal([active for active in left if not active.healing])
        return [str(active) for active in left]

    @property
    def healing(self) -> bool:
        """Whether a heal is under way."""
        return any(active.healing is not None and active.healing.under_way for active in self._faults)

    def conclude(self) -> None:
        """Once no heal is running: raises the error of one. Writes rows about heals and injections that hang."""
        for active in self._faults:
            if active.inject_ns is not None and not active.settled:
                text = f"the injection of {active} has not ended; what it may still change is undone at the end of the run"
                self._around.note("warning", text)
            if active.healing is not None and not active.healing.future.done():
                active.write("unhealed", {"why": f"the heal has not ended; last seen: {active.healing.stage}"})
        for active in self._faults:
            if active.healing is not None:
                active.healing.check()

    # --- when -------------------------------------------------------------------------------------------------

    def _due_ns(self, active: ActiveFault) -> int:
        return self._began_ns + round(active.spec.at * NS_PER_S)

    def _heal_due_ns(self, active: ActiveFault, *, or_scripted: bool = False) -> int:
        """When a fault is to be healed, counted from its injection; far in the future if that is not known yet.

        Faults that are scheduled for the same two instants are healed together, counted from the last of them that did not have
        to wait. Those with `heal_after: recovered` are healed once recovery was seen.
        """
        times = (active.spec.at, active.spec.heal_after)
        together = [active]
        if not active.waited:
            together = [other for other in self._faults if (other.spec.at, other.spec.heal_after) == times and not other.waited]
        if active.spec.heals_at_recovery:
            return self._recovered_ns(together)
        made_ns = [other.inject_ns for other in together]
        if or_scripted:
            made_ns = [self._due_ns(active) if at_ns is None else at_ns for at_ns in made_ns]
        known_ns = [at_ns for at_ns in made_ns if at_ns is not None]
        lasts_ns = round(self._lasts_s[active.spec.id] * NS_PER_S)
        return max(known_ns) + lasts_ns if len(known_ns) == len(made_ns) else _NEVER_NS

    def _recovered_ns(self, together: Sequence[ActiveFault]) -> int:
        """When the services were back from all of these faults; far in the future until then."""
        now_ns = self._clock.now_ns()
        for active in together:
            if active.recovered_ns is None and active.inject_ns is not None and active.effective_ns is not None:
                fault = UnhealedFault(active.spec.id, active.inject_ns, active.effective_ns)
                if self._recovery.why_not_yet(fault, now_ns) is None:
                    active.recovered_ns = now_ns
                    lasted_s = (now_ns - active.inject_ns) / NS_PER_S
                    why = "every service with an RTO is back, or has missed it"
                    self._around.note("info", f"{active} is healed {lasted_s:.1f} s after its injection: {why}")
        known_ns = [active.recovered_ns for active in together if active.recovered_ns is not None]
        return max(known_ns) if len(known_ns) == len(together) else _NEVER_NS

    # --- threads ----------------------------------------------------------------------------------------------

    def _heal(self, due: Sequence[ActiveFault]) -> None:
        """Launch these together. They wait for no other fault, whose injection may hang or may need this heal.

        Only toxics wait briefly for heals that remove a fence from the same link, because a proxy behind a fence may not
        answer. They do not wait for the return of a whole site, which lasts as long as its boot.
        """
        works = [(active, Work(f"the heal of {active}", Deadline.after(CALL_TIMEOUT_S, self._clock))) for active in due]
        for active, work in works:
            active.healing = work
        for active, work in works:
            first = [lift for other, lift in works if not other.touches.replicas and other.touches.lifts_before(active.touches)]
            work.future = in_thread(partial(active.heal, work, first), work.what)
