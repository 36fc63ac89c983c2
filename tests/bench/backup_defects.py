"""Twenty-four defects of one archive, each made on a copy of its bytes, and variants that are sound."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from backup_archive import READY_S, Made, Server, offsite, push_to
from real_servers import TOOLS

from archive import MANIFEST, Archive, Entry  # type: ignore[import-not-found]

MIDDLE = 0.6  # of the segments after the newest base: after the promotion
_FLIPPED = 4096 + 777


@dataclass(frozen=True)
class Case:
    """One archive to restore. `says`: what must be in the reason of a red one; "" for a sound one."""

    name: str
    says: str
    change: Callable[[Made, Path], None]
    tools: Callable[[Path], Path] = lambda _: TOOLS
    until: datetime | None = None


def copy_of(made: Made, folder: Path) -> Path:
    """The archive, with its files linked: what is changed has to be replaced, as `rewrite` does."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made.archive, folder, copy_function=os.link)
    rewrite(folder / "journal", (made.archive / "journal").read_bytes())
    return folder


def rewrite(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def set_journal(folder: Path, change: Callable[[Entry], Entry | None]) -> None:
    kept = [changed for entry in Archive(folder).entries() if (changed := change(entry)) is not None]
    rewrite(folder / "journal", "".join(json.dumps(asdict(entry)) + "\n" for entry in kept).encode())


def segments(folder: Path) -> list[Path]:
    """Those that a restore of the newest base reads."""
    base = Archive(folder).entries()
    newest = next(entry for entry in reversed(base) if entry.kind == "base")
    label = (folder / "base" / newest.name / "backup_label").read_text()
    first = label.split("(file ")[1][:24]
    names = [entry.name for entry in base if entry.kind == "wal" and len(entry.name) == 24]
    whole = [name for name in names if name[8:] >= first[8:]]
    return [folder / "wal" / name for name in sorted(whole, key=lambda name: name[8:])]


def middle(folder: Path) -> Path:
    found = segments(folder)
    return found[round(len(found) * MIDDLE)]


def in_base(folder: Path, name: str) -> Path:
    newest = next(entry for entry in reversed(Archive(folder).entries()) if entry.kind == "base")
    return folder / "base" / newest.name / name


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    rewrite(path, bytes(content))


def as_archived(folder: Path, path: Path) -> None:
    """The journal knows the changed file as if it had come so."""
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    set_journal(folder, lambda e: replace(e, sha256=sha256, size=len(content)) if e.name == path.name else e)


def a_table(base: Path) -> str:
    """The largest file of the base that belongs to a user's database."""
    found = [file for file in (base / "base").rglob("*") if file.is_file() and int(file.parent.name) >= 16384]
    return str(max(found, key=lambda file: file.stat().st_size).relative_to(base))


# --- what is changed on the bytes -------------------------------------------------------------------------------


def never_archived(_: Made, folder: Path) -> None:
    path = middle(folder)
    path.unlink()
    set_journal(folder, lambda entry: None if entry.name == path.name else entry)


def flipped_before(_: Made, folder: Path) -> None:
    path = middle(folder)
    content = path.read_bytes()
    used = len(content.rstrip(b"\0"))  # within a record, and not in the zeros behind the last one
    flip(path, max(100, used // 2))
    as_archived(folder, path)


def another_cluster(_: Made, folder: Path) -> None:
    path = middle(folder)
    content = bytearray(path.read_bytes())
    content[24:32] = (4711).to_bytes(8, "little")
    rewrite(path, bytes(content))
    as_archived(folder, path)


def replayed_twice(_: Made, folder: Path) -> None:
    """The segment before it came a second time, under the next name."""
    found = segments(folder)
    path = middle(folder)
    rewrite(path, found[found.index(path) - 1].read_bytes())
    as_archived(folder, path)


def stale_base(_: Made, folder: Path) -> None:
    """The older base alone is left, and the WAL that it needs was removed with an eye to the newer one."""
    first = segments(folder)[0].name[8:]
    bases = [entry.name for entry in Archive(folder).entries() if entry.kind == "base"]
    shutil.rmtree(folder / "base" / bases[-1])
    gone = {path.name for path in (folder / "wal").iterdir() if len(path.name) == 24 and path.name[8:] < first}
    for name in gone:
        (folder / "wal" / name).unlink()
    set_journal(folder, lambda entry: None if entry.name in {*gone, *bases[1:]} else entry)


def stale_archive(_: Made, folder: Path) -> None:
    """Archiving stopped five seconds before the end, and nobody noticed."""
    entries = Archive(folder).entries()
    last = entries[-1].time - timedelta(seconds=5)
    gone = {entry.name for entry in entries if entry.kind == "wal" and entry.time > last}
    for name in gone:
        (folder / "wal" / name).unlink()
    set_journal(folder, lambda entry: None if entry.name in gone else entry)


def no_history(_: Made, folder: Path) -> None:
    (folder / "wal" / "00000002.history").unlink()
    set_journal(folder, lambda entry: None if entry.name == "00000002.history" else entry)


def wrong_timeline(_: Made, folder: Path) -> None:
    """The history says that the timelines parted three segments earlier than they did."""
    path = folder / "wal" / "00000002.history"
    number, lsn, why = path.read_text().strip().split("\t")
    high, _, low = lsn.partition("/")
    rewrite(path, f"{number}\t{high}/{int(low, 16) - 3 * 2**20:X}\t{why}\n".encode())
    as_archived(folder, path)


def skewed_clock(_: Made, folder: Path) -> None:
    set_journal(folder, lambda entry: replace(entry, at=(entry.time - timedelta(hours=1)).isoformat()))


def removed(name: str) -> Callable[[Made, Path], None]:
    """A file of the newest base; `table`: the largest of the services' own."""

    def change(_: Made, folder: Path) -> None:
        base = in_base(folder, "")
        in_base(folder, a_table(base) if name == "table" else name).unlink()

    return change


def flipped_in_base(_: Made, folder: Path) -> None:
    path = in_base(folder, a_table(in_base(folder, "")))
    flip(path, _FLIPPED)


def nothing(_: Made, __: Path) -> None:
    """As it is."""


# --- what was changed in the database before it was archived ----------------------------------------------------


def done_by(*statements: str) -> Callable[[Made, Path], None]:
    """The database went on after the fire, somebody did this, and it was archived."""

    def change(made: Made, folder: Path) -> None:
        asyncio.run(_do(made, folder, statements))

    return change


async def _do(made: Made, folder: Path, statements: tuple[str, ...]) -> None:
    data = folder.parent / f"{folder.name}-data"
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(made.data, data)
    (data / "postmaster.pid").unlink(missing_ok=True)
    with offsite(folder) as address:
        (data / "postgresql.auto.conf").write_text(f"archive_command = '{push_to(address)}'\n")
        server = Server(data)
        connection = await server.leads()
        for statement in statements:
            await connection.execute(statement)
        await connection.execute("select pg_switch_wal()")
        last = await connection.fetchval("select pg_walfile_name(pg_current_wal_lsn() - 1)")
        until = time.monotonic() + READY_S
        while (await connection.fetchval("select last_archived_wal from pg_stat_archiver") or "") < last:
            assert time.monotonic() < until, f"{last} is not archived"
            await asyncio.sleep(0.05)
        await connection.close()
        server.end(signal.SIGKILL)
    shutil.rmtree(data, ignore_errors=True)


AGAIN = (
    "alter table entries drop constraint entries_pkey",
    "insert into entries select * from entries where seq between 100 and 120",
)

DEFECTS = (
    Case("a segment in the middle is missing", "segment missing", lambda _, f: middle(f).unlink()),
    Case("the last segment is missing", "segment missing", lambda _, f: segments(f)[-1].unlink()),
    Case("a segment was never archived", "segment never archived", never_archived),
    Case("a bit of a segment flipped", "segment changed", lambda _, f: flip(middle(f), 5000)),
    Case("a bit flipped before it was archived", "WAL unreadable", flipped_before),
    Case("a segment is cut short", "segment cut short", lambda _, f: rewrite(middle(f), middle(f).read_bytes()[:300_000])),
    Case("a segment is of another cluster", "another cluster", another_cluster),
    Case("a segment comes twice", "segment misplaced", replayed_twice),
    Case("the base backup is missing", "base missing", lambda _, f: shutil.rmtree(in_base(f, ""))),
    Case("a table's file is missing in the base", "base damaged", removed("table")),
    Case("a bit of the base flipped", "base damaged", flipped_in_base),
    Case("the base has no label", "base has no label", removed("backup_label")),
    Case("the base has no manifest", "base has no manifest", removed(MANIFEST)),
    Case("the base is older than its WAL", "segment never archived", stale_base),
    Case("archiving stopped unnoticed", "the backup is stale", stale_archive),
    Case("the history of the timeline is missing", "history missing", no_history),
    Case("the history leads to a wrong timeline", "wrong timeline", wrong_timeline),
    Case("the archive's clock is wrong", "clocks differ", skewed_clock),
    Case("a table was emptied", "entries is empty", done_by("truncate entries")),
    Case("a row was deleted", "lost from the middle", done_by("delete from entries where id = 'w-200'")),
    Case("rows were applied twice", "duplicated", done_by(*AGAIN)),
    Case("the key of the services was lost", "cannot log in", done_by("alter role app password 'another'")),
    Case("the backup was kept in the burnt site", "archive missing", lambda _, f: shutil.rmtree(f)),
    Case("the restore needs programs of the burnt site", "programs missing", nothing, lambda f: f.parent / "burnt" / "bin"),
)


# --- sound ------------------------------------------------------------------------------------------------------


def crash_in_journal(_: Made, folder: Path) -> None:
    rewrite(folder / "journal", (folder / "journal").read_bytes() + b'{"kind": "wal", "na')


def old_bases_removed(_: Made, folder: Path) -> None:
    Archive(folder).remove_old_bases(1)


def older_base_alone(_: Made, folder: Path) -> None:
    """As if the newer one had never been taken."""
    bases = [entry.name for entry in Archive(folder).entries() if entry.kind == "base"]
    shutil.rmtree(folder / "base" / bases[-1])
    set_journal(folder, lambda entry: None if entry.name == bases[-1] else entry)


def old_wal_removed(_: Made, folder: Path) -> None:
    first = segments(folder)[0].name[8:]
    for path in (folder / "wal").iterdir():
        if len(path.name) == 24 and path.name[8:] < first:
            path.unlink()


def other_files(_: Made, folder: Path) -> None:
    """That PostgreSQL archives beside segments, and that somebody left there."""
    for name in ("README", ".000000020000000000000001.part", "000000010000000000000003.00000028.backup"):
        (folder / "wal" / name).write_bytes(b"of no use")


def pushed_again(_: Made, folder: Path) -> None:
    path = middle(folder)
    Archive(folder).put_wal(path.name, path.read_bytes())


def bytes_copied(made: Made, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(made.archive, folder)


def sound(made: Made, seed: int) -> Iterator[Case]:
    """Twenty: ten that differ in what lies in the archive, and ten random moments that it holds."""
    yield Case("as it is", "", nothing)
    yield Case("copied elsewhere", "", bytes_copied)
    yield Case("old base backups removed", "", old_bases_removed)
    yield Case("from the older base backup", "", older_base_alone)
    yield Case("WAL before the base removed", "", old_wal_removed)
    yield Case("other files beside", "", other_files)
    yield Case("a segment pushed again", "", pushed_again)
    yield Case("the journal cut by a crash", "", crash_in_journal)
    yield Case("went on after a crash", "", done_by("checkpoint"))
    yield Case("vacuumed and indexed anew", "", done_by("vacuum full entries", "reindex table messages"))
    dice = random.Random(seed)  # noqa: S311
    entries = Archive(made.archive).entries()
    first = next(entry.time for entry in entries if entry.kind == "base")
    last = entries[-1].time - timedelta(seconds=2)
    for number in range(10):
        until = first + (last - first) * dice.random()
        yield Case(f"the moment {number + 1}", "", nothing, until=until)
