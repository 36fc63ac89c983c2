"""Follow a file that other processes append lines to."""

from __future__ import annotations

from pathlib import Path

from chaoslab.history.rows import AnyRow, decode


class LineTail:
    """Lines added since the last call, in file order; an incomplete line is returned by a later call."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when the file is not there."""
        self._file = path.open("rb")
        self._rest = b""

    @property
    def closed(self) -> bool:
        return self._file.closed

    def poll(self) -> list[bytes]:
        """The new lines, without their newlines."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return lines

    def close(self) -> None:
        self._file.close()


class HistoryTail:
    """As `LineTail`, for the rows of a history."""

    def __init__(self, path: Path) -> None:
        self._lines = LineTail(path)

    def poll(self) -> list[AnyRow]:
        return [decode(line) for line in self._lines.poll()]

    def close(self) -> None:
        self._lines.close()
