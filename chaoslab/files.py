"""Private files in folders where other users may write, never opened through their links; and the last lines of logs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PRIVATE = 0o600
_TAIL_BYTES = 8192
_OURS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def open_new(path: Path) -> int:
    """The descriptor of a file that this call has made. Raises OSError (EEXIST) when anything is there, a link included."""
    return os.open(path, _OURS | os.O_EXCL, _PRIVATE)


def open_to_append(path: Path) -> int:
    """The descriptor of a file that is made when it is not there. Raises OSError (ELOOP) when it is a link."""
    return os.open(path, _OURS | os.O_APPEND, _PRIVATE)


def last_lines(text: str, count: int) -> str:
    """The last `count` lines of an output that are not blank."""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-count:])


def log_tail(log: Path, count: int) -> list[str]:
    """The last `count` lines of a log file, at most its last 8 KiB; none when it cannot be read."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-count:]
    return []
