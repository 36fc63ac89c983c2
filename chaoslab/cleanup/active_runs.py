"""The runs of this user on this machine: which are running, where their undo journals lie, and whether new runs may begin.

One file per run in a private folder, locked by the harness for as long as it runs; the kernel releases the lock however
the harness ends. The file outlives the run when something is left to undo. `blocked` in the same folder blocks new runs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from chaoslab.clock import SYSTEM, Clock, utc_now
from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.files import open_new, open_to_append

_BLOCK = "blocked"
_SUFFIX = ".run"
_ALONE = "alone.lock"
_LOOK_EVERY_S = 0.2


class Entry(msgspec.Struct, frozen=True):
    """One run, and where its undo journal lies."""

    run_id: str
    pid: int
    journal: str = ""


class Registered:
    """The place of this process's run in the registry. `leave` it in the end, saying whether something is left to undo."""

    def __init__(self, path: Path, entry: Entry) -> None:
        """Raises EnvironmentFault when it cannot be written: what such a run leaves could not be found."""
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

    Raises EnvironmentFault when it is not private and ours: another user may have made it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base) / "chaoslab" if base else Path(tempfile.gettempdir()) / f"chaoslab-user-{os.geteuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as broken:
        raise EnvironmentFault(f"cannot make {path}: {broken.strerror}") from broken
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise EnvironmentFault(
            f"{path} is not a private folder of this user", cure=f"check what created it, then remove {path}"
        )
    return path


def enter(run_id: str, journal: Path | None = None) -> Registered:
    """Take a place for a run. Raises SpecError while new runs are blocked.

    The place is taken before the block is looked at: a stop that blocks new runs and then looks for runs misses none.
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


def forget(run_id: str, *, even_alive: bool = False) -> None:
    """Remove a run of which nothing is left from the registry, unless its harness is alive.

    `even_alive`: then, too. A run's own reaper does so, once it has undone everything.
    """
    path = _place(run_id)
    if even_alive or (path.exists() and not _is_locked(path)):
        path.unlink(missing_ok=True)


def alive(run_id: str, registry: str = "") -> bool:
    """Whether the harness of a run lives. `registry`: the folder of the login that began it, where that may be another."""
    path = Path(registry) / f"{run_id}{_SUFFIX}" if registry else _place(run_id)
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
                f"cannot write {path}: {broken.strerror}", cure=f"check what it is, then remove {path}"
            ) from broken


def unblock() -> bool:
    """Let runs begin again; False when they were not blocked."""
    was = blocked() is not None
    (folder() / _BLOCK).unlink(missing_ok=True)
    return was


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def alone(on_wait: Callable[[], object], clock: Clock = SYSTEM) -> Iterator[None]:
    """Let one at a time on this machine into the block: two runs at once take each other's processors. `on_wait`: it waits.

    The kernel lets the next one in, whatever ends the holder. Raises EnvironmentFault as `folder` does.
    """
    descriptor = open_to_append(folder() / _ALONE)
    try:
        waited = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            if not waited:
                on_wait()
            waited = True
            clock.sleep(_LOOK_EVERY_S)
        yield
    finally:
        os.close(descriptor)
