"""One trial: one experiment's timeline on a stack, with a folder, load, prober and history of its own.

boot → steady → faults → failback → drain → verify → down. Rows are written to the history first and read back from there, like
those of the prober, so a listener sees the rows that the judge will see. A trial that a signal, an abort condition or a failure
ends early heals, drains and leaves the stack in the same way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from chaoslab.clock import NS_PER_S, Deadline, utc_now
from chaoslab.engine.abort import abort_reason
from chaoslab.engine.conditions import Conditions
from chaoslab.engine.decision_watch import DecisionWatch
from chaoslab.engine.early_end import EarlyEnd
from chaoslab.engine.events import Event, Events, Finished, Progress, Tick
from chaoslab.engine.fault_runner import FaultRunner
from chaoslab.engine.ledgers import read_ledgers
from chaoslab.engine.recorder import EndsEarly, Recorder
from chaoslab.engine.recovery import Recovery
from chaoslab.engine.stack_session import CONTROL_TIMEOUT_S, PREPARE_TIMEOUT_S, StackSession
from chaoslab.engine.start_watch import StartWatch
from chaoslab.engine.steady import Served, SteadyWindow
from chaoslab.engine.steps import PlannedStep, StepRunner
from chaoslab.engine.switchback import EstablishedFor, Establishing
from chaoslab.engine.timeline_steps import Surroundings, planned_step
from chaoslab.engine.trial_load import TrialLoad
from chaoslab.engine.waiting import SHORT_TICK_S, TICK_S, Waiting
from chaoslab.errors import ChaoslabError, EnvironmentFault, FaultNotEffective, Interrupted, NotReady
from chaoslab.history.confirmations import Confirmations
from chaoslab.history.folder import RunFolder
from chaoslab.history.rows import Abort, Anchor, Condition, Fault, Machine, PhaseRow, Probe, Step
from chaoslab.load.process import LoadProcess
from chaoslab.machine.process import MachineWatch, machine_plan
from chaoslab.probe.plan import entry_target, plan_for
from chaoslab.probe.process import ProberProcess
from chaoslab.redact import Secrets
from chaoslab.spec.load import Loaded
from chaoslab.spec.objectives import mode_of, objectives_for, watches_starts
from chaoslab.spec.timeline import end_of
from chaoslab.stack.protocol import CanRestart

VERIFY_TIMEOUT_S = 30.0
_MARGIN_S = 30.0  # beyond the deadline of something with its own time limit: then it hangs
_LISTEN_TIMEOUT_S = 10.0
_LOOK_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 120.0  # for the end of the prober and of Locust
_DOWN_TIMEOUT_S = 180.0
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class TrialPlan:
    """What one trial does. `mark` is in the environment of its own processes; `facts` are in its anchor.

    `steps`: what the harness does besides the timeline of the experiment. `last`: the stack is taken down at the end; otherwise
    it is left to the next trial, unless none may run on it. `attended`: people confirm their steps. `ends_early`: it ends once
    the objectives that are expected to fail have failed for good.
    """

    loaded: Loaded
    folder: RunFolder
    runtime: str
    seed: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    secrets: Secrets = field(default_factory=Secrets)
    mark: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[PlannedStep] = ()
    last: bool = True
    attended: bool = False
    ends_early: bool = False

    def anchor(self, t_ns: int) -> Anchor:
        """The first row of its history, as of now."""
        name, run = self.loaded.experiment.name, self.folder.name
        return Anchor(t_ns=t_ns, wall=utc_now().isoformat(), experiment=name, run=run, runtime=self.runtime, facts=self.facts)


class Trial:
    """Carries out one plan once, on the stack of a session."""

    def __init__(self, session: StackSession, plan: TrialPlan) -> None:
        experiment, spec = plan.loaded.experiment, plan.loaded.compose.spec
        clock = session.clock
        self._session = session
        self._stack = session.stack
        self._plan = plan
        self._clock = clock
        self._experiment = experiment
        self._spec = spec
        self._writer = ""  # prefix of the prober's writers
        self._rows = Recorder(plan.folder, plan.secrets, clock)
        self._wait = Waiting(clock, self._after_tick)
        self._steady = SteadyWindow(experiment.steady_state, experiment.probe, spec.journeys)
        self._steady_is_over = False
        objectives = objectives_for(experiment, spec)
        modes = {name: mode_of(name, objectives[journey.service]) for name, journey in spec.journeys.items()}
        self._served = Served(experiment.probe, spec.journeys, [name for name, mode in modes.items() if mode == "queued"])
        self._conditions = Conditions(self._stack, experiment.steady_state.conditions, clock)
        self._objectives = list(objectives.values())
        self._recovery = Recovery(experiment, spec)
        self._faults = FaultRunner(
            experiment.faults, self._objectives, self._recovery, self._stack, session.journal, self._rows.write, clock
        )
        watched = experiment.faults if watches_starts(experiment, spec) else []
        self._starts = StartWatch(watched, self._stack, self._rows.write, clock)
        self._decisions = DecisionWatch(self._stack, self._rows.write, clock)
        people = Confirmations(plan.folder.path) if plan.attended else None
        run_id = str(plan.facts.get("run_id", ""))
        around = Surroundings(self._stack, session.journal, plan.folder.logs, self._rows.write, clock, people, run_id)
        self._planned_steps = [*plan.steps, *(planned_step(step, around) for step in experiment.steps)]
        self._steps = StepRunner(self._planned_steps, self._rows.write, clock)
        in_the_end = Conditions(self._stack, experiment.conditions_in_the_end, clock)
        self._establishing = Establishing({"steady": self._conditions, "failback": in_the_end}, self._steps, self._rows)
        end_s = end_of(experiment.faults, self._objectives, self._planned_steps)
        lasts_s = end_s + spec.heal + experiment.failback.within + experiment.failback.hold + _MARGIN_S
        self._early_end = EarlyEnd(experiment, spec, lasts_s) if plan.ends_early else None
        self._is_decided = False
        self._load = TrialLoad(self._rows)
        self._prober = ProberProcess(plan.folder.logs, plan.mark)
        self._watch = MachineWatch(plan.folder.logs, plan.mark)

    def events(self) -> Iterator[Event]:
        """Carry it out. The last event, whatever happens, is `Finished`."""
        number = self._session.begin_trial()
        self._writer = f"probe-{self._plan.seed:x}" if number == 1 else f"probe-{self._plan.seed:x}-{number}"
        self._rows.write(self._plan.anchor(self._clock.now_ns()))
        with self._guarded():
            yield from self._boot()
            yield from self._reach_steady_state()
            yield from self._run_timeline()
            yield from self._fail_back()
        self._rows.ending = True
        self._starts.end()
        self._decisions.end()
        with self._guarded():
            yield from self._heal_rest()
        with self._guarded(), self._rows.phase("drain"):
            self._load.begin_end()  # Locust may end while the prober reads the ledgers
            yield from self._wait.for_work(self._prober.stop, "the prober to end", _END_TIMEOUT_S)
        # Not after a person asked to stop, nor if the harness broke or nothing was done to the stack.
        anything_done = self._faults.any_injected or self._steps.any_begun
        # Nor if everything is decided without them.
        if not self._rows.broken and self._session.stop_reason is None and anything_done and not self._is_decided:
            with self._guarded(), self._rows.phase("verify"):
                deadline = Deadline.after(VERIFY_TIMEOUT_S, self._clock)
                work = partial(read_ledgers, self._stack, self._experiment.probe.journeys, self._writer, deadline)
                for row in (yield from self._wait.for_work(work, "the ledgers", VERIFY_TIMEOUT_S + _MARGIN_S)):
                    self._rows.write(row)
        with self._guarded():
            yield from self._load.end(self._wait)
        with self._guarded():
            yield from self._wait.for_work(self._watch.stop, "the sampler of the machine to end", _END_TIMEOUT_S)
        with self._guarded():
            yield from self._leave_stack()
        yield from self._new_rows()
        self._rows.close()
        yield Finished(self._rows.unrecorded)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Note failures in the block, and continue: what follows, above all healing, must still happen."""
        try:
            yield
        except Exception as ended:
            self._rows.explain(ended)

    # --- the phases -------------------------------------------------------------------------------------------

    def _boot(self) -> Events[None]:
        """Start the stack and its observers. If an earlier trial booted the stack, verify that it is clean."""
        with self._rows.phase("boot"):
            self._prober.start()
            run_id = str(self._plan.facts.get("run_id", ""))
            self._watch.start(machine_plan(self._stack, self._experiment, self._spec, self._plan.folder.history, run_id))
            boot = partial(self._session.make_ready, self._wait.on_progress)
            prepare = partial(self._session.prepare, self._wait.on_progress)
            yield from self._wait.for_work(prepare, "the images of the stack", PREPARE_TIMEOUT_S + _MARGIN_S)
            yield from self._wait.for_work(boot, "the stack", self._spec.boot + _MARGIN_S)
            yield from self._wait.for_work(self._watch_control, "the control", CONTROL_TIMEOUT_S + _MARGIN_S)
            yield from self._establish(self._experiment.steady_state.within, "steady")

    def _watch_control(self) -> None:
        """Start the control. Without it nothing shows whether the machine caused an outage, so its absence is noted."""
        try:
            control = self._session.control()
        except ChaoslabError as failed:
            self._rows.note("warning", f"the control does not run, so a busy machine may look like an outage: {failed}")
            return
        self._watch.ask(f"http://{control.address}")
        self._rows.note("info", f"the control is {control.where}")

    def _reach_steady_state(self) -> Events[None]:
        steady = self._experiment.steady_state
        with self._rows.phase("steady", planned_s=steady.hold):
            self._decisions.begin()
            base_url = entry_target(self._spec, None, self._stack.address).url
            _, port = self._stack.topology.entry
            if (load := self._experiment.load) is not None:
                seed, mark = self._plan.seed, self._plan.mark
                process = LoadProcess(load, base_url, self._plan.folder.logs, seed=seed, env=mark, entry_port=port)
                self._load.start(load, process)
            probe = plan_for(self._spec, self._experiment, self._stack.address, self._plan.folder.history, self._writer)
            # Not in this thread: a prober that runs but does not read its plan would block the run.
            yield from self._wait.for_work(partial(self._prober.begin, probe), "the prober to take its plan", _LISTEN_TIMEOUT_S)
            deadline = Deadline.after(steady.within, self._clock)
            yield from self._wait.until(self._clock.now_ns() + round(min(steady.hold, steady.within) * NS_PER_S))
            yield from self._look_at_conditions()
            yield from self._wait_until_steady(deadline)
            try:
                yield from self._wait.for_work(
                    self._faults.prepare, "the check of what works before the faults", self._faults.preparing_takes_s
                )
            except FaultNotEffective as blind:  # the reason is in its row
                raise EndsEarly from blind
            yield from self._wait.for_work(self._starts.prepare, "the ports of what the faults end", _LOOK_TIMEOUT_S)
            yield from self._look_at_conditions()
            yield from self._wait_until_steady(deadline)  # check again, as things are right before the fault

    def _wait_until_steady(self, deadline: Deadline) -> Events[None]:
        """Raises EndsEarly, after a note, if there is no steady state in time."""
        look = Deadline.after(_LOOK_EVERY_S, self._clock)
        while True:
            trouble = self._steady.why_not_steady(self._clock.now_ns()) or self._load.idle()
            if trouble is None:
                return
            if deadline.passed:
                within = f"{self._experiment.steady_state.within:.0f} s"
                self._rows.note("warning", f"no steady state within {within}: {trouble}{self._steady.never_good()}")
                raise EndsEarly
            yield from self._wait.tick(SHORT_TICK_S)
            if look.passed:
                yield from self._look_at_conditions()
                look = Deadline.after(_LOOK_EVERY_S, self._clock)

    def _look_at_conditions(self) -> Events[None]:
        rows = yield from self._wait.for_work(
            lambda: self._conditions.look("fault"), "the answers to conditions", _LOOK_TIMEOUT_S
        )
        for row in rows:
            self._rows.write(row)
        yield from self._new_rows()

    def _run_timeline(self) -> Events[None]:
        """Run until the last heals are due and every step is over."""
        self._steady_is_over = True
        end_s = end_of(self._experiment.faults, self._objectives, self._planned_steps)
        at_most = any(fault.heals_at_recovery for fault in self._experiment.faults)
        with self._rows.phase("faults", planned_s=end_s, at_most=at_most):
            self._faults.begin()
            self._starts.begin()
            self._steps.start()
            while True:
                fault_ns, step_ns = self._faults.launch_due(), self._steps.launch_due()
                if fault_ns is None:
                    if step_ns is None:
                        return
                    self._faults.heal_all()
                ask_ns = min(at_ns for at_ns in (fault_ns, step_ns) if at_ns is not None)
                yield from self._wait.until(min(ask_ns, self._clock.now_ns() + round(TICK_S * NS_PER_S)))

    def _fail_back(self) -> Events[None]:
        failback = self._experiment.failback
        with self._rows.phase("failback", planned_s=failback.hold):
            self._faults.heal_all()
            while self._faults.busy:
                yield from self._wait.tick()
            self._check_actions()
            yield from self._establish(failback.within, "failback")
            # Until users have been served for `hold` since the last event, which may have been a while ago. How the conditions
            # themselves affect users is observed, too. Users who are not served are observed for `hold`.
            begin_ns = self._clock.now_ns()
            end_ns = begin_ns + round(failback.hold * NS_PER_S)
            least_ns = begin_ns + round(min(failback.hold, self._served.enough_s) * NS_PER_S)
            while (now_ns := self._clock.now_ns()) < end_ns:
                if now_ns >= least_ns and self._served.undisturbed_s(now_ns) >= failback.hold:
                    return
                yield from self._wait.until(min(end_ns, now_ns + round(TICK_S * NS_PER_S)))

    def _heal_rest(self) -> Events[None]:
        """Heal what a trial that ended early left injected, all in parallel, so that a hanging heal delays no other."""
        for fault in self._faults.close():
            yield Progress(f"healing {fault}")
        while self._faults.healing:
            yield from self._wait.tick()
        if self._steps.close():
            with self._guarded():
                yield from self._wait.for_work(self._steps.end_all, "the steps to end", self._steps.ending_takes_s)
        try:
            self._faults.conclude()
        except ChaoslabError as late:
            if not self._is_decided:
                raise
            self._rows.note("warning", f"the run had ended, so the wait for its heal was cut: {late}")

    def _leave_stack(self) -> Events[None]:
        """Take the stack down, or leave it to the next trial if one may run on it."""
        session = self._session
        session.end_trial(self._faults.unhealed + self._steps.unended)
        self._rows.write(PhaseRow(t_ns=self._clock.now_ns(), phase="down", event="begin"))
        left: list[str] = []
        why: str | None = ""  # in words, where it is taken down early
        if not self._plan.last:
            try:
                why = yield from self._wait.for_work(session.why_unusable, "the state of the stack", _LOOK_TIMEOUT_S)
            except NotReady as late:
                why = str(late)
        if why is not None:
            try:
                left = yield from self._wait.for_work(partial(session.down, why), "the end of the stack", _DOWN_TIMEOUT_S)
            except NotReady as late:
                left = [str(late)]
        detail = {"left": left, "kept": not session.is_down}
        self._rows.write(PhaseRow(t_ns=self._clock.now_ns(), phase="down", event="end", detail=detail))

    # --- conditions -------------------------------------------------------------------------------------------

    def _establish(self, within_s: float, role: EstablishedFor) -> Events[None]:
        """Wait until all conditions hold, bringing them about where possible. Raises EndsEarly, after their rows, if they do
        not.

        Before the fault, wait only for those that can be brought about; that disturbs users, so it comes before the load.
        """
        deadline = Deadline.after(within_s, self._clock)
        while True:
            rows = yield from self._wait.for_work(
                partial(self._establishing.look, role), "the answers to conditions", _LOOK_TIMEOUT_S
            )
            missing = [row.id for row in rows if not row.holds]
            if role == "steady":  # the others become true while the run waits for its steady state
                missing = [id_ for id_ in missing if self._conditions.can_be_brought_about(id_)]
            if not missing or deadline.passed:
                for row in rows:
                    self._rows.write(row)
                if missing:
                    raise EndsEarly
                return
            may_disturb = role != "failback" or self._served.long_enough(self._clock.now_ns())
            if may_disturb or deadline.left_s < within_s / 2:
                for id_ in missing:
                    what = f"the call that brings about {id_}"
                    yield from self._wait.for_work(partial(self._establishing.bring_about, id_, role), what, _LOOK_TIMEOUT_S)
            yield from self._wait.until(self._clock.now_ns() + round(_LOOK_EVERY_S * NS_PER_S))

    # --- on each tick --------------------------------------------------------------------------------------

    def _after_tick(self) -> Events[None]:
        """Raises what ends the trial early.

        A signal, a failed action, broken links, the end of prober or load, an abort condition, or objectives that failed for
        good.
        """
        yield from self._new_rows()
        yield Tick()
        if isinstance(self._stack, CanRestart):
            for restarted in self._stack.restarts():
                self._rows.note("info", restarted)
        if self._rows.ending:
            return
        if self._session.stop_reason is not None:
            raise Interrupted(self._session.stop_reason)
        if (lost := self._stack.trouble()) is not None:
            self._rows.broken = True
            self._rows.note("blind", lost)
            raise EndsEarly
        self._check_actions()
        for ended in filter(None, (part.poll() for part in (self._prober, self._load, self._watch))):
            raise EnvironmentFault(ended)
        if (reason := abort_reason(self._experiment.abort, self._plan.folder.path)) is not None:
            self._rows.write(Abort(t_ns=self._clock.now_ns(), condition=reason.condition, observed=reason.observed))
            raise EndsEarly
        if self._early_end is not None and (decided := self._early_end.decided(self._clock.now_ns())) is not None:
            self._rows.write(decided)
            self._is_decided = True
            raise EndsEarly

    def _new_rows(self) -> Events[None]:
        yield from self._wait.progress()
        self._load.record()
        for row in self._rows.new_rows():
            if self._early_end is not None:
                self._early_end.add(row)
            if isinstance(row, Probe | Condition | Machine) and not self._steady_is_over:
                self._steady.add(row)
            if isinstance(row, Probe | Fault | Step):
                self._served.add(row)
            if isinstance(row, Probe) and self._steady_is_over:
                self._recovery.add(row)
            if isinstance(row, Fault | Step):
                self._steps.see(row)
            if isinstance(row, Fault):
                self._starts.see(row)
                self._load.see(row)
            yield row

    def _check_actions(self) -> None:
        self._steps.check()
        self._starts.check()
        self._decisions.check()
        try:
            self._faults.check()
        except FaultNotEffective as not_seen:  # the reason is in its row
            raise EndsEarly from not_seen
