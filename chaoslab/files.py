"""Private files where others may write as well: never through a link that somebody else has put there."""

from __future__ import annotations

import os
from pathlib import Path

_PRIVATE = 0o600
_OURS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def open_new(path: Path) -> int:
    """The descriptor of a file that this call has made. Raises OSError (EEXIST) when anything is there, a link included."""
    return os.open(path, _OURS | os.O_EXCL, _PRIVATE)


def open_to_append(path: Path) -> int:
    """The descriptor of a file that is made when it is not there. Raises OSError (ELOOP) when it is a link."""
    return os.open(path, _OURS | os.O_APPEND, _PRIVATE)
