"""The runs of this user on this machine: who is at work, where its undo journal lies, and whether new ones may begin.

One file a run in a private folder, locked by the harness for as long as it lives; the kernel lets go of the lock, whatever
kills the harness. The file outlives the run when something is left to undo. `blocked` in the same folder keeps new runs out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaoslab.clock import utc_now
from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.files import open_new

_BLOCK = "blocked"
_SUFFIX = ".run"


class Entry(msgspec.Struct, frozen=True):
    """One run, and where its undo journal lies."""

    run_id: str
    pid: int
    journal: str = ""


class Registered:
    """The place of this process's run in the registry. `leave` it in the end, saying whether something is left to undo."""

    def __init__(self, path: Path, entry: Entry) -> None:
        """Raises EnvironmentFault when it cannot be written: nobody could find what such a run leaves."""
        self._path, self._descriptor = path, -1
        try:
            self._descriptor = open_new(path)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            line = msgspec.json.encode(entry)
            if os.pwrite(self._descriptor, line, 0) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as broken:
            self.leave(done=True)
            raise EnvironmentFault(f"cannot write {path}: {broken.strerror}", cure="free some space there") from broken

    def leave(self, *, done: bool) -> None:
        """The run has ended; with `done` nothing of it is left. A second call does nothing."""
        if self._descriptor < 0:
            return
        if done:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


def folder() -> Path:
    """Where the runs of this user are known: below $XDG_RUNTIME_DIR, else in the folder for temporary files.

    Raises EnvironmentFault when it is not private and ours: somebody else may have made it to mislead us.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base) / "chaoslab" if base else Path(tempfile.gettempdir()) / f"chaoslab-user-{os.geteuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as broken:
        raise EnvironmentFault(f"cannot make {path}: {broken.strerror}") from broken
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise EnvironmentFault(f"{path} is not a private folder of this user", cure=f"see who made it, then remove {path}")
    return path


def enter(run_id: str, journal: Path | None = None) -> Registered:
    """Take a place for a run. Raises SpecError while new runs are blocked.

    The place is taken before the block is looked at: whoever blocks and then looks for runs misses none.
    """
    place = Registered(_place(run_id), Entry(run_id, os.getpid(), str(journal or "")))
    try:
        require_open()
    except SpecError:
        place.leave(done=True)
        raise
    return place


def require_open() -> None:
    """Raises SpecError while new runs are blocked."""
    since = blocked()
    if since is not None:
        raise SpecError(
            f"new runs are blocked since {since}, by chaoslab stop --all; nothing was started", cure="chaoslab resume"
        )


def _place(run_id: str) -> Path:
    return folder() / f"{run_id}{_SUFFIX}"


def entries() -> list[tuple[Entry, bool]]:
    """Every known run, and whether its harness is alive. A file that says nothing yet is left out."""
    found = []
    for path in sorted(folder().glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found.append((msgspec.json.decode(path.read_bytes(), type=Entry), _is_locked(path)))
    return found


def forget(run_id: str) -> None:
    """Nothing is left of a run; a living one keeps its place."""
    path = _place(run_id)
    if path.exists() and not _is_locked(path):
        path.unlink(missing_ok=True)


def strike_off(run_id: str) -> None:
    """As `forget`, even while its harness lives: for the run's own reaper, which knows that nothing is left to end."""
    _place(run_id).unlink(missing_ok=True)


def alive(run_id: str) -> bool:
    """Whether the harness of a run is at work."""
    path = _place(run_id)
    return path.exists() and _is_locked(path)


def blocked() -> str | None:
    """Since when new runs are blocked (ISO 8601, UTC); None when they are not."""
    with contextlib.suppress(FileNotFoundError):
        return (folder() / _BLOCK).read_text().strip()
    return None


def block() -> None:
    """Keep new runs from beginning, until `unblock`. Raises EnvironmentFault."""
    if blocked() is None:
        path = folder() / _BLOCK
        try:
            with os.fdopen(open_new(path), "w") as file:
                file.write(utc_now().isoformat(timespec="seconds"))
        except OSError as broken:
            raise EnvironmentFault(
                f"cannot write {path}: {broken.strerror}", cure=f"see what it is, then remove {path}"
            ) from broken


def unblock() -> bool:
    """Let runs begin again; False when they might already."""
    was = blocked() is not None
    (folder() / _BLOCK).unlink(missing_ok=True)
    return was


def _is_locked(path: Path) -> bool:
    with _opened(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
