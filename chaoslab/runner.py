"""One run from a loaded spec to its verdict: makes folder, stack and reaper, listens to the engine, writes the result.

What a run needs at its end alone, or not at all, is imported where it is used: nobody should wait for it before the boot.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import randbits, token_hex
from typing import TYPE_CHECKING, Any

from chaoslab import reaper, registry
from chaoslab.clock import SYSTEM, Deadline
from chaoslab.engine import Engine, Finished, Job, Said, Tick
from chaoslab.errors import ChaoslabError, EnvironmentFault, ExitCode
from chaoslab.events import PhaseRow
from chaoslab.faults.abilities import refuse_impossible, relayed_services
from chaoslab.masking import Secrets
from chaoslab.report.status import StatusTracker
from chaoslab.report.view import View
from chaoslab.report.words import exit_code_of
from chaoslab.result import Result
from chaoslab.spec.load import Loaded, dump_resolved
from chaoslab.spec.secrets import secrets_of
from chaoslab.stack.embedded import RUN, EmbeddedStack
from chaoslab.stack.protocol import CanBarNeighbours, Stack
from chaoslab.store import ROOT, HistoryWriter, RunFolder, write_whole
from chaoslab.trust import require_permission
from chaoslab.undo import AnyStep, EndProcesses, RemoveFolder, RunCommand, UndoJournal, undo_journal

if TYPE_CHECKING:
    from chaoslab.conclusion import Drafted
    from chaoslab.stack.compose import ComposeStack

_SWEEP_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.1  # the engine ticks more often than anybody can read
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """How to run. `seed` None draws one; it is in the result. `command` runs the same again, once a seed is added to it.

    `allow_exec`: commands of a spec that is not the project's own may run.
    """

    runtime: str = "embedded"
    keep: bool = False
    seed: int | None = None
    root: Path = ROOT
    facts: dict[str, Any] | None = None
    command: str = ""
    allow_exec: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    folder: RunFolder
    result: Result
    exit_code: ExitCode


def run_once(loaded: Loaded, options: Options, view: View) -> Outcome:
    """Run an experiment and leave a complete run folder. Raises ChaoslabError only before anything was started."""
    require_permission(loaded, Path.cwd(), allowed=options.allow_exec)
    require_possible(loaded, options.runtime)
    registry.require_open()
    run_id = token_hex(4)
    secrets = secrets_of(loaded, os.environ)
    folder = RunFolder.create(options.root.resolve(), loaded.experiment.name)
    write_whole(folder.experiment, dump_resolved(loaded, secrets).encode())
    data = Path(tempfile.gettempdir()) / f"chaoslab-{run_id}"
    journal = UndoJournal(undo_journal(folder.path))
    with contextlib.ExitStack() as caught:  # signals, from the engine's begin until the report is written
        with _undone_in_the_end(journal, run_id, secrets, options.keep) as (watcher, left):
            for step in (RemoveFolder(str(data)), *_undo_of_runtime(options, run_id)):
                journal.plan(step)
            data.mkdir(mode=0o700)
            finished, signals = _run(loaded, options, view, secrets, run_id, folder, journal, data, caught)
            if not options.keep:
                reaper.release(watcher)  # it looks while we judge
            if finished.unrecorded is not None:
                raise EnvironmentFault(finished.unrecorded)
            drafted = _draft(folder)
        if left:
            _tell_history(folder, secrets, left)
            drafted = _draft(folder)
        result = drafted.publish(folder)  # not before it is known whether everything is cleaned up
        code = exit_code_of(result)
        late = signals and code is not ExitCode.UNCLEAN  # one that came too late to change anything in the run
        return Outcome(folder, result, ExitCode.INTERRUPTED if late else code)


@contextlib.contextmanager
def _undone_in_the_end(
    journal: UndoJournal, run_id: str, secrets: Secrets, keep: bool
) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """First the reaper is there, then the run is known; in the end the reaper looks once more and goes.

    Given are the reaper and a list: what could not be undone is in it when the block is over. An error in the block is never
    a reason to keep anything.
    Nothing goes into the journal before the run is known to be alive: whoever heals by hand would undo it at once.
    """
    left: list[str] = []
    watcher = reaper.start(journal.path, run_id, secrets)
    try:
        place = registry.enter(run_id, journal.path)
    except BaseException:
        _dismiss(watcher, journal, run_id, secrets, keep=False)
        raise
    kept = False
    try:
        yield watcher, left
        kept = keep
    finally:
        left += _dismiss(watcher, journal, run_id, secrets, kept)
        place.leave(done=not left and not kept)


def _run(
    loaded: Loaded,
    options: Options,
    view: View,
    secrets: Secrets,
    run_id: str,
    folder: RunFolder,
    journal: UndoJournal,
    data: Path,
    caught: contextlib.ExitStack,
) -> tuple[Finished, Sequence[int]]:
    """What came of it, and the signals that came meanwhile; until all that is `caught` is let go, more may come."""
    seed = randbits(32) if options.seed is None else options.seed
    stack = _make_stack(loaded, options, run_id, data, folder)
    if isinstance(stack, CanBarNeighbours):
        stack.relay_neighbours(relayed_services(loaded.experiment.timeline))
    facts = {**(options.facts or {}), "seed": seed, "command": _again(options.command, seed), "run_id": run_id}
    job = Job(loaded, stack, folder, journal, options.runtime, options.keep, seed, facts, secrets, {RUN: run_id})
    threading.Thread(target=_warm_up).start()  # no daemon: at exit, one inside a C++ library would abort the process
    engine = Engine(job)
    signals = caught.enter_context(_signals_to(engine.stop, view))
    return _listen(engine, view, secrets), signals


def _make_stack(loaded: Loaded, options: Options, run_id: str, data: Path, folder: RunFolder) -> Stack:
    if options.runtime == "compose":
        from chaoslab.stack.compose import ComposeStack

        return ComposeStack(loaded.compose, run_id, data, folder.logs)
    return EmbeddedStack(loaded.compose, run_id, data, folder.logs)


def require_possible(loaded: Loaded, runtime: str) -> None:
    """Raises SpecError when the timeline has a fault that this runtime cannot do."""
    refuse_impossible(loaded.experiment.timeline, loaded.compose.topology(), _kind_of(runtime), runtime)


def _kind_of(runtime: str) -> type[EmbeddedStack] | type[ComposeStack]:
    if runtime == "compose":
        from chaoslab.stack.compose import ComposeStack

        return ComposeStack
    return EmbeddedStack


def _undo_of_runtime(options: Options, run_id: str) -> list[AnyStep]:
    """Undone from the last to the first: nobody must be left who could still start a container when those are removed."""
    steps: list[AnyStep] = []
    if options.runtime == "compose":
        from chaoslab.stack import docker_sweep

        sweep = docker_sweep.command(run_id)
        steps.append(RunCommand(sweep, tempfile.gettempdir(), _SWEEP_TIMEOUT_S))
    return [*steps, EndProcesses(RUN, run_id)]


def pick_runtime(wanted: str, loaded: Loaded) -> tuple[str, str]:
    """The runtime for a run and, in words, why: `auto` takes Compose where an engine answers and has or can have the images.

    Raises EnvironmentFault when Compose is asked for and does not answer, SpecError when it does not take the stack.
    """
    if wanted == "embedded":
        return wanted, "asked for"
    from chaoslab.stack import docker_ready

    files, replicas = loaded.compose.files, loaded.compose.topology().replicas
    if wanted == "compose":
        docker_ready.require(files, replicas)
        return wanted, "asked for"
    found = docker_ready.readiness(files, replicas)
    return ("compose" if found.ready else "embedded"), found.why


def _again(command: str, seed: int) -> str:
    return f"{command} --seed {seed}" if command else ""


def _listen(engine: Engine, view: View, secrets: Secrets) -> Finished:
    tracker, look = StatusTracker(), Deadline.after(0.0)
    for event in engine.events():
        match event:
            case Finished():
                return event
            case Tick():
                if look.passed:
                    view.tick(tracker.status())
                    look = Deadline.after(_LOOK_EVERY_S)
            case Said(text):
                view.tell(secrets.text(text))
            case row:
                tracker.row(row)
                view.row(row)
    raise ChaoslabError("the engine ended without saying so")


@contextlib.contextmanager
def _signals_to(stop: Callable[[str], None], view: View) -> Iterator[Sequence[int]]:
    """Ctrl-C, SIGTERM and SIGHUP end the run in good order; a second one changes nothing, since healing goes on anyway.

    What is given fills up with those that came.
    """
    received: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        received.append(number)
        again = "still " if len(received) > 1 else ""
        view.tell(f"{signal.Signals(number).name}: {again}healing and cleaning up; this takes a few seconds")
        stop(f"ended by {signal.Signals(number).name}")

    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup, or `run &` in a script
    before = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _dismiss(
    watcher: subprocess.Popen[bytes], journal: UndoJournal, run_id: str, secrets: Secrets, keep: bool
) -> Sequence[str]:
    """The reaper looks once more and goes; with `keep` it must not look. What it did not do, or not in time, is tried here."""
    if keep:
        watcher.kill()
        watcher.wait()
        return []
    if reaper.dismiss(watcher) == 0:
        return []
    left = reaper.look(journal.path, run_id, secrets, tell=lambda _: None)
    run = os.path.relpath(journal.path.parent)
    return [*left, f"see {journal.path}; once the cause is gone: chaoslab heal {run}"] if left else []


def _warm_up() -> None:
    from chaoslab import conclusion

    conclusion.warm_up()


def _draft(folder: RunFolder) -> Drafted:
    """From here on nothing is known but what is stored, and that holds no secrets."""
    from chaoslab.conclusion import draft

    return draft(folder)


def _tell_history(folder: RunFolder, secrets: Secrets, left: Sequence[str]) -> None:
    with HistoryWriter(folder.history, secrets) as history:
        history.append(PhaseRow(t_ns=SYSTEM.now_ns(), phase="down", event="end", detail={"left": [*left]}))
