"""Follow a history that several processes append to."""

from __future__ import annotations

from pathlib import Path

from chaoslab.events import AnyRow, decode


class HistoryTail:
    """Rows that came since the last look, in file order; a line that is not whole yet waits for its rest."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""

    def poll(self) -> list[AnyRow]:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [decode(line) for line in lines]

    def close(self) -> None:
        self._file.close()
