"""Appends rows to a history that other processes append to as well."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from chaoslab.files import open_to_append
from chaoslab.history.rows import Row, encode

FLUSH_S = 0.05


class RowWriter:
    """Gathers rows and writes them as whole lines, one write a batch, at least every `FLUSH_S`. Needs a running event loop."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. Raises OSError."""
        self._fd = open_to_append(path)
        self._rows: list[bytes] = []

    def add(self, row: Row) -> None:
        if not self._rows:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        self._rows.append(encode(row))

    def flush(self) -> None:
        """Raises OSError when the file takes less than the batch, as on a full disk: a torn line must not go unnoticed."""
        if not self._rows:
            return
        batch = b"".join(self._rows)
        self._rows.clear()
        written = os.write(self._fd, batch)
        if written != len(batch):
            raise OSError(f"only {written} of {len(batch)} bytes of history could be written")

    def close(self) -> None:
        """Write what is left, then close. Raises OSError as `flush` does."""
        self.flush()
        os.close(self._fd)
