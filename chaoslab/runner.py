"""One run from a loaded spec to its verdict: makes folder, stack and reaper, listens to the engine, writes the result."""

from __future__ import annotations

import contextlib
import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaoslab import reaper
from chaoslab.clock import SYSTEM
from chaoslab.engine import Engine, Finished, Job, Said, Tick
from chaoslab.errors import ChaoslabError, ExitCode
from chaoslab.events import PhaseRow
from chaoslab.judging import judge_stored
from chaoslab.report import html
from chaoslab.report.junit import render_junit
from chaoslab.report.status import StatusTracker
from chaoslab.report.view import View
from chaoslab.report.words import exit_code_of
from chaoslab.result import Result
from chaoslab.spec.load import Loaded, dump_resolved
from chaoslab.stack.embedded import RUN, EmbeddedStack
from chaoslab.stack.protocol import Stack
from chaoslab.store import ROOT, HistoryWriter, RunFolder, write_whole
from chaoslab.undo import EndProcesses, RemoveFolder, UndoJournal, undo_journal

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """How to run. `seed` None draws one; it is in the result."""

    runtime: str = "embedded"
    keep: bool = False
    seed: int | None = None
    root: Path = ROOT
    facts: dict[str, Any] | None = None
    command: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    folder: RunFolder
    result: Result
    exit_code: ExitCode


def run_once(loaded: Loaded, options: Options, view: View) -> Outcome:
    """Run an experiment and leave a complete run folder. Raises ChaoslabError only before anything was started."""
    seed = secrets.randbits(32) if options.seed is None else options.seed
    run_id = secrets.token_hex(4)
    folder = RunFolder.create(options.root.resolve(), loaded.experiment.name)
    write_whole(folder.experiment, dump_resolved(loaded).encode())
    journal = UndoJournal(undo_journal(folder.path))
    data = Path(tempfile.gettempdir()) / f"chaoslab-{run_id}"
    journal.plan(RemoveFolder(str(data)))
    journal.plan(EndProcesses(RUN, run_id))
    watcher = reaper.start(journal.path)
    data.mkdir(mode=0o700)
    stack: Stack = EmbeddedStack(loaded.compose, run_id, data, folder.logs)
    facts = {**(options.facts or {}), "seed": seed, "command": options.command, "run_id": run_id}
    job = Job(loaded, stack, folder, journal, options.runtime, options.keep, seed, facts)
    threading.Thread(target=html.warm_up, daemon=True).start()
    finished = _listen(Engine(job), view)
    left = [*finished.left_behind, *_dismiss(watcher, options.keep)]
    return _conclude(loaded, folder, left, finished.interrupted)


def _listen(engine: Engine, view: View) -> Finished:
    tracker = StatusTracker()
    with _signals_to(engine.stop, view):
        for event in engine.events():
            match event:
                case Finished():
                    return event
                case Tick():
                    view.tick(tracker.status())
                case Said(text):
                    view.tell(text)
                case row:
                    tracker.row(row)
                    view.row(row)
    raise ChaoslabError("the engine ended without saying so")


@contextlib.contextmanager
def _signals_to(stop: Callable[[str], None], view: View) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the run in good order; a second one changes nothing, since healing goes on anyway."""
    received: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        received.append(number)
        again = "still " if len(received) > 1 else ""
        view.tell(f"{signal.Signals(number).name}: {again}healing and cleaning up; this takes a few seconds")
        stop(f"ended by {signal.Signals(number).name}")

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _dismiss(watcher: Any, keep: bool) -> Sequence[str]:
    """The reaper looks once more and goes; with `keep` it must not look."""
    if keep:
        watcher.kill()
        watcher.wait()
        return []
    return [] if reaper.dismiss(watcher) == 0 else [f"see {watcher.args[-1]} and reaper.log beside it"]


def _conclude(loaded: Loaded, folder: RunFolder, left: Sequence[str], interrupted: bool) -> Outcome:
    if left:
        with HistoryWriter(folder.history) as history:
            history.append(PhaseRow(t_ns=SYSTEM.now_ns(), phase="down", event="end", detail={"left": [*left]}))
    result = judge_stored(folder)
    folder.write_result(result)
    page = html.render_html(result, loaded.experiment, loaded.compose.spec, folder.read_rows(), {})
    write_whole(folder.report, page.encode())
    write_whole(folder.junit, render_junit(result).encode())
    return Outcome(folder, result, ExitCode.INTERRUPTED if interrupted else exit_code_of(result))
