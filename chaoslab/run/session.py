"""One run from a loaded spec to its verdict: creates folder, stack and reaper, runs the engine, writes the result.

Modules that a run needs only at its end, or not always, are imported where they are used, so that the boot does not wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import randbits, token_hex
from typing import Any

from chaoslab.cleanup import active_runs, reaper
from chaoslab.cleanup.journal import RemoveFolder, UndoJournal, Unmount, undo_journal
from chaoslab.clock import SYSTEM, Deadline
from chaoslab.engine.engine import Engine
from chaoslab.engine.events import Event, Finished, Progress, Tick
from chaoslab.engine.stack_session import StackSession
from chaoslab.engine.trial import TrialPlan
from chaoslab.errors import ChaoslabError, EnvironmentFault, ExitCode, exit_code_of
from chaoslab.faults.abilities import cut_replicas, relayed_services
from chaoslab.history.folder import ROOT, RunFolder
from chaoslab.history.result import Result
from chaoslab.history.rows import PhaseRow
from chaoslab.history.writer import HistoryWriter, write_whole
from chaoslab.redact import Secrets
from chaoslab.report.status import StatusTracker
from chaoslab.report.view import JsonView, View
from chaoslab.run import runtimes
from chaoslab.run.people import asking_people, let_go_of_terminal
from chaoslab.run.runtimes import Runtime
from chaoslab.spec.load import Loaded, dump_resolved
from chaoslab.spec.objectives import watches_starts
from chaoslab.spec.permission import require_permission
from chaoslab.spec.secrets import secrets_of
from chaoslab.stack.protocol import CanBlockWithinSite, CanCutDisks, CanTellAsks
from chaoslab.stack.reach import RUN_VARIABLE, data_folder

_LOOK_EVERY_S = 0.1  # seconds between two views of the status; the engine ticks more often
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """How to run. Nothing is asked of the process: neither its working folder nor, without `signals`, its signals.

    `project`: the folder that the run belongs to, as `chaoslab.spec.project` finds it, or one inside it; commands of a spec
    from elsewhere need `allow_exec`.
    `runtime`: a name of `chaoslab.run.runtimes.names()`, not `auto`.
    `keep`: leave the stack up at the end.
    `seed`: of the load and of the names of writes; None draws one below 2**32. It is in the result.
    `root`: where the folders of runs lie; a relative one counts from `project`.
    `facts`: of the host, shown beside the metrics; `chaoslab.run.host.run_facts(project)` gathers them.
    `command`: runs the same again, once a seed is added to it; shown in the report.
    `allow_exec`: commands of a spec that is not the project's own may run.
    `signals`: SIGINT, SIGTERM and SIGHUP end the run in good order; only where it runs in the main thread.
    `attended`: manual steps wait for people, who are asked on the terminal, if there is one; its end does not end the run.
    `end_early`: a run that expects to fail ends once the objectives named under `expect` have failed for good.
    """

    project: Path
    runtime: str = "embedded"
    keep: bool = False
    seed: int | None = None
    root: Path = ROOT
    facts: dict[str, Any] | None = None
    command: str = ""
    allow_exec: bool = False
    signals: bool = False
    attended: bool = False
    end_early: bool = False


@dataclass(frozen=True)
class RunOutcome:
    """What came of a run. `folder` holds all of it; `exit_code` is what a process that ran it should exit with."""

    folder: RunFolder
    result: Result
    exit_code: ExitCode

    @classmethod
    def of(cls, folder: RunFolder, result: Result, received: Sequence[int] = ()) -> RunOutcome:
        """`received`: the signals that came meanwhile."""
        code = exit_code_of(result)
        late = received and code is not ExitCode.UNCLEAN  # one that came too late to change anything in the run
        return cls(folder, result, ExitCode.INTERRUPTED if late else code)

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run or came while it was reported; no further run should begin then."""
        return self.result.interrupted or self.exit_code is ExitCode.INTERRUPTED


