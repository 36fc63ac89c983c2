"""One folder a run: where everything that a run leaves behind lies, and how it gets there whole.

    runs/<experiment>/<UTC start>/   experiment.yaml history.jsonl result.json report.html junit.xml logs/
    runs/<experiment>/latest         a link to the newest

Folders are private (0700): histories and logs may hold what the stack's people would not publish.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

import msgspec

from chaoslab.clock import utc_now
from chaoslab.errors import ChaoslabError, EnvironmentFault, SpecError
from chaoslab.events import AnyRow, Row, encode, read_history
from chaoslab.files import open_new, open_to_append
from chaoslab.masking import Secrets
from chaoslab.result import SCHEMA, Result

ROOT = Path("runs")
LATEST = "latest"
_PRIVATE_FOLDER = 0o700
_DECIMALS = 3  # milliseconds, in a value that is in seconds
_DECIMALS_OF = {"availability": 6}  # 99.96 % must not read as 100 %
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
            raise SpecError(f"{experiment!r} cannot be the name of an experiment: it has to name a folder")
        stamp = (started or utc_now()).strftime("%Y-%m-%dT%H-%M-%SZ")
        with _explained(root / experiment):
            (root / experiment).mkdir(parents=True, exist_ok=True)
            path = _make_unique(root / experiment, stamp)
            (path / "logs").mkdir(mode=_PRIVATE_FOLDER)
            _point_latest_at(path)
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
            raise ChaoslabError(f"{self.path}: the run has no result.json: it ended before it was judged", cure=cure) from None
        try:
            result = msgspec.json.decode(raw, type=Result)
        except msgspec.MsgspecError as broken:
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
            raise ChaoslabError(f"{self.history.parent}: the run left no history.jsonl; it ended before it began") from None


class HistoryWriter:
    """Appends rows to a history: one write a line, so several threads and processes may share the file."""

    def __init__(self, path: Path, secrets: Secrets | None = None) -> None:
        """Opens or creates the file; `secrets` never get into it. Raises EnvironmentFault."""
        self.path = path
        self._secrets = secrets or Secrets()
        self._lock = threading.Lock()  # append and close may meet; a closed descriptor's number is used again
        self._closed = False
        with _explained(path):
            self._descriptor = open_to_append(path)

    def append(self, row: Row) -> None:
        """Write one row; it survives the death of this process. Raises EnvironmentFault, above all on a full disk."""
        line = encode(self._secrets.row(row))
        with self._lock, _explained(self.path):
            if self._closed:
                raise ChaoslabError(f"{self.path}: a row came after the history was closed")
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "a row was cut short")

    def close(self) -> None:
        """Force everything to the disk and close; twice is the same as once. Raises EnvironmentFault."""
        with self._lock, _explained(self.path):
            if self._closed:
                return
            self._closed = True
            try:
                os.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_run(path: Path, root: Path = ROOT) -> RunFolder:
    """The stored run that a person means: a run folder, an experiment's folder or name (its latest), or `latest`.

    What is not there as a path is looked for below `root`. Raises SpecError, with what may have been meant.
    """
    for candidate in (path, root / path):
        run = _run_at(candidate)
        if run is not None:
            return RunFolder(run)
    if str(path) == LATEST:
        newest = max(_all_runs(root), key=lambda run: run.name, default=None)
        if newest is not None:
            return RunFolder(newest)
    raise SpecError(_no_such_run(path, root))


def write_whole(path: Path, content: bytes) -> None:
    """Write a private file so that a reader, even after a power loss, sees all of it or what was there before.

    Raises EnvironmentFault.
    """
    with private_writer(path) as sink:
        sink.write(content)


@contextlib.contextmanager
def private_writer(path: Path) -> Generator[IO[bytes]]:
    """As `write_whole`, for what is written piece by piece; it takes its place when the block ends without an error."""
    draft = path.with_name(f".{path.name}.{token_hex(8)}")
    with _explained(path):
        descriptor = open_new(draft)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def result_json(result: Result) -> bytes:
    """The result for people and machines: indented, keys sorted, seconds to the millisecond."""
    return _json(result)


def repeats_json(results: Sequence[Result], worst: int, spread: Mapping[str, Any]) -> bytes:
    """Several runs in one object: all results, the number of the worst (from 1) with its verdict, and the spread."""
    decides = {"run": worst + 1, "verdict": results[worst].verdict}
    return _json({"runs": list(results), "worst": decides, "spread": dict(spread)})


def _json(value: Any) -> bytes:
    plain = _rounded(msgspec.to_builtins(value))
    return msgspec.json.format(msgspec.json.encode(plain, order="sorted"), indent=2) + b"\n"


def _rounded(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner, key) for inner in value]
    return round(value, _DECIMALS_OF.get(key, _DECIMALS)) if isinstance(value, float) else value


def _make_unique(parent: Path, stamp: str) -> Path:
    """Make a folder that nobody else has made; making it is the test, so that two runs cannot get the same."""
    path, attempt = parent / stamp, 1
    while True:
        try:
            path.mkdir(mode=_PRIVATE_FOLDER)
        except FileExistsError:
            attempt += 1
            path = parent / f"{stamp}-{attempt}"
        else:
            return path


def _point_latest_at(path: Path) -> None:
    """Replace the link in one step: a reader always finds one run or the other."""
    draft = path.parent / f".{LATEST}-{path.name}"
    draft.symlink_to(path.name)
    draft.replace(path.parent / LATEST)


def _run_at(path: Path) -> Path | None:
    for folder in (path, path / LATEST):
        if (folder / "history.jsonl").is_file() or (folder / "result.json").is_file():
            return folder.resolve()
    return None


def _all_runs(root: Path) -> list[Path]:
    return [folder for folder in root.glob("*/*") if not folder.is_symlink() and _run_at(folder)]


def _no_such_run(path: Path, root: Path) -> str:
    known = [f"{run.parent.name}/{run.name}" for run in _all_runs(root)]
    known += sorted({run.partition("/")[0] for run in known})
    meant = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    near = difflib.get_close_matches(meant, known, n=1, cutoff=0.5)
    hint = f" Did you mean {root / near[0]}?" if near else f" There are no runs below {root}/." if not known else ""
    return f"{path}: no such run.{hint}"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as broken:
        full = broken.errno in _FULL
        cure = "free some space, or give another folder for runs" if full else "see that the folder is there and is yours"
        raise EnvironmentFault(f"cannot write {path}: {broken.strerror}", cure=cure) from broken
