"""A fuzzer for the loader: whatever the files and overrides, a load ends soon, small, and well or with SpecErrors.

    python tests/spec/fuzz_loader.py [--for 60s] [--seed N] [--inputs N] | --again FOLDER

Each input is loaded in a child process with a limit on its memory; one that does not answer in time is killed. What loads
has to read back equal from its resolved form; what is refused has to say so in words that fit on a few lines. Ctrl-C prints
the tally. The first input that breaks something is made as small as a few seconds allow and saved, and the command to run it
again is printed: exit status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_inputs import Project, made
from hostile import LONGEST_S, MESSAGE_MAX

from chaoslab.spec.load import dump_resolved, load_experiment
from chaoslab.spec.resolved import load_resolved
from chaoslab.spec.yaml.problems import SpecErrors
from chaoslab.units import parse_duration_s

HANG_S = 20.0  # of the wall's time: far more than LONGEST_S of processor time, so that a busy machine does not count
MEMORY_MAX = 1024**3  # bytes of address space: the interpreter with everything that a load imports takes a quarter of it
SMALLER_S = 20.0
SMALLER_TRIES_MAX = 400
SAVED = Path("build/fuzz")
FINE = ("loads", "refused")
_WORKERS = multiprocessing.get_context("spawn")
Load = Callable[[Path, dict[str, str]], str]


class Outcome(NamedTuple):
    """What became of one input: `loads`, `refused`, or what was wrong. `cpu_s`: what it cost."""

    kind: str
    cpu_s: float = 0.0
    detail: str = ""

    @property
    def fine(self) -> bool:
        return self.kind in FINE


# --- in the child -----------------------------------------------------------------------------------------------


def load_whole(main: Path, overrides: dict[str, str]) -> str:
    """Load, and hold the loader to what it promises."""
    try:
        loaded = load_experiment(main, overrides)
    except SpecErrors as refused:
        lines = [str(problem) for problem in refused.problems]
        assert lines, "refused without a word"
        odd = [line for line in lines if len(line) >= MESSAGE_MAX or not line.isprintable()]
        assert not odd, f"a message for no terminal: {odd[0][:200]!r}"
        return "refused"
    resolved = main.with_name("resolved.yaml")
    resolved.write_text(dump_resolved(loaded), encoding="utf-8")
    again = load_resolved(resolved)
    assert again == (loaded.experiment, loaded.compose.spec), "it reads back as something else"
    return "loads"


def _serve(pipe: Connection, load: Load, memory_max: int, workplace: str) -> None:
    """Load what comes, until nothing does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (memory_max, memory_max))
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(_outcome(load, pipe.recv(), workplace))


def _outcome(load: Load, project: Project, workplace: str) -> Outcome:
    with tempfile.TemporaryDirectory(dir=workplace) as folder:
        main = write(project, Path(folder))
        began_s = time.process_time()
        try:
            kind, detail = load(main, dict(project.overrides)), ""
        except MemoryError:
            kind, detail = "memory", f"more than {MEMORY_MAX // 1024**2} MiB"
        except BaseException as broken:
            kind, detail = f"traceback: {type(broken).__name__}", str(broken)[:500]
        cpu_s = time.process_time() - began_s
    return Outcome("slow", cpu_s, kind) if kind in FINE and cpu_s > LONGEST_S else Outcome(kind, cpu_s, detail)


def write(project: Project, folder: Path) -> Path:
    """The project as files; returns the experiment's."""
    for name, content in project.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / project.main


# --- outside ----------------------------------------------------------------------------------------------------


class Sandbox:
    """A child that loads; a new one after each that hung or died."""

    def __init__(self, load: Load = load_whole, *, hang_s: float = HANG_S, memory_max: int = MEMORY_MAX) -> None:
        self._load, self._hang_s, self._memory_max = load, hang_s, memory_max
        self._pipe: Connection | None = None
        self._workplace = tempfile.TemporaryDirectory(prefix="chaoslab-fuzz-")  # ours: who is killed cleans up nothing

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._workplace.cleanup()

    def load(self, project: Project) -> Outcome:
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        self._pipe.send(project)
        try:
            if self._pipe.poll(self._hang_s):
                found: Outcome = self._pipe.recv()
                return found
        except EOFError:
            self._end()
            return Outcome("died", detail=f"exit status {self._child.exitcode}")
        self._end()
        return Outcome("hang", self._hang_s, f"no answer within {self._hang_s:.0f} s")

    def _start(self) -> None:
        self._pipe, theirs = _WORKERS.Pipe()
        self._child = _WORKERS.Process(
            target=_serve, args=(theirs, self._load, self._memory_max, self._workplace.name), daemon=True
        )
        self._child.start()
        theirs.close()

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
            self._child.kill()
            self._child.join()


