"""The archive: WAL segments and base backups in one folder, with a journal of what was received.

FOLDER/wal/NAME      segments and timeline histories, as PostgreSQL archived them
FOLDER/base/NAME/    base backups, plain, as pg_basebackup wrote them
FOLDER/journal       a line of JSON for each: its kind, name, size and SHA-256 (of a base backup, that of its manifest), and
                     when it was complete. What is not in the journal is never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

MANIFEST = "backup_manifest"


class Refused(Exception):
    """The archive already has a file of this name, with different content."""


@dataclass(frozen=True)
class Entry:
    """One line of the journal. `system`: the identifier of the database cluster, for a base backup only."""

    kind: Literal["wal", "base"]
    name: str
    size: int
    sha256: str
    at: str
    system: str = ""

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.at)


class Archive:
    """An archive in a folder. Safe for several threads of one process, but not for several processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wal = folder / "wal"
        self.bases = folder / "base"
        self._journal = folder / "journal"
        self._writing = threading.Lock()

    def entries(self) -> list[Entry]:
        """The journal. A last line that a crash cut short is left out; raises ValueError if any other cannot be read."""
        if not self._journal.exists():
            return []
        lines = self._journal.read_text().split("\n")
        return [Entry(**json.loads(line)) for line in lines[:-1]]

    def put_wal(self, name: str, content: bytes) -> None:
        """Store a WAL file; it is on the disk when this returns. Idempotent for the same content. Raises Refused."""
        sha256 = hashlib.sha256(content).hexdigest()
        with self._writing:
            known = next((entry for entry in self.entries() if entry.kind == "wal" and entry.name == name), None)
            if known is not None:
                if known.sha256 != sha256:
                    raise Refused(f"{name} is archived already, with different content")
                return
            self.wal.mkdir(parents=True, exist_ok=True)
            _write(self.wal / name, content)
            self._note(Entry("wal", name, len(content), sha256, _now()))

    def put_base(self, folder: Path, system: str) -> str:
        """Move a complete base backup into the archive; returns its name."""
        manifest = (folder / MANIFEST).read_bytes()
        at = _now()
        name = at[:19].replace(":", "").replace("-", "")
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        self.bases.mkdir(parents=True, exist_ok=True)
        folder.rename(self.bases / name)
        with self._writing:
            self._note(Entry("base", name, size, hashlib.sha256(manifest).hexdigest(), at, system))
        return name

    def remove_old_bases(self, newest: int) -> None:
        """Remove all base backups but the newest."""
        kept = [entry.name for entry in self.entries() if entry.kind == "base"][-newest:]
        for folder in self.bases.iterdir() if self.bases.is_dir() else ():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _note(self, entry: Entry) -> None:
        """On the disk when this returns; half a line before it, cut by a crash or a full disk, goes."""
        with self._journal.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(json.dumps(asdict(entry)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def status(self) -> dict[str, Any]:
        """A summary of what is in it."""
        entries = self.entries()
        bases = [entry for entry in entries if entry.kind == "base"]
        wal = [entry for entry in entries if entry.kind == "wal"]
        last = {"name": wal[-1].name, "at": wal[-1].at} if wal else None
        base = {"name": bases[-1].name, "at": bases[-1].at} if bases else None
        return {"bases": len(bases), "segments": len(wal), "base": base, "last": last}


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and on the disk."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a file system that does not sync folders
        os.fsync(folder)
    os.close(folder)
