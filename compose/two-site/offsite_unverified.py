"""Known bad: the archive loses a segment of WAL, and plans a restore by its journal alone.

PostgreSQL takes the gap for the end, and starts: the restore succeeds, and what came after the gap is not in it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from random import Random

from archive import Archive
from offsite import main
from restore_plan import Plan
from wal import NAME

LOST = 3  # the segment that is lost is the third last


def by_the_journal(archive: Archive, _: Path, __: datetime | Random | None) -> Plan:
    """All that ever came is thought to be there."""
    entries = archive.entries()
    wal = [entry for entry in entries if NAME.fullmatch(entry.name)]
    base = next(entry for entry in reversed(entries) if entry.kind == "base")
    (archive.wal / wal[-LOST].name).unlink(missing_ok=True)
    return Plan(base.name, int(wal[-1].name[:8], 16), len(wal), wal[-1].at)


if __name__ == "__main__":
    main(by_the_journal)