def run_once(loaded: Loaded, options: Options, view: View | None = None) -> RunOutcome:
    """Run an experiment and leave a complete run folder. `view` shows it; without one nothing is shown.

    Raises ChaoslabError before anything was started: SpecError for an unknown runtime, a fault that it cannot do, commands that
    need permission, or while new runs are blocked; EnvironmentFault when the runtime or the run folder cannot be had. After
    that only EnvironmentFault, when the disk is full; what was started is undone all the same.
    """
    view = view or JsonView()
    runtime = checked_runtime(loaded, options)
    secrets = secrets_of(loaded, os.environ)
    folder = new_folder(loaded, options, secrets)
    received: list[int] = []
    with contextlib.ExitStack() as until_reported:
        with stack_in_the_end_undone(loaded, runtime, folder, secrets, options) as made:
            engine = Engine(made.session, plan_of(loaded, options, folder, secrets, made.run_id))
            if options.signals:
                until_reported.enter_context(signals_to(engine.stop, view, received, outlives_terminal=options.attended))
            if options.attended:
                until_reported.enter_context(asking_people(folder, options.project, view))
            finished = listen(engine.events(), view, secrets)
            if not options.keep:
                reaper.release(made.watcher)  # it looks while we judge
            if finished.unrecorded is not None:
                raise EnvironmentFault(finished.unrecorded)
            from chaoslab.run.finalize import finalize_run

            finalized = finalize_run(folder)  # from here on nothing is known but what is stored, and that holds no secrets
        if made.left:
            note_left(folder, secrets, made.left)
            finalized = finalize_run(folder)
        return RunOutcome.of(folder, finalized.publish(folder), received)  # not before it is known whether all is cleaned up


def checked_runtime(loaded: Loaded, options: Options) -> Runtime:
    """The runtime of `options`, where the experiment may and can run on it. Raises SpecError as `run_once` does."""
    require_permission(loaded, options.project, allowed=options.allow_exec)
    runtime = runtimes.get(options.runtime)
    runtimes.require_possible(loaded, runtime)
    active_runs.require_open()
    return runtime


def new_folder(loaded: Loaded, options: Options, secrets: Secrets) -> RunFolder:
    """The folder of a run that begins now, with its experiment. Raises EnvironmentFault when it cannot be had."""
    folder = RunFolder.create((options.project / options.root).resolve(), loaded.experiment.name)
    write_whole(folder.experiment, dump_resolved(loaded, secrets).encode())
    return folder


def note_left(folder: RunFolder, secrets: Secrets, left: Sequence[str]) -> None:
    """Add to a history what was left behind, in words, when the rest of it had been written."""
    with HistoryWriter(folder.history, secrets) as history:
        history.append(PhaseRow(t_ns=SYSTEM.now_ns(), phase="down", event="end", detail={"left": [*left]}))


@dataclass(frozen=True)
class MadeStack:
    """A stack that is registered, journaled and watched by a reaper; the session boots it.

    `left`: what could not be undone in the end, in words. `logs`: those of trials, beside the stack's own.
    """

    run_id: str
    session: StackSession
    watcher: subprocess.Popen[bytes]
    left: list[str]
    logs: list[Path]


@contextlib.contextmanager
def stack_in_the_end_undone(
    loaded: Loaded,
    runtime: Runtime,
    home: RunFolder,
    secrets: Secrets,
    options: Options,
    relayed: Collection[str] = (),
    cut: Collection[str] = (),
) -> Iterator[MadeStack]:
    """Make a stack, not up yet. `home` takes its undo journal and its logs. `relayed`: services to relay within their site;
    `cut`: replicas whose volumes can be cut; each beside those that the experiment needs.

    At the end of the block the reaper undoes whatever is not undone; after an error in the block the stack is never kept.
    """
    run_id = token_hex(4)
    data = data_folder(run_id)
    journal = UndoJournal(undo_journal(home.path))
    more_logs: list[Path] = []
    with _undone_in_the_end(journal, run_id, secrets, options, more_logs) as (watcher, left):
        cut = {*cut, *cut_replicas(loaded.experiment.faults, loaded.compose.topology())}
        unmount = [Unmount(str(data))] if cut else []
        for step in (RemoveFolder(str(data)), *unmount, *runtime.undo_steps(run_id)):
            journal.plan(step)
        data.mkdir(mode=0o700)
        stack = runtime.make(loaded.compose, run_id, data, home.logs)
        if isinstance(stack, CanBlockWithinSite):
            stack.relay_within_site({*relayed, *relayed_services(loaded.experiment.faults)})
        if isinstance(stack, CanTellAsks) and watches_starts(loaded.experiment, loaded.compose.spec):
            stack.watch_asks()
        if isinstance(stack, CanCutDisks):
            stack.ready_to_cut(cut)
        yield MadeStack(run_id, StackSession(stack, journal, keep=options.keep), watcher, left, more_logs)


