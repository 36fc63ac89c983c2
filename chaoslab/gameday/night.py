"""A game day from its suite to its pages: one run after the other, each in a process of its own, with a journal.

    runs/gameday/<suite>/<UTC start>/   night.jsonl, runs/, logs/, and the pages
    runs/gameday/<suite>/latest         a link to the newest

A game day that a signal, a kill or a full disk cut off is continued by the same command within 12 hours; later, or with
`--new`, it is abandoned, and its page says so. A game day whose budget is used up is over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

import chaoslab
from chaoslab.cleanup import active_runs
from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline, utc_now
from chaoslab.errors import ChaoslabError, ExitCode, exit_code_of
from chaoslab.files import log_tail
from chaoslab.gameday import pages
from chaoslab.gameday.durations import measured_s
from chaoslab.gameday.journal import (
    Begun,
    Closed,
    Ended,
    Journal,
    NotRun,
    Opened,
    Planned,
    State,
    has_rows,
    read_journal,
    state_of,
)
from chaoslab.gameday.plan import WHOLE, Shard, divide, expected_s
from chaoslab.gameday.suite import Suite
from chaoslab.gameday.tally import NIGHTS_SHOWN, Night, Run, case_of, tally
from chaoslab.history.folder import LATEST, RunFolder
from chaoslab.history.result import Result
from chaoslab.history.writer import write_errors
from chaoslab.process import marked, spawn
from chaoslab.spec.load import dump_resolved
from chaoslab.spec.resolved import load_resolved, spec_sha256
from chaoslab.spec.secrets import secrets_of

FOLDER = "gameday"
NIGHT_VARIABLE = "CHAOSLAB_NIGHT"  # in the environment of every process of its runs: the folder of the game day
RUNS, LOGS, RESERVE = "runs", "logs", ".reserve"
_RESERVE_BYTES = 4 << 20  # freed before the pages are written, so that they fit on a full disk
RESUMED_WITHIN = timedelta(hours=12)  # one night; an older game day says little about today's stack
_GRACE_S = 180.0  # for a run that was asked to end, to heal, take its stack down and report
_LOOK_EVERY_S = 0.2
PROGRAM = (sys.executable, "-m", "chaoslab")
OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class NightFolder:
    """The folder of one game day."""

    path: Path

    @property
    def runs(self) -> Path:
        return self.path / RUNS

    @classmethod
    def of(cls, suite: str, root: Path) -> NightFolder | None:
        """The newest of a suite; None when there is none."""
        latest = root / FOLDER / suite / LATEST
        return cls(latest.resolve()) if latest.exists() else None

    @classmethod
    def create(cls, suite: str, root: Path) -> NightFolder:
        """Raises EnvironmentFault when it cannot be made."""
        folder = cls(RunFolder.create(root / FOLDER, suite).path.resolve())  # `runs` may be a link to another disk
        folder.prepare()
        return folder

    def prepare(self) -> None:
        """Create what a game day needs to begin or continue: above all, reserve space for its pages until `finish`.

        Raises EnvironmentFault if there is no space.
        """
        with write_errors(self.path):
            self.runs.mkdir(mode=0o700, exist_ok=True)
            (self.path / RESERVE).write_bytes(bytes(_RESERVE_BYTES))

    def earlier(self) -> Iterator[NightFolder]:
        """The game days of the same suite that began before this one, the oldest first."""
        for path in sorted(self.path.parent.iterdir()):
            if path.is_dir() and not path.is_symlink() and path.name < self.path.name:
                yield NightFolder(path)


def plan_of(suite: Suite, root: Path, shard: Shard = WHOLE, *, use_binds: bool = False) -> Opened:
    """The plan of a whole game day, and which shard this machine is. Repeats of one experiment may be on several shards.

    All machines must divide the suite in the same way. So with several shards, only the suite's file of durations and the
    scripted lengths count, not the measurements of this machine.
    """
    seconds = {
        name: expected_s(measured_s(name, root) if shard.total == 1 else [], suite.seconds[name]) for name in suite.experiments
    }
    shares = divide([case.id for case in suite.cases], {case.id: seconds[case.experiment] for case in suite.cases}, shard.total)
    shard_of = {id_: number for number, share in enumerate(shares, 1) for id_ in share}
    hashes = {
        name: spec_sha256(dump_resolved(loaded, secrets_of(loaded, os.environ)).encode())
        for name, loaded in suite.experiments.items()
    }
    plan = [
        Planned(
            id=case.id,
            experiment=case.experiment,
            title=suite.experiments[case.experiment].experiment.title,
            repeat=case.repeat,
            expected_s=round(seconds[case.experiment], 1),
            shard=shard_of[case.id],
            spec_sha256=hashes[case.experiment],
        )
        for case in suite.cases
    ]
    return Opened(
        suite=suite.name,
        title=suite.spec.title,
        purpose=suite.purpose,
        runtime=suite.spec.runtime,
        started_at=_now(),
        chaoslab=chaoslab.__version__,
        plan=plan,
        shard=shard,
        budget_s=suite.spec.budget,
        limit_s=suite.spec.limit,
        after_fail=suite.spec.after_fail,
        use_binds=use_binds,
    )


def open_night(opened: Opened, root: Path, *, new: bool = False) -> tuple[NightFolder, bool]:
    """The folder to use, and whether it is that of a game day that was interrupted.

    The latest game day is resumed if it has the same plan, rules and shard, and was active in the last 12 hours. `new`: never
    resume. One that was interrupted and is not resumed gets its page; one that was killed before it had a plan gets this plan.
    Raises EnvironmentFault when the disk is full.
    """
    latest = NightFolder.of(opened.suite, root)
    state: State | None = None
    if latest is not None:
        with contextlib.suppress(ChaoslabError):
            state = state_of(read_journal(latest.path))
    if latest is not None and state is not None and not state.closed:
        recent = utc_now() - datetime.fromisoformat(state.last_at) < RESUMED_WITHIN
        if recent and not new and _identity(state.opened) == _identity(opened):
            latest.prepare()
            return latest, True
        finish(latest, [f"it was interrupted at {state.last_at} and not resumed"])
    if latest is not None and not has_rows(latest.path):
        folder = latest
        folder.prepare()
    else:
        folder = NightFolder.create(opened.suite, root)
    Journal(folder.path).append(opened)
    return folder, False


def _identity(opened: Opened) -> tuple[Any, ...]:
    """What makes two plans one game day; titles and expected durations may differ."""
    cases = [(case.id, case.spec_sha256, case.shard) for case in opened.plan]
    return cases, rules_of(opened), opened.shard, opened.chaoslab


def rules_of(opened: Opened) -> tuple[Any, ...]:
    """How a game day is run, by its suite and its command line."""
    return opened.runtime, opened.budget_s, opened.limit_s, opened.after_fail, opened.use_binds


class Player:
    """Runs the rest of a game day. `stop` may be called by a signal handler: the current run heals and ends."""

    def __init__(
        self,
        folder: NightFolder,
        suite: Suite,
        project: Path,
        on_progress: OnProgress,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._folder, self._suite, self._project = folder, suite, project
        self._on_progress, self._clock = on_progress, clock
        self._journal = Journal(folder.path)
        self._child: subprocess.Popen[bytes] | None = None
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGINT)

    def play(self) -> None:
        """Run every case that has not ended. Raises EnvironmentFault when the journal cannot be written."""
        rows = read_journal(self._folder.path)
        state, begun = state_of(rows), {row.case for row in rows if isinstance(row, Begun)}
        opened, began_ns, before_s = state.opened, self._clock.now_ns(), state.elapsed_s
        number = len(opened.mine) - len(state.remaining)
        failed = any(self._failed(case, state.ended[case.id]) for case in opened.mine if case.id in state.ended)
        for case in state.remaining:
            elapsed_s = before_s + (self._clock.now_ns() - began_ns) / NS_PER_S
            number += 1
            if self.stopped:
                return
            why = ""
            if failed and opened.after_fail == "stop":
                why = "an earlier experiment failed, and the suite has after_fail: stop"
            elif opened.budget_s is not None and elapsed_s + case.expected_s > opened.budget_s:
                left = f"{max(0.0, opened.budget_s - elapsed_s):.0f} s of the budget of {opened.budget_s:.0f} s were left"
                why = f"it takes about {case.expected_s:.0f} s, and {left}"
            if why:
                self._journal.append(NotRun(case=case.id, why=why))
                self._on_progress(f"[{number}/{len(opened.mine)}] {case.id}: not run: {why}")
                continue
            self._wait_for_others(opened.limit_s, begun_before=case.id in begun)
            ended = self._adopted(case, elapsed_s) if case.id in begun else None
            ended = ended or self._run(case, opened, elapsed_s, f"[{number}/{len(opened.mine)}]")
            if ended is None:
                return
            self._journal.append(ended)
            failed = failed or self._failed(case, ended)

    def _failed(self, case: Planned, ended: Ended) -> bool:
        return case_of(case, _read_run(self._folder, case, ended)).status in ("not as expected", "broken")

    def _wait_for_others(self, limit_s: float, *, begun_before: bool) -> None:
        """Wait for runs that would share the processors: other users' runs, and a run that outlived its killed game day.

        `begun_before`: such a run may exist, perhaps not registered yet, or with its reaper still running.
        """

        def found() -> bool:
            outlived = begun_before and marked(NIGHT_VARIABLE, str(self._folder.path))
            return bool(outlived) or any(alive for _, alive in active_runs.entries())

        deadline, asked = Deadline.after(limit_s, self._clock), False
        while found() and not deadline.passed and not self.stopped:
            if not asked:
                self._on_progress("another run is active on this machine; waiting for its end")
            asked = True
            self._clock.sleep(_LOOK_EVERY_S)

    def _adopted(self, case: Planned, elapsed_s: float) -> Ended | None:
        """The result of a run that finished after the game day was killed: it is not repeated."""
        known = {row.folder for row in read_journal(self._folder.path) if isinstance(row, Ended)}
        for folder in sorted((self._folder.runs / case.experiment).glob("2*")):
            place = str(folder.relative_to(self._folder.path))
            if place in known:
                continue
            with contextlib.suppress(ChaoslabError):
                result = RunFolder(folder).read_result()
                if not result.interrupted and _is_of(RunFolder(folder), result, case):
                    self._on_progress(
                        f"{case.id}: its run ended by itself while the game day was interrupted: {result.verdict}"
                    )
                    code = int(exit_code_of(result))
                    seconds = result.duration_s
                    return Ended(case=case.id, at=_now(), elapsed_s=elapsed_s, seconds=seconds, exit_code=code, folder=place)
        return None

    def _run(self, case: Planned, opened: Opened, elapsed_s: float, label: str) -> Ended | None:
        """One run, to its end, its limit or an interruption (then None: it will be repeated)."""
        self._journal.append(Begun(case=case.id, at=_now(), elapsed_s=elapsed_s))
        self._on_progress(f"{label} {case.id}: running, about {case.expected_s:.0f} s")
        before = self._newest(case.experiment)
        file = self._suite.experiments[case.experiment].file
        command = [*PROGRAM, "run", str(file), "--runtime", opened.runtime, "--into", str(self._folder.runs)]
        command += ["--end-early"]  # a known-bad run has failed as expected
        command += ["--use-binds"] if opened.use_binds else []
        log = self._folder.path / LOGS / f"{case.id}.log"
        began_ns = self._clock.now_ns()
        env = {**os.environ, NIGHT_VARIABLE: str(self._folder.path)}
        self._child = spawn(command, log=log, cwd=self._project, env=env)
        why = self._wait(self._child, opened.limit_s)
        code, self._child = self._child.returncode, None
        seconds = (self._clock.now_ns() - began_ns) / NS_PER_S
        newest = self._newest(case.experiment)
        folder = "" if newest is None or newest == before else str(newest.relative_to(self._folder.path))
        errors = [line for line in log_tail(log, 20) if line.startswith("chaoslab: ")]
        if not folder and not why and errors:
            why = f"it left no run folder: {errors[-1].removeprefix('chaoslab: ')}"
        if self.stopped:
            self._on_progress(f"{label} {case.id}: interrupted after {seconds:.0f} s; the same command resumes it")
            return None
        known = {int(known): known.name.lower() for known in ExitCode}
        how = why or known.get(code) or (f"killed by signal {-code}" if code < 0 else f"exit code {code}")
        self._on_progress(f"{label} {case.id}: {how}, {seconds:.0f} s")
        return Ended(
            case=case.id, at=_now(), elapsed_s=elapsed_s + seconds, seconds=seconds, exit_code=code, folder=folder, why=why
        )

    def _wait(self, child: subprocess.Popen[bytes], limit_s: float) -> str:
        """Wait until it has ended. Returns why it was ended early, if it was."""
        limit = Deadline.after(limit_s, self._clock)
        kill: Deadline | None = None
        why = ""
        while child.poll() is None:
            if kill is None and (limit.passed or self.stopped):
                why = "" if self.stopped else f"ended: it took longer than its limit of {limit_s:.0f} s"
                child.send_signal(signal.SIGINT)
                kill = Deadline.after(_GRACE_S, self._clock)
            elif kill is not None and kill.passed:
                child.kill()  # its reaper heals and cleans up
                why = why or f"killed: it did not end within {_GRACE_S:.0f} s of being asked to"
            self._clock.sleep(_LOOK_EVERY_S)
        return why

    def _newest(self, experiment: str) -> Path | None:
        latest = self._folder.runs / experiment / LATEST
        return latest.resolve() if latest.exists() else None


def _now() -> str:
    return utc_now().isoformat(timespec="seconds")


def runs_of(folder: NightFolder, state: State) -> dict[str, Run]:
    """The results of the runs of a game day, by the id of their case."""
    runs: dict[str, Run] = {}
    folders = Counter(ended.folder for ended in state.ended.values())
    for planned in state.opened.plan:
        ended = state.ended.get(planned.id)
        if ended is None:
            runs[planned.id] = Run(state.not_run.get(planned.id))
            continue
        if ended.folder and folders[ended.folder] > 1:
            runs[planned.id] = Run(msgspec.structs.replace(ended, why="its run folder also belongs to another case"))
            continue
        runs[planned.id] = _read_run(folder, planned, ended)
    return runs


def _read_run(folder: NightFolder, planned: Planned, ended: Ended) -> Run:
    if not ended.folder:
        return Run(ended)
    run = RunFolder(folder.path / ended.folder)
    try:
        result: Result = run.read_result()
        experiment, _ = load_resolved(run.experiment)
    except ChaoslabError:
        return Run(ended)
    if not _is_of(run, result, planned):
        return Run(msgspec.structs.replace(ended, why="its folder holds a run of a different spec than planned"))
    return Run(ended, result, experiment)


def _is_of(run: RunFolder, result: Result, planned: Planned) -> bool:
    """Whether this is a run of the experiment that was planned, which may have been edited since, or be a different one."""
    try:
        return planned.spec_sha256 == result.spec_sha256 == spec_sha256(run.experiment.read_bytes())
    except OSError:
        return False


def finish(folder: NightFolder, problems: Sequence[str] = (), *, interrupted: bool = False) -> Night:
    """Write the pages of a game day from the content of its folder. Raises EnvironmentFault if that is not possible.

    It may be called repeatedly: the same folder gives the same pages. A game day with nothing left to run is closed only after
    its pages are written, so that one that is killed before that is still resumed.
    """
    (folder.path / RESERVE).unlink(missing_ok=True)
    state = state_of(read_journal(folder.path))
    night = publish(folder, state.opened, runs_of(folder, state), problems, interrupted=interrupted)
    if not state.remaining and not state.closed:
        Journal(folder.path).append(Closed(at=_now(), elapsed_s=state.elapsed_s))
    return night


def publish(
    folder: NightFolder, opened: Opened, runs: Mapping[str, Run], problems: Sequence[str], *, interrupted: bool = False
) -> Night:
    """Compare these runs with the earlier game days, and write the pages."""
    stored = map(pages.read_night, (one.path for one in folder.earlier()))
    before = [night for night in stored if night is not None and night.shard == opened.shard]  # of the same shard
    before = before[-NIGHTS_SHOWN:]
    night = tally(opened, runs, before, problems, interrupted=interrupted)
    pages.write(pages.render(night, before), folder.path)
    return night