@dataclass
class Tally:
    """What was seen so far."""

    seed: int
    began_s: float = field(default_factory=time.monotonic)
    kinds: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    failed: tuple[int, Project, Outcome] | None = None

    def take(self, number: int, project: Project, outcome: Outcome) -> None:
        self.kinds[outcome.kind] += 1
        self.slowest = max(self.slowest, (outcome.cpu_s, number))
        if not outcome.fine:
            self.failed = (number, project, outcome)

    def __str__(self) -> str:
        took_s, inputs = time.monotonic() - self.began_s, self.kinds.total()
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        slowest_s, number = self.slowest
        return (
            f"{inputs} inputs in {took_s:.1f} s, {inputs / max(took_s, 1e-9):.1f} a second: {kinds or 'none'}; "
            f"the slowest, number {number}, took {slowest_s:.2f} s"
        )


def fuzz(tally: Tally, sandbox: Sandbox, *, for_s: float, inputs_max: int, make: Callable[[int, int], Project] = made) -> None:
    """Until the time or the inputs are over, or one of them breaks something."""
    for number in range(inputs_max):
        if tally.failed or time.monotonic() - tally.began_s > for_s:
            return
        project = make(tally.seed, number)
        tally.take(number, project, sandbox.load(project))


def smaller(project: Project, kind: str, sandbox: Sandbox, *, within_s: float = SMALLER_S) -> Project:
    """The least of it that still ends in the same way, as far as time allows."""
    until_s = time.monotonic() + within_s
    for _ in range(SMALLER_TRIES_MAX):
        for candidate in _less(project):
            if time.monotonic() > until_s:
                return project
            if sandbox.load(candidate).kind == kind:
                project = candidate
                break
        else:
            break
    return project


def _less(project: Project) -> Iterator[Project]:
    """Without an override, a file, or a half, quarter, … of one."""
    for key in project.overrides:
        yield replace(project, overrides={one: value for one, value in project.overrides.items() if one != key})
    for name in project.files:
        if name != project.main:
            yield replace(project, files={one: content for one, content in project.files.items() if one != name})
    for name, content in sorted(project.files.items(), key=lambda item: -len(item[1])):
        length = len(content) // 2
        while length:
            for begin in range(0, len(content), length):
                yield project.with_file(name, content[:begin] + content[begin + length :])
            length = length // 2 if length > 64 or len(content) <= 512 else 0


def save(project: Project, folder: Path) -> str:
    """Keep an input; returns the command that loads it again."""
    folder.mkdir(parents=True, exist_ok=True)
    write(project, folder)
    (folder / "input.json").write_text(json.dumps({"main": project.main, "overrides": dict(project.overrides)}))
    return f"{os.path.relpath(sys.executable)} {os.path.relpath(__file__)} --again {folder}"


def saved(folder: Path) -> Project:
    about = json.loads((folder / "input.json").read_text())
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del files["input.json"]
    return Project(files, about["main"], about["overrides"])


def report(tally: Tally, sandbox: Sandbox) -> int:
    """The tally; what broke, made small and saved."""
    print(tally, flush=True)
    if tally.failed is None:
        return 0
    number, project, outcome = tally.failed
    print(f"number {number} broke the loader: {outcome.kind}: {outcome.detail}", flush=True)
    least = smaller(project, outcome.kind, sandbox)
    command = save(least, SAVED / f"{tally.seed}-{number}")
    print(f"made smaller, {project.size} to {least.size} bytes; again: {command}")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for", dest="for_s", type=parse_duration_s, default=60.0, metavar="DURATION")
    parser.add_argument("--seed", type=int, default=None, help="makes the same inputs again")
    parser.add_argument("--inputs", type=int, default=sys.maxsize, help="at most so many")
    parser.add_argument("--again", type=Path, help="load one saved input, and show what it does")
    asked = parser.parse_args()
    if asked.again:
        outcome = _outcome(load_whole, saved(asked.again), tempfile.gettempdir())
        print(f"{outcome.kind} after {outcome.cpu_s:.2f} s {outcome.detail}")
        return 0 if outcome.fine else 1
    tally = Tally(secrets.randbits(32) if asked.seed is None else asked.seed)
    with Sandbox() as sandbox:
        with contextlib.suppress(KeyboardInterrupt):
            print(f"seed {tally.seed}", flush=True)
            fuzz(tally, sandbox, for_s=asked.for_s, inputs_max=asked.inputs)
        return report(tally, sandbox)


if __name__ == "__main__":
    sys.exit(main())