@contextlib.contextmanager
def _undone_in_the_end(
    journal: UndoJournal, run_id: str, secrets: Secrets, options: Options, more_logs: Sequence[Path]
) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """Start the reaper and register the run; at the end of the block the reaper looks once more and ends.

    Yields the reaper and a list, which holds what could not be undone once the block is over. After an error in the block the
    stack is never kept.
    The run is registered before anything goes into its journal: a heal by hand would undo what no living run owns.
    """
    left: list[str] = []
    watcher = reaper.start(journal.path, run_id, secrets)
    try:
        place = active_runs.enter(run_id, journal.path)
    except BaseException:
        _dismiss(watcher, journal, run_id, secrets, options.project, more_logs)
        raise
    kept = False
    try:
        yield watcher, left
        kept = options.keep
    finally:
        if kept:  # then the reaper must not look
            watcher.kill()
            watcher.wait()
        else:
            left += _dismiss(watcher, journal, run_id, secrets, options.project, more_logs)
        place.leave(done=not left and not kept)


def _dismiss(
    watcher: subprocess.Popen[bytes],
    journal: UndoJournal,
    run_id: str,
    secrets: Secrets,
    project: Path,
    more_logs: Sequence[Path],
) -> Sequence[str]:
    """Let the reaper look and end. What it did not undo in time is undone here. Returns what is left, in words."""
    if reaper.dismiss(watcher) == 0:
        return []
    left = reaper.look(journal.path, run_id, secrets, on_progress=lambda _: None, more_logs=more_logs)
    run = os.path.relpath(journal.path.parent, project)
    return [*left, f"see {journal.path}; when the cause is fixed, run: chaoslab heal {run}"] if left else []


def plan_of(
    loaded: Loaded,
    options: Options,
    folder: RunFolder,
    secrets: Secrets,
    run_id: str,
    *,
    last: bool = True,
    more_facts: Mapping[str, Any] | None = None,
) -> TrialPlan:
    """What one trial does, on the stack of `run_id`; its seed is drawn here, where the options name none."""
    seed = randbits(32) if options.seed is None else options.seed
    command = f"{options.command} --seed {seed}" if options.command else ""
    facts = {**(options.facts or {}), **(more_facts or {}), "seed": seed, "command": command, "run_id": run_id}
    if options.attended:
        facts["attended"] = True
    if secrets.told:
        facts["redacted"] = secrets.summary()
    return TrialPlan(
        loaded,
        folder,
        options.runtime,
        seed,
        facts,
        secrets,
        {RUN_VARIABLE: run_id},
        last=last,
        attended=options.attended,
        ends_early=options.end_early,
    )


def listen(events: Iterator[Event], view: View, secrets: Secrets) -> Finished:
    """Show what a trial does, to its end."""
    tracker, look = StatusTracker(), Deadline.after(0.0)
    for event in events:
        match event:
            case Finished():
                return event
            case Tick():
                if look.passed:
                    view.tick(tracker.status())
                    look = Deadline.after(_LOOK_EVERY_S)
            case Progress(text):
                view.message(secrets.text(text))
            case row:
                tracker.row(row)
                view.row(row)
    raise ChaoslabError("the engine ended without a final event")


@contextlib.contextmanager
def signals_to(
    stop: Callable[[str], None], view: View, received: list[int], *, outlives_terminal: bool = False
) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the run in good order; a second one changes nothing, since healing goes on anyway.

    `outlives_terminal`: SIGHUP, which a terminal sends when it is closed, only detaches the run from it.
    `received` fills up with those that came and end the run. In another thread than the main one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _frame: object) -> None:
        if number == signal.SIGHUP and outlives_terminal:
            let_go_of_terminal()
            return
        received.append(number)
        again = "still " if len(received) > 1 else ""
        view.message(f"{signal.Signals(number).name}: {again}healing and cleaning up; this takes a few seconds")
        stop(f"ended by {signal.Signals(number).name}")

    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup, or `run &` in a script
    before = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
