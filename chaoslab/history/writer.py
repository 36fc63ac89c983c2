"""Writing a run to disk: rows one by one, every other file completely or not at all.

Files are private (0600): histories and logs may hold confidential data of the stack.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from secrets import token_hex
from typing import IO

from chaoslab.errors import ChaoslabError, EnvironmentFault
from chaoslab.files import open_new, open_to_append
from chaoslab.history.rows import Row, encode
from chaoslab.redact import Secrets

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class HistoryWriter:
    """Appends rows to a history: one write a line, so several threads and processes may share the file."""

    def __init__(self, path: Path, secrets: Secrets | None = None) -> None:
        """Opens or creates the file; `secrets` never get into it. Raises EnvironmentFault."""
        self.path = path
        self._secrets = secrets or Secrets()
        self._lock = threading.Lock()  # append and close may meet; a closed descriptor's number is used again
        self._closed = False
        with write_errors(path):
            self._descriptor = open_to_append(path)

    def append(self, row: Row) -> None:
        """Write one row; it survives the death of this process. Raises EnvironmentFault, above all on a full disk."""
        line = encode(self._secrets.row(row))
        with self._lock, write_errors(self.path):
            if self._closed:
                raise ChaoslabError(f"{self.path}: a row was written after the history was closed")
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "a row was cut short")

    def close(self) -> None:
        """Force everything to the disk and close; twice is the same as once. Raises EnvironmentFault."""
        with self._lock, write_errors(self.path):
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
    with write_errors(path):
        descriptor = open_new(draft)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns an OSError into an EnvironmentFault that names the file, and what to do about it."""
    try:
        yield
    except OSError as broken:
        full = broken.errno in _FULL
        cure = "free some space, or use another folder for runs" if full else "check that the folder exists and belongs to you"
        raise EnvironmentFault(f"cannot write {path}: {broken.strerror}", cure=cure) from broken
