"""The engine: the phases of one run, as a generator of events that always ends with exactly one `Finished`.

boot → steady → faults → failback → drain → verify → down. What happens is written to the history first and read back
from there, like what the prober writes; so whoever listens sees the rows that the judge will see. Whatever ends a
run early, a signal, an abort condition or a failure, leads through the same healing, draining and taking down.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from chaoslab.abort import abort_reason
from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline, utc_now
from chaoslab.conditions import Conditions
from chaoslab.errors import ChaoslabError, EnvironmentFault, FaultNotEffective, Interrupted, LinkError, StackError
from chaoslab.events import Abort, Anchor, AnyRow, Load, Machine, Note, Phase, PhaseRow, Probe, Row
from chaoslab.events import Fault as FaultRow
from chaoslab.faults import Fault, fault_for
from chaoslab.ledger import read_all_sites
from chaoslab.load import LoadProcess
from chaoslab.masking import Secrets
from chaoslab.probe.plan import plan_for
from chaoslab.prober import ProberProcess
from chaoslab.schedule import Action, end_of, schedule
from chaoslab.spec.load import Loaded
from chaoslab.spec.objectives import objectives_for
from chaoslab.stack.protocol import CanBeWatched, Stack
from chaoslab.starvation import busy_machine
from chaoslab.steady import SteadyWindow
from chaoslab.store import HistoryWriter, RunFolder, write_whole
from chaoslab.tail import HistoryTail
from chaoslab.undo import UndoJournal
from chaoslab.watching import MachineWatch, machine_plan

BOOT_TIMEOUT_S = 120.0
HEAL_TIMEOUT_S = 60.0
HASTY_HEAL_TIMEOUT_S = 10.0  # when the run ends early, healing must not keep a person waiting
VERIFY_TIMEOUT_S = 30.0
_LISTEN_TIMEOUT_S = 10.0
_CONTROL_TIMEOUT_S = 10.0
TICK_S = 0.1
_SHORT_TICK_S = 0.02  # while something is under way that the run waits for
_BRING_ABOUT_EVERY_S = 3.0
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


@dataclass
class _Active:
    """A fault of the timeline and how far it got. `settled`: its injection is over; `complete`: and did all it should."""

    id: str
    fault: Fault
    name: str
    target: str
    injected: bool = False
    healed: bool = False
    epoch: str = ""
    settled: threading.Event = field(default_factory=threading.Event)
    complete: bool = False
    undo_steps: list[int] = field(default_factory=list)


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
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="engine")
        self._work: list[Future[None]] = []
        self._history = HistoryWriter(job.folder.history, job.secrets)
        self._tail = HistoryTail(job.folder.history)
        self._steady = SteadyWindow(self._experiment.steady_state, self._experiment.probe)
        self._conditions = Conditions(job.stack, self._experiment.steady_state.conditions, clock)
        self._faults: dict[str, _Active] = {}
        self._load: LoadProcess | None = None
        self._load_ends: Future[list[Load]] | None = None
        self._prober: ProberProcess | None = None
        self._watch = MachineWatch(job.folder.logs, job.mark)
        self._machine: list[Machine] = []  # until the first fault

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
            yield from self._await(lambda: self._job.stack.up(Deadline.after(BOOT_TIMEOUT_S, self._clock), self._said.put))
            yield from self._await(self._ask_control)
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
            while (trouble := self._unsteady(self._clock.now_ns())) is not None:
                if deadline.passed:
                    self._note("warning", f"no steady state within {steady.within:.0f} s: {trouble}")
                    raise _EndsEarly
                yield from self._tick(_SHORT_TICK_S)
            yield from self._await(self._prepare_faults)
            for row in self._conditions.look("fault"):
                self._write(row)

    def _unsteady(self, now_ns: int) -> str | None:
        since_ns = now_ns - round(self._experiment.steady_state.hold * NS_PER_S)
        return self._steady.trouble(now_ns) or busy_machine(self._machine, since_ns, now_ns)

    def _start_load(self) -> None:
        if self._experiment.load is not None:
            logs, seed, mark = self._job.folder.logs, self._job.seed, self._job.mark
            self._load = LoadProcess(self._experiment.load, self._base_url, logs, seed=seed, env=mark).start()

    def _begin_probing(self) -> Steps[None]:
        """A prober that lives and does not listen must not hold up the run: a long plan waits for its reader."""
        spec, history = self._job.loaded.compose.spec, self._job.folder.history
        plan = plan_for(spec, self._experiment, self._base_url, history, self._writer)
        told = self._pool.submit(self._prober.begin, plan) if self._prober is not None else None
        deadline = Deadline.after(_LISTEN_TIMEOUT_S, self._clock)
        while told is not None and not told.done():
            if deadline.passed:
                raise EnvironmentFault(f"the prober did not take its plan within {_LISTEN_TIMEOUT_S:.0f} s")
            yield from self._tick(_SHORT_TICK_S)

    @property
    def _base_url(self) -> str:
        name, port = self._job.stack.topology.entry
        return f"http://{self._job.stack.address(name, port)}"

    @property
    def _writer(self) -> str:
        return f"probe-{self._job.seed:x}"

    def _prepare_faults(self) -> None:
        for spec in self._experiment.timeline:
            fault = fault_for(spec, self._job.stack)
            self._faults[spec.id] = _Active(spec.id, fault, spec.fault, spec.target)
            try:
                fault.prepare()
            except FaultNotEffective as blind:
                self._fault_row(self._faults[spec.id], "ineffective", {"why": str(blind)})
                raise _EndsEarly from blind

    def _run_timeline(self) -> Steps[None]:
        objectives = list(objectives_for(self._experiment, self._job.loaded.compose.spec).values())
        end_s = end_of(self._experiment.timeline, objectives)
        with self._phase("faults", planned_s=end_s):
            began_ns = self._clock.now_ns()
            for action in schedule(self._experiment.timeline, objectives):
                yield from self._sleep_until(began_ns + round(action.at_s * NS_PER_S))
                if action.verb == "inject" or action.at_s < end_s:
                    self._launch(action)

    def _fail_back(self) -> Steps[None]:
        failback = self._experiment.failback
        with self._phase("failback", planned_s=failback.hold):
            for active in self._faults.values():
                self._launch(Action(0.0, "heal", active.id))
            yield from self._finish_work()
            if not (yield from self._establish(failback.within, "failback")):
                raise _EndsEarly
            yield from self._sleep_until(self._clock.now_ns() + round(failback.hold * NS_PER_S))

    def _heal_rest(self) -> Steps[None]:
        """What a run that ended early left injected."""
        for active in self._faults.values():
            if active.injected and not active.healed:
                yield Said(f"healing {active.name} {active.target}")
                yield from self._settle(active)
                yield from self._await(lambda active=active: self._heal(active, HASTY_HEAL_TIMEOUT_S))  # type: ignore[misc]

    def _settle(self, active: _Active) -> Steps[None]:
        """Let an injection end that is under way, or it would go on behind the heal; one that hangs is left to the reaper."""
        deadline = Deadline.after(HASTY_HEAL_TIMEOUT_S, self._clock)
        while not active.settled.is_set() and not deadline.passed:
            yield from self._tick()

    def _drain(self) -> Steps[None]:
        """The ledger is the prober's; the load may take its time to end while the ledger is read."""
        with self._phase("drain"):
            if self._load is not None:
                self._load_ends = self._pool.submit(self._load.stop)
            if self._prober is not None:
                yield from self._await(self._prober.stop)
            self._prober = self._load = None

    def _see_load_end(self) -> Steps[None]:
        for row in (yield from self._until_done(self._load_ends)) if self._load_ends is not None else ():
            self._write(row)

    def _ledger_worth_reading(self) -> bool:
        """Not after a person asked to stop, nor when the harness broke or nothing was hurt."""
        return not self._broken and self._stop_reason is None and any(active.injected for active in self._faults.values())

    def _verify(self) -> Steps[None]:
        with self._phase("verify"):
            for row in (yield from self._await(self._read_ledgers)):
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
        yield from self._await(self._watch.stop)
        left: list[str] = []
        if not self._job.keep:
            left = yield from self._await(self._job.stack.down)
        detail = {"left": left, "kept": self._job.keep}
        self._write(PhaseRow(t_ns=self._clock.now_ns(), phase="down", event="end", detail=detail))

    # --- conditions -------------------------------------------------------------------------------------------

    def _establish(self, within_s: float, role: str) -> Steps[bool]:
        """Wait until all conditions hold, bringing about what can be; False, with the rows that say so, when they do not."""
        deadline = Deadline.after(within_s, self._clock)
        next_attempt = Deadline.after(0.0, self._clock)
        while True:
            rows = yield from self._await(lambda: self._conditions.look(role))
            missing = [row.id for row in rows if not row.holds]
            if not missing or deadline.passed:
                for row in rows:
                    self._write(row)
                return not missing
            if next_attempt.passed:
                next_attempt = Deadline.after(_BRING_ABOUT_EVERY_S, self._clock)
                for id_ in missing:
                    attempt = yield from self._await(lambda id_=id_: self._conditions.bring_about(id_))  # type: ignore[misc]
                    if attempt is not None:
                        self._write(attempt)
            yield from self._sleep_until(self._clock.now_ns() + round(_LOOK_EVERY_S * NS_PER_S))

    # --- faults -----------------------------------------------------------------------------------------------

    def _launch(self, action: Action) -> None:
        """Start an injection or a heal at its instant; each waits for what was launched before it."""
        active, before = self._faults[action.fault_id], list(self._work)

        def work() -> None:
            for future in before:
                future.result()
            if action.verb == "inject":
                self._inject(active)
            elif not active.healed:
                self._heal(active, HEAL_TIMEOUT_S)

        self._work.append(self._pool.submit(work))

    def _inject(self, active: _Active) -> None:
        if self._ending:
            return
        active.undo_steps = [self._job.journal.plan(step) for step in active.fault.undo_steps()]
        active.injected = True
        try:
            active.epoch = self._job.stack.links.epoch()
            self._fault_row(active, "inject")
            detail = active.fault.inject()
            active.complete = True
        finally:
            active.settled.set()
        try:
            evidence = active.fault.verify()
        except FaultNotEffective as toothless:
            self._fault_row(active, "ineffective", detail | {"why": str(toothless)})
            raise _EndsEarly from toothless
        self._fault_row(active, "effective", detail | evidence.detail, at_ns=evidence.since_ns)

    def _heal(self, active: _Active, timeout_s: float) -> None:
        deadline = Deadline.after(timeout_s, self._clock)
        self._fault_row(active, "heal", {"restarted": True} if self._links_broke(active) else {})
        try:
            detail = active.fault.heal(deadline)
            evidence = active.fault.verify_heal(deadline)
        except ChaoslabError as failed:
            self._fault_row(active, "unhealed", {"why": str(failed)})
            raise
        finally:
            active.healed = True  # one attempt: what it could not do, taking the stack down will
        self._fault_row(active, "healed", detail | evidence.detail, at_ns=evidence.since_ns)
        if active.complete:  # else something of it may still be at work: the reaper ends that and heals once more
            for number in active.undo_steps:
                self._job.journal.done(number)

    def _links_broke(self, active: _Active) -> bool:
        """Whether a part of the links ended or restarted since the injection."""
        try:
            return self._job.stack.links.epoch() != active.epoch
        except LinkError:
            return True

    def _fault_row(self, active: _Active, event: Any, detail: dict[str, Any] | None = None, at_ns: int | None = None) -> None:
        t_ns = self._clock.now_ns() if at_ns is None else at_ns
        row = FaultRow(t_ns=t_ns, id=active.id, name=active.name, target=active.target, event=event, detail=detail or {})
        self._write(row)

    # --- waiting ----------------------------------------------------------------------------------------------

    def _await(self, work: Callable[[], T]) -> Steps[T]:
        """Do something in another thread; time goes on meanwhile."""
        return (yield from self._until_done(self._pool.submit(work)))

    def _until_done(self, future: Future[T]) -> Steps[T]:
        while not future.done():
            yield from self._tick(_SHORT_TICK_S)
        return future.result()

    def _finish_work(self) -> Steps[None]:
        while not all(work.done() for work in self._work):
            yield from self._tick()
        self._check_work()

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
                yield Said(self._said.get_nowait())
        if self._load is not None and not self._ending:
            for load_row in self._load.rows():
                self._write(load_row)
        for row in self._tail.poll():
            if isinstance(row, Probe) and not self._faults:
                self._steady.add(row)
            if isinstance(row, Machine) and not self._faults:
                self._machine.append(row)
            yield row

    def _check_health(self) -> None:
        """Raises what ends the run early: a signal, a failed fault, dead links, instrument or load, an abort condition."""
        if self._stop_reason is not None:
            raise Interrupted(self._stop_reason)
        if (lost := self._job.stack.trouble()) is not None:
            self._broken = True
            self._note("blind", lost)
            raise _EndsEarly
        self._check_work()
        for trouble in filter(None, (part.poll() for part in (self._prober, self._load, self._watch) if part is not None)):
            raise EnvironmentFault(trouble)
        if (reason := abort_reason(self._experiment.abort, self._job.folder.path)) is not None:
            self._write(Abort(t_ns=self._clock.now_ns(), condition=reason.condition, observed=reason.observed))
            raise _EndsEarly

    def _check_work(self) -> None:
        for work in self._work:
            if work.done():
                work.result()

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
        except EnvironmentFault as failed:
            self._unrecorded = str(failed)
            if not self._ending:
                raise

    def _close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        with contextlib.suppress(ChaoslabError):
            self._history.close()
        self._tail.close()
