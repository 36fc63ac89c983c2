"""One folder per run, with everything that the run leaves behind.

    runs/<experiment>/<UTC start>/   experiment.yaml history.jsonl result.json report.html junit.xml logs/
    runs/<experiment>/latest         a link to the newest

Folders are private (0700): histories and logs may hold confidential data of the stack.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from chaoslab.clock import utc_now
from chaoslab.errors import ChaoslabError, SpecError
from chaoslab.history.result import SCHEMA, Result, result_json
from chaoslab.history.rows import AnyRow, read_history
from chaoslab.history.writer import write_errors, write_whole
from chaoslab.spec.yaml.problems import shown_path

ROOT = Path("runs")
LATEST = "latest"
_PRIVATE_FOLDER = 0o700


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, new or stored."""

    path: Path

    @classmethod
    def create(cls, root: Path, experiment: str, started: datetime | None = None) -> RunFolder:
        """Make the folder of a run that started at `started` (UTC; now when None) and point `latest` at it.

        Two runs of one second get folders of their own. Raises SpecError when `experiment` cannot name a folder,
        EnvironmentFault when the folder cannot be made.
        """
        if experiment in ("", ".", "..") or "/" in experiment or "\0" in experiment:
            raise SpecError(f"{experiment!r} cannot be the name of an experiment: it must be a valid folder name")
        stamp = (started or utc_now()).strftime("%Y-%m-%dT%H-%M-%SZ")
        parent = root / experiment
        with write_errors(parent):
            parent.mkdir(parents=True, exist_ok=True)
            path = parent / stamp
            for attempt in itertools.count(2):  # making it is the test, so that two runs cannot get the same
                try:
                    path.mkdir(mode=_PRIVATE_FOLDER)
                    break
                except FileExistsError:
                    path = parent / f"{stamp}-{attempt}"
            (path / "logs").mkdir(mode=_PRIVATE_FOLDER)
            draft = parent / f".{LATEST}-{path.name}"
            draft.symlink_to(path.name)
            draft.replace(parent / LATEST)  # in one step: a reader always finds one run or the other
        return cls(path)

    @property
    def name(self) -> str:
        """`<experiment>/<UTC start>`, unique below one root."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.yaml"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def junit(self) -> Path:
        return self.path / "junit.xml"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def write_result(self, result: Result) -> None:
        """Write `result.json`, whole or not at all. Raises EnvironmentFault."""
        write_whole(self.result, result_json(result))

    def read_rows(self) -> Iterable[AnyRow]:
        """The stored history in file order, read anew each time that it is gone through.

        Which raises ChaoslabError when it is missing or broken.
        """
        return _Rows(self.history)

    def read_result(self) -> Result:
        """The stored result. Raises ChaoslabError when it is missing, broken or of another schema."""
        try:
            raw = self.result.read_bytes()
        except FileNotFoundError:
            cure = f"chaoslab analyze {self.path}"
            raise ChaoslabError(
                f"{self.path}: the run has no result.json, because it ended before it was judged", cure=cure
            ) from None
        except OSError as broken:
            raise ChaoslabError(f"{self.result}: cannot be read: {broken.strerror}") from broken
        try:
            result = msgspec.json.decode(raw, type=Result)
        except (msgspec.MsgspecError, UnicodeDecodeError) as broken:
            raise ChaoslabError(f"{self.result}: not a result: {broken}") from broken
        if result.schema != SCHEMA:
            raise ChaoslabError(f"{self.result}: schema {result.schema!r}; this chaoslab reads {SCHEMA!r}")
        return result


@dataclass(frozen=True)
class _Rows:
    history: Path

    def __iter__(self) -> Iterator[AnyRow]:
        try:
            yield from read_history(self.history)
        except FileNotFoundError:
            raise ChaoslabError(f"{self.history.parent}: there is no history.jsonl: the run ended before it began") from None


def load_run(path: str | Path, root: str | Path = ROOT) -> RunFolder:
    """The stored run that a person names: a run folder, an experiment's folder or name (its latest), or `latest`.

    What is not there as a path is looked for below `root`, and beside it. Raises SpecError, with what may have been meant.
    """
    path, root = Path(path), Path(root)
    candidates = (path, root / path, root.parent / path)
    for candidate in candidates:
        run = _run_at(candidate)
        if run is not None:
            return RunFolder(run)
    if str(path) == LATEST:
        newest = max(_all_runs(root), key=lambda run: run.name, default=None)
        if newest is not None:
            return RunFolder(newest)
    known = [f"{run.parent.name}/{run.name}" for run in _all_runs(root)]
    known += sorted({run.partition("/")[0] for run in known})
    beside = root.parent / path
    wanted = str(beside.relative_to(root)) if beside.is_relative_to(root) else str(path)
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    if near:
        raise SpecError(f"{path}: no such run. Did you mean {shown_path(root / near[0])}?")
    if any(candidate.exists() for candidate in candidates):
        raise SpecError(f"{path}: this is not the folder of a run: it has no history.jsonl and no result.json")
    if path.is_absolute() or len(path.parts) > 1:
        raise SpecError(f"{path}: there is no such folder or file", cure=f"name a run of {shown_path(root)}/, or a bundle")
    stored = (
        f"there are runs of: {', '.join(sorted({run.partition('/')[0] for run in known}))}" if known else "there are none yet"
    )
    raise SpecError(f"no run of {str(path)!r} in {shown_path(root)}/; {stored}", cure="chaoslab run NAME makes one")


def _run_at(path: Path) -> Path | None:
    for folder in (path, path / LATEST):
        if (folder / "history.jsonl").is_file() or (folder / "result.json").is_file():
            return folder.resolve()
    return None


def _all_runs(root: Path) -> list[Path]:
    return [folder for folder in root.glob("*/*") if not folder.is_symlink() and _run_at(folder)]
