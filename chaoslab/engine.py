"""The engine: the phases of one run, as a generator of events that always ends with exactly one `Finished`.

boot → steady → faults → failback → drain → verify → down. What happens is written to the history first and read back
from there, like what the prober writes; so whoever listens sees the rows that the judge will see. Whatever ends a
run early, a signal, an abort condition or a failure, leads through the same healing, draining and taking down.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from chaoslab.abort import abort_reason
from chaoslab.background import in_thread
from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline, utc_now
from chaoslab.conditions import Conditions
from chaoslab.errors import ChaoslabError, EnvironmentFault, FaultNotEffective, Interrupted, NotReady, StackError
from chaoslab.events import Abort, Anchor, AnyRow, Condition, Load, Machine, Note, Phase, PhaseRow, Probe, Row, Step
from chaoslab.fault_runner import FaultRunner
from chaoslab.ledger import read_all_sites
from chaoslab.load import LoadProcess
from chaoslab.masking import Secrets
from chaoslab.measure import stable_slots
from chaoslab.probe.plan import plan_for
from chaoslab.prober import ProberProcess
from chaoslab.schedule import end_of
from chaoslab.spec.load import Loaded
from chaoslab.spec.objectives import objectives_for
from chaoslab.stack.protocol import CanBeWatched, Stack
from chaoslab.steady import SteadyWindow
from chaoslab.store import HistoryWriter, RunFolder, write_whole
from chaoslab.tail import HistoryTail
from chaoslab.undo import UndoJournal
from chaoslab.watching import MachineWatch, machine_plan

BOOT_TIMEOUT_S = 120.0
VERIFY_TIMEOUT_S = 30.0
_MARGIN_S = 30.0  # beyond the deadline of something that bounds itself: then it hangs
_LISTEN_TIMEOUT_S = 10.0
_CONTROL_TIMEOUT_S = 10.0
_LOOK_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 120.0  # of the prober, of Locust
_DOWN_TIMEOUT_S = 180.0
TICK_S = 0.1
_SHORT_TICK_S = 0.02  # while something is under way that the run waits for
_LOOK_EVERY_S = 0.5

T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """A line of progress for people."""

    text: str


@dataclass(frozen=True)
class Tick:
    """Time passed; a chance to redraw."""


@dataclass(frozen=True)
class Finished:
    """The one terminal event. `unrecorded`: why the history stops before the end, in words; such a run cannot be judged."""

    unrecorded: str | None = None


Event = AnyRow | Said | Tick | Finished
Steps = Generator[Event, None, T]


@dataclass(frozen=True)
class Job:
    """One run to do. `keep` leaves the stack up at the end; `mark` is in the environment of what the run starts beside it."""

    loaded: Loaded
    stack: Stack
    folder: RunFolder
    journal: UndoJournal
    runtime: str
    keep: bool = False
    seed: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    secrets: Secrets = field(default_factory=Secrets)
    mark: Mapping[str, str] = field(default_factory=dict)


class _EndsEarly(Exception):
    """The run need not go on; the history says why, and the judge will."""


class Engine:
    """Does one job, once. `stop` may be called from a signal handler at any time."""

    def __init__(self, job: Job, clock: Clock = SYSTEM) -> None:
        self._job = job
        self._clock = clock
        self._experiment = job.loaded.experiment
        self._stop_reason: str | None = None
        self._ending = False
        self._broken = False
        self._told: Exception | None = None
        self._unrecorded: str | None = None
        self._said: SimpleQueue[str] = SimpleQueue()
        self._last_said = "nothing"
        self._history = HistoryWriter(job.folder.history, job.secrets)
        self._tail = HistoryTail(job.folder.history)
        journeys = job.loaded.compose.spec.journeys
        self._steady = SteadyWindow(self._experiment.steady_state, self._experiment.probe, journeys)
        self._hurting = False
        self._loaded = False  # a second with requests was seen
        self._last_bad_ns = 0  # when the last bad slot was due
        self._conditions = Conditions(job.stack, self._experiment.steady_state.conditions, clock)
        self._objectives = list(objectives_for(self._experiment, job.loaded.compose.spec).values())
        timeline = self._experiment.timeline
        self._faults = FaultRunner(timeline, self._objectives, job.stack, job.journal, self._write, clock)
        self._switched: dict[str, list[str]] = {}  # by condition, the steps that are to bring it about
        self._load: LoadProcess | None = None
        self._load_ends: Future[list[Load]] | None = None
        self._prober: ProberProcess | None = None
        self._watch = MachineWatch(job.folder.logs, job.mark)

    def stop(self, reason: str) -> None:
        """Ask the run to heal, clean up and end."""
        self._stop_reason = self._stop_reason or reason

    def events(self) -> Iterator[Event]:
        """Do the run. The last event, whatever happens, is a `Finished`."""
        self._write(self._anchor())
        yield from self._guarded(self._phases())
        self._ending = True
        yield from self._guarded(self._heal_rest())
        yield from self._guarded(self._drain())
        if self._ledger_worth_reading():
            yield from self._guarded(self._verify())
        yield from self._guarded(self._see_load_end())
        yield from self._guarded(self._await(self._watch.stop, "the watch on the machine to end", _END_TIMEOUT_S))
        yield from self._guarded(self._take_down())
        yield from self._new_rows()
        self._close()
        yield Finished(self._unrecorded)

    # --- the phases -------------------------------------------------------------------------------------------

    def _phases(self) -> Steps[None]:
        yield from self._boot()
        yield from self._reach_steady_state()
        yield from self._run_timeline()
        yield from self._fail_back()

    def _boot(self) -> Steps[None]:
        with self._phase("boot"):
            self._prober = ProberProcess(self._job.folder.logs, self._job.mark)
            self._prober.start()
            self._watch_machine()
            boot = Deadline.after(BOOT_TIMEOUT_S, self._clock)
            yield from self._await(lambda: self._job.stack.up(boot, self._said.put), "the stack", BOOT_TIMEOUT_S + _MARGIN_S)
            yield from self._await(self._ask_control, "the control", _CONTROL_TIMEOUT_S + _MARGIN_S)
            if not (yield from self._establish(self._experiment.steady_state.within, "steady")):
                raise _EndsEarly

    def _watch_machine(self) -> None:
        job = self._job
        run_id = str(job.facts.get("run_id", ""))
        self._watch.start(machine_plan(job.stack, self._experiment, job.loaded.compose.spec, job.folder.history, run_id))

    def _ask_control(self) -> None:
        """Without a control nobody could tell whether the machine made an outage, which has to be said."""
        try:
            if not isinstance(self._job.stack, CanBeWatched):
                raise StackError("this runtime has none")
            control = self._job.stack.host_control(Deadline.after(_CONTROL_TIMEOUT_S, self._clock))
        except ChaoslabError as failed:
            self._note("warning", f"there is no control, so a busy machine may look like an outage: {failed}")
            return
        self._watch.ask(f"http://{control.address}")
        self._note("info", f"the control is {control.where}")

    def _reach_steady_state(self) -> Steps[None]:
        steady = self._experiment.steady_state
        with self._phase("steady", planned_s=steady.hold):
            self._start_load()
            yield from self._begin_probing()
            deadline = Deadline.after(steady.within, self._clock)
            yield from self._sleep_until(self._clock.now_ns() + round(min(steady.hold, steady.within) * NS_PER_S))
            yield from self._wait_until_steady(deadline)
            yield from self._prepare_faults()
            yield from self._look_at_conditions()
            yield from self._wait_until_steady(deadline)  # still, or once more: as things are right before the fault

    def _wait_until_steady(self, deadline: Deadline) -> Steps[None]:
        look = Deadline.after(_LOOK_EVERY_S, self._clock)
        while (trouble := self._steady.trouble(self._clock.now_ns()) or self._idle()) is not None:
            if deadline.passed:
                within_s = self._experiment.steady_state.within
                self._note("warning", f"no steady state within {within_s:.0f} s: {trouble}")
                raise _EndsEarly
            yield from self._tick(_SHORT_TICK_S)
            if look.passed:
                yield from self._look_at_conditions()
                look = Deadline.after(_LOOK_EVERY_S, self._clock)

    def _idle(self) -> str | None:
        """Why there is no load yet; the judge asks for it, too."""
        return "Locust has sent nothing yet" if self._load is not None and not self._loaded else None

    def _look_at_conditions(self) -> Steps[None]:
        rows = yield from self._await(lambda: self._conditions.look("fault"), "the answers to conditions", _LOOK_TIMEOUT_S)
        for row in rows:
            self._write(row)
        yield from self._new_rows()

    def _start_load(self) -> None:
        if self._experiment.load is not None:
            job, (_, entry_port) = self._job, self._job.stack.topology.entry
            self._load = LoadProcess(
                self._experiment.load, self._base_url, job.folder.logs, seed=job.seed, env=job.mark, entry_port=entry_port
            ).start()
            if (published := self._load.published_url) is not None:
                self._note("info", f"the entry is published at {published}, for Locust's workers on other machines")

    def _begin_probing(self) -> Steps[None]:
        """A prober that lives and does not listen must not hold up the run: a long plan waits for its reader."""
        spec, history = self._job.loaded.compose.spec, self._job.folder.history
        plan = plan_for(spec, self._experiment, self._base_url, history, self._writer)
        if (prober := self._prober) is not None:
            yield from self._await(lambda: prober.begin(plan), "the prober to take its plan", _LISTEN_TIMEOUT_S)

    @property
    def _base_url(self) -> str:
        name, port = self._job.stack.topology.entry
        return f"http://{self._job.stack.address(name, port)}"

    @property
    def _writer(self) -> str:
        return f"probe-{self._job.seed:x}"

    def _prepare_faults(self) -> Steps[None]:
        """What could never be seen ends the run here; its row says why."""
        try:
            yield from self._await(self._faults.prepare, "a look at what works before", self._faults.preparing_takes_s)
        except FaultNotEffective as blind:
            raise _EndsEarly from blind

    def _run_timeline(self) -> Steps[None]:
        end_s = end_of(self._experiment.timeline, self._objectives)
        self._hurting = True
        with self._phase("faults", planned_s=end_s):
            self._faults.begin()
            while (next_ns := self._faults.launch_due()) is not None:
                yield from self._sleep_until(min(next_ns, self._clock.now_ns() + round(TICK_S * NS_PER_S)))

    def _fail_back(self) -> Steps[None]:
        failback = self._experiment.failback
        with self._phase("failback", planned_s=failback.hold):
            self._faults.heal_all()
            while self._faults.busy:
                yield from self._tick()
            self._check_faults()
            if not (yield from self._establish(failback.within, "failback")):
                raise _EndsEarly
            yield from self._sleep_until(self._clock.now_ns() + round(failback.hold * NS_PER_S))

    def _heal_rest(self) -> Steps[None]:
        """What a run that ended early left injected, all at once: what hangs in one keeps no other from being healed."""
        for fault in self._faults.close():
            yield Said(f"healing {fault}")
        while self._faults.healing:
            yield from self._tick()
        self._faults.conclude()

    def _drain(self) -> Steps[None]:
        """The ledger is the prober's; the load may take its time to end while the ledger is read."""
        with self._phase("drain"):
            load, prober = self._load, self._prober
            self._load = self._prober = None
            if load is not None:
                self._load_ends = in_thread(load.stop, "Locust to end")
            if prober is not None:
                yield from self._await(prober.stop, "the prober to end", _END_TIMEOUT_S)

    def _see_load_end(self) -> Steps[None]:
        if self._load_ends is not None:
            for row in (yield from self._until_done(self._load_ends, "Locust to end", _END_TIMEOUT_S)):
                self._write(row)

    def _ledger_worth_reading(self) -> bool:
        """Not after a person asked to stop, nor when the harness broke or nothing was hurt."""
        return not self._broken and self._stop_reason is None and self._faults.any_injected

    def _verify(self) -> Steps[None]:
        with self._phase("verify"):
            for row in (yield from self._await(self._read_ledgers, "the ledgers", VERIFY_TIMEOUT_S + _MARGIN_S)):
                self._write(row)

    def _read_ledgers(self) -> list[Any]:
        stack, spec = self._job.stack, self._job.loaded.compose.spec
        wanted = self._experiment.probe.journeys
        journeys = {n: j for n, j in spec.journeys.items() if j.ledger is not None and (wanted is None or n in wanted)}
        addresses: dict[str, dict[str, str]] = {}
        for site in spec.sites:
            for journey in journeys.values():
                for replica in stack.topology.of_service(journey.service, site)[:1]:
                    url = f"http://{stack.address(replica.name, replica.ports[0])}"
                    addresses.setdefault(site, {})[journey.service] = url
        return list(read_all_sites(journeys, addresses, self._writer, Deadline.after(VERIFY_TIMEOUT_S, self._clock)))

    def _take_down(self) -> Steps[None]:
        self._write(PhaseRow(t_ns=self._clock.now_ns(), phase="down", event="begin"))
        left: list[str] = []
        if not self._job.keep:
            try:
                left = yield from self._await(self._job.stack.down, "the end of the stack", _DOWN_TIMEOUT_S)
            except NotReady as late:
                left = [str(late)]
        detail = {"left": left, "kept": self._job.keep}
        self._write(PhaseRow(t_ns=self._clock.now_ns(), phase="down", event="end", detail=detail))

    # --- conditions -------------------------------------------------------------------------------------------

    def _establish(self, within_s: float, role: str) -> Steps[bool]:
        """Wait until all conditions hold, bringing about what can be; False, with the rows that say so, when they do not."""
        deadline = Deadline.after(within_s, self._clock)
        while True:
            rows = yield from self._await(lambda: self._conditions.look(role), "the answers to conditions", _LOOK_TIMEOUT_S)
            for row in rows:
                for step in self._switched.pop(row.id, []) if row.holds else []:
                    self._write(Step(t_ns=row.t_ns, id=step, name="switchback", event="end"))
            missing = [row.id for row in rows if not row.holds]
            if not missing or deadline.passed:
                for row in rows:
                    self._write(row)
                return not missing
            if role != "failback" or self._served or deadline.left_s < within_s / 2:
                for id_ in missing:
                    yield from self._bring_about(id_, role)
            yield from self._sleep_until(self._clock.now_ns() + round(_LOOK_EVERY_S * NS_PER_S))

    @property
    def _served(self) -> bool:
        """Whether users have been served for long enough to disturb them by a step: what is still down is no steady state."""
        probe, journeys = self._experiment.probe, self._job.loaded.compose.spec.journeys
        stable_s = stable_slots(round(NS_PER_S / probe.slots_per_s)) / probe.slots_per_s
        hidden_s = max((journey.timeout for journey in journeys.values()), default=0.0)  # a slot that hangs has no row yet
        return self._clock.now_ns() - self._last_bad_ns > max(stable_s, hidden_s) * NS_PER_S

    def _bring_about(self, id_: str, role: str) -> Steps[None]:
        """In failback that is a step of the harness's own, for it may hurt; a call that was refused changed nothing."""
        what = f"the call that brings {id_} about"
        attempt = yield from self._await(lambda: self._conditions.bring_about(id_), what, _LOOK_TIMEOUT_S)
        if attempt is None:
            return
        self._write(attempt.row)
        if role == "failback" and not attempt.refused:
            steps = self._switched.setdefault(id_, [])
            steps.append(f"{id_}#{len(steps) + 1}" if steps else id_)
            detail = {"observed": attempt.row.observed}
            self._write(Step(t_ns=attempt.called_ns, id=steps[-1], name="switchback", event="begin", detail=detail))

    # --- waiting ----------------------------------------------------------------------------------------------

    def _await(self, work: Callable[[], T], what: str, timeout_s: float) -> Steps[T]:
        """Do something in a thread of its own; time goes on meanwhile. Raises NotReady when it has not ended by then."""
        return (yield from self._until_done(in_thread(work, what), what, timeout_s))

    def _until_done(self, future: Future[T], what: str, timeout_s: float) -> Steps[T]:
        deadline = Deadline.after(timeout_s, self._clock)
        while not future.done():
            if deadline.passed:
                raise NotReady(f"waited {timeout_s:.0f} s for {what}; last said: {self._last_said}")
            yield from self._tick(_SHORT_TICK_S)
        return future.result()

    def _sleep_until(self, at_ns: int) -> Steps[None]:
        while (left_s := (at_ns - self._clock.now_ns()) / NS_PER_S) > 0:
            yield from self._tick(min(TICK_S, left_s))

    def _tick(self, seconds: float = TICK_S) -> Steps[None]:
        self._clock.sleep(seconds)
        yield from self._new_rows()
        yield Tick()
        if not self._ending:
            self._check_health()

    def _new_rows(self) -> Steps[None]:
        with contextlib.suppress(Empty):
            while True:
                self._last_said = self._said.get_nowait()
                yield Said(self._last_said)
        if self._load is not None and not self._ending:
            for load_row in self._load.rows():
                self._write(load_row)
                self._loaded = self._loaded or load_row.requests > 0
            for level, text in self._load.news():
                self._note(level, text)
        for row in self._tail.poll():
            if isinstance(row, Probe | Condition | Machine) and not self._hurting:
                self._steady.add(row)
            if isinstance(row, Probe) and not row.good:
                self._last_bad_ns = max(self._last_bad_ns, row.due_ns)
            yield row

    def _check_health(self) -> None:
        """Raises what ends the run early: a signal, a failed fault, dead links, instrument or load, an abort condition."""
        if self._stop_reason is not None:
            raise Interrupted(self._stop_reason)
        if (lost := self._job.stack.trouble()) is not None:
            self._broken = True
            self._note("blind", lost)
            raise _EndsEarly
        self._check_faults()
        for trouble in filter(None, (part.poll() for part in (self._prober, self._load, self._watch) if part is not None)):
            raise EnvironmentFault(trouble)
        if (reason := abort_reason(self._experiment.abort, self._job.folder.path)) is not None:
            self._write(Abort(t_ns=self._clock.now_ns(), condition=reason.condition, observed=reason.observed))
            raise _EndsEarly

    def _check_faults(self) -> None:
        try:
            self._faults.check()
        except FaultNotEffective as toothless:
            raise _EndsEarly from toothless

    # --- rows and endings -------------------------------------------------------------------------------------

    def _guarded(self, steps: Steps[None]) -> Steps[None]:
        """Whatever goes wrong in these steps is noted; later steps, above all healing, still happen."""
        try:
            yield from steps
        except Exception as ended:
            self._tell_why(ended)

    @contextlib.contextmanager
    def _phase(self, phase: Phase, planned_s: float | None = None) -> Iterator[None]:
        detail = {} if planned_s is None else {"planned_s": planned_s}
        self._write(PhaseRow(t_ns=self._clock.now_ns(), phase=phase, event="begin", detail=detail))
        try:
            yield
        except Exception as ended:
            self._tell_why(ended)  # before the phase's end, so that the judge sees a phase that was cut
            raise
        finally:
            self._write(PhaseRow(t_ns=self._clock.now_ns(), phase=phase, event="end"))

    def _tell_why(self, ended: Exception) -> None:
        """One note for whatever ended the run early; what goes wrong after that is told, but is not the cause."""
        if ended is self._told or isinstance(ended, _EndsEarly):
            return
        self._told = ended
        if isinstance(ended, Interrupted):
            self._note("interrupted", str(ended))
            return
        follows, self._broken = self._broken, True
        if isinstance(ended, ChaoslabError):
            self._note("warning" if follows else "error", str(ended))
            return
        story = "".join(traceback.format_exception(ended))
        write_whole(self._job.folder.logs / "harness.log", story.encode(errors="replace"))
        self._note("error", f"the harness broke: {type(ended).__name__}: {ended} (see logs/harness.log)")

    def _anchor(self) -> Anchor:
        return Anchor(
            t_ns=self._clock.now_ns(),
            wall=utc_now().isoformat(),
            experiment=self._experiment.name,
            run=self._job.folder.name,
            runtime=self._job.runtime,
            facts=self._job.facts,
        )

    def _note(self, level: Any, text: str) -> None:
        with contextlib.suppress(EnvironmentFault):  # what it says is told in the end
            self._write(Note(t_ns=self._clock.now_ns(), level=level, text=text))

    def _write(self, row: Row) -> None:
        """After a row that could not be written there are no more: what is on the disk is all true, up to a point.

        Raises EnvironmentFault, but not once the run is ending: a full disk must not keep the rest from being undone.
        """
        try:
            if self._unrecorded is not None:
                raise EnvironmentFault(self._unrecorded)
            self._history.append(row)
        except ChaoslabError as failed:
            self._unrecorded = str(failed)
            if not self._ending:
                raise

    def _close(self) -> None:
        with contextlib.suppress(ChaoslabError):
            self._history.close()
        self._tail.close()
