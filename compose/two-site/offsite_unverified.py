"""Known bad: the archive loses a WAL segment, and plans a restore from its journal alone.

PostgreSQL treats the gap as the end of WAL, and starts: the restore succeeds, without what came after the gap.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from random import Random

from archive import Archive
from offsite import main
from restore_plan import Plan
from wal import NAME

LOST = 3  # the third segment from the end is lost


def plan_by_journal(archive: Archive, _: Path, __: datetime | Random | None) -> Plan:
    """Assumes that every file in the journal still exists."""
    entries = archive.entries()
    wal = [entry for entry in entries if NAME.fullmatch(entry.name)]
    base = next(entry for entry in reversed(entries) if entry.kind == "base")
    (archive.wal / wal[-LOST].name).unlink(missing_ok=True)
    return Plan(base.name, int(wal[-1].name[:8], 16), len(wal), wal[-1].at)


if __name__ == "__main__":
    main(plan_by_journal)
