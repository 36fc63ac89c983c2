"""One archive of a real PostgreSQL, made by the stack's own programs, with a ledger of all writes; and restores of copies."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from real_servers import TOOLS, free_port

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Anchor, Fault, LedgerRead, Probe, encode, read_history
from chaoslab.judge.ledger import Ledger, ledger_of
from chaoslab.judge.restored import Acknowledged, acknowledged, why_not_the_end
from chaoslab.judge.run_record import Injection
from chaoslab.judge.writes import Ids, Reading, Writes

TWO_SITE = Path(__file__).parents[2] / "compose" / "two-site"
sys.path.insert(0, str(TWO_SITE))

from archive import Archive  # noqa: E402
from restore_plan import NotRestorable, Plan, plan  # noqa: E402

PASSWORD = "for-rehearsals-only"
TABLES = {"sessions": "auth.login", "messages": "talk.send", "entries": "pay.transfer"}
READY_S = 15.0
REPLAYED_S = 10.0  # a few megabytes; a database that is not up by then stays down
RPO_S = 4.0  # a segment is archived every second
_SETTINGS = {
    **{"unix_socket_directories": "''", "dynamic_shared_memory_type": "mmap", "shared_buffers": "16MB", "max_wal_senders": "4"},
    **{"wal_level": "replica", "archive_mode": "on", "archive_timeout": "1s", "log_min_messages": "warning", "jit": "off"},
    **{"listen_addresses": "'127.0.0.1'", "max_connections": "30"},
}


def unprivileged(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", *command] if os.geteuid() == 0 else [*command]


class Server:
    """A PostgreSQL on a data folder; `settings` go on its command line."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data, self.port = data, free_port()
        words = [f"{name}={value.strip(chr(39))}" for name, value in {**_SETTINGS, "port": str(self.port), **settings}.items()]
        command = [str(TOOLS / "postgres"), "-D", str(data), *(word for setting in words for word in ("-c", setting))]
        self.log = data.parent / f"{data.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(unprivileged(*command), stdout=log, stderr=log, start_new_session=True)

    def end(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: cleanly; SIGKILL: as a fire does."""
        with suppress(ProcessLookupError):
            if how is signal.SIGKILL:
                os.killpg(self.process.pid, how)
            else:
                self.process.send_signal(how)
        self.process.wait(timeout=30)

    async def connect(self, user: str = "postgres") -> asyncpg.Connection:
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user=user, password=PASSWORD, database="app", timeout=3.0
        )

    async def leads(self, within_s: float = READY_S) -> asyncpg.Connection:
        """A connection, once it takes writes. Raises RuntimeError when it ends before, TimeoutError when it takes too long."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended with status {self.process.returncode}")
            with suppress(OSError, asyncpg.PostgresError, TimeoutError):
                connection = await self.connect()
                if not await connection.fetchval("select pg_is_in_recovery()"):
                    return connection
                await connection.close()
            await asyncio.sleep(0.05)
        raise TimeoutError("PostgreSQL does not come up")


@contextmanager
def offsite(folder: Path, database: str = "") -> Iterator[str]:
    """The archive's server on a folder; its host:port."""
    address = f"127.0.0.1:{free_port()}"
    env = {**os.environ, "LISTEN": address, "ARCHIVE_DATA": str(folder), "DATABASE": database}
    env |= {"REPLICATION_PASSWORD": PASSWORD, "BASE_EVERY_S": "3", "BASES": "9"}
    with (folder.parent / "offsite.log").open("ab") as log:
        server = subprocess.Popen([sys.executable, "-m", "offsite"], cwd=TWO_SITE, env=env, stdout=log, stderr=log)
    try:
        until = time.monotonic() + READY_S
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/status", timeout=1.0).close()
                break
            except OSError:
                assert time.monotonic() < until, "the archive's server does not answer"
                time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait()


def push_to(address: str) -> str:
    return f"{sys.executable} -I -S {TWO_SITE / 'archive_client.py'} push {address} %f %p"


# --- the writes -------------------------------------------------------------------------------------------------


@dataclass
class Made:
    """The archive, the disk of the database as the fire left it, and what was written, by table."""

    archive: Path
    data: Path
    writes: dict[str, list[Probe]]
    anchor: Anchor
    fire_ns: int = 0

    def moment(self, at_ns: int) -> datetime:
        """The wall clock at an instant."""
        return datetime.fromisoformat(self.anchor.wall) + timedelta(microseconds=(at_ns - self.anchor.t_ns) / 1000)

    def instant(self, moment: datetime) -> int:
        since = moment - datetime.fromisoformat(self.anchor.wall)
        return self.anchor.t_ns + round(since.total_seconds() * NS_PER_S)


@dataclass
class Writers:
    """Write into every table until told to stop, two at once into each."""

    server: Server
    writes: dict[str, list[Probe]]
    sequences: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    over: bool = False

    async def run(self) -> None:
        await asyncio.gather(*(self._write(table) for table in TABLES for _ in range(2)))

    async def _write(self, table: str) -> None:
        connection = None
        while not self.over:
            seq = self.sequences[table]
            self.sequences[table] += 1
            id_, payload = f"w-{seq}", f"{table} {seq} {'x' * (seq % 300)}"
            extra = ", debit, credit, amount" if table == "entries" else ""
            values = ", 'customer', 'merchant', 1" if table == "entries" else ""
            sent_ns, outcome = time.monotonic_ns(), "indeterminate"
            try:
                if connection is None or connection.is_closed():
                    connection = await self.server.connect("app")
                sql = f"insert into {table} (id, writer, seq, payload{extra}) values ($1, 'w', $2, $3{values})"  # noqa: S608 - names are constants of the program
                await connection.execute(sql, id_, seq, payload, timeout=2.0)
                outcome = "acked"
            # The last: a statement right after one that timed out, while its cancellation is still in progress.
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, asyncpg.InternalClientError):
                connection = None
            end_ns = time.monotonic_ns()
            self.writes[table].append(
                Probe(
                    t_ns=end_ns, journey=TABLES[table], service=table, op="write",
                    due_ns=sent_ns, sent_ns=sent_ns, end_ns=end_ns,
                    good=outcome == "acked", outcome=outcome, id=id_, writer="w", seq=seq,
                    hash=hashlib.sha256(payload.encode()).hexdigest(),
                )
            )  # fmt: skip
            await asyncio.sleep(0.01)


def make(folder: Path) -> Made:
    """Base backups and WAL of 12 s under writes, with a promotion in the middle; then the fire. About 20 s.

    A folder that has been made before is taken as it is: its history holds what was written.
    """
    history = folder / "history.jsonl"
    if not history.exists():
        made = asyncio.run(_make(folder))
        fire = Fault(t_ns=made.fire_ns, id="fire", name="site.destroy", target="both", event="inject")
        rows = [made.anchor, fire, *(row for writes in made.writes.values() for row in writes)]
        history.write_bytes(b"".join(map(encode, rows)))
        return made
    found = list(read_history(history))
    (anchor,) = [row for row in found if isinstance(row, Anchor)]
    (fire,) = [row for row in found if isinstance(row, Fault)]
    writes = {table: [row for row in found if isinstance(row, Probe) and row.service == table] for table in TABLES}
    return Made(folder / "archive", folder / "data", writes, anchor, fire.t_ns)


async def _make(folder: Path) -> Made:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    data, archive = folder / "data", folder / "archive"
    archive.mkdir()
    secret = folder / "password"
    secret.write_text(PASSWORD)
    how = ["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "--pwfile", str(secret), "--wal-segsize=1", "--data-checksums"]
    subprocess.run(unprivileged(str(TOOLS / "initdb"), "-D", str(data), *how), check=True, capture_output=True)
    with (data / "pg_hba.conf").open("a") as hba:
        hba.write("host replication replicator 127.0.0.1/32 scram-sha-256\n")
    made = Made(archive, data, {table: [] for table in TABLES}, _anchor())
    server = await _with_schema(data)
    with offsite(archive, f"127.0.0.1:{server.port}") as address:
        connection = await server.leads()
        await connection.execute(f"alter system set archive_command = '{push_to(address)}'")
        await connection.execute("select pg_reload_conf()")
        writers = Writers(server, made.writes)
        writing = asyncio.create_task(writers.run())
        until = time.monotonic() + 30
        while Archive(archive).status()["bases"] < 2:
            assert time.monotonic() < until, (folder / "offsite.log").read_text()
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)
        await connection.close()
    with offsite(archive) as address:  # no further base backups, so that a restore has to follow the promotion
        await asyncio.to_thread(server.end)
        (data / "standby.signal").touch()
        auto = data / "postgresql.auto.conf"
        auto.write_text(f"archive_command = '{push_to(address)}'\n")
        server = writers.server = Server(data)
        until = time.monotonic() + READY_S
        while True:
            try:
                connection = await server.connect()
                await connection.execute("select pg_promote()")
                break
            except (OSError, asyncpg.PostgresError):
                assert time.monotonic() < until, server.log.read_text()
                await asyncio.sleep(0.05)
        await asyncio.sleep(6.0)
        await connection.close()
        made.fire_ns = time.monotonic_ns()
        await asyncio.to_thread(server.end, signal.SIGKILL)
        writers.over = True
        await writing
    return made


def _anchor() -> Anchor:
    t_ns, wall = time.monotonic_ns(), datetime.now(UTC).isoformat()
    return Anchor(t_ns=t_ns, wall=wall, experiment="archive", run="bench", runtime="bench")


async def _with_schema(data: Path) -> Server:
    """Running, with the tables and roles of the stack."""
    server = Server(data, archive_command="false")
    env = {**os.environ, "APP_PASSWORD": PASSWORD, "PGPASSWORD": PASSWORD}
    where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres"]
    psql = [str(TOOLS / "psql"), *where, "-qX", "-v", "ON_ERROR_STOP=1"]
    until = time.monotonic() + READY_S
    while subprocess.run([*psql, "-c", "select 1", "postgres"], env=env, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < until, server.log.read_text()
        await asyncio.sleep(0.1)
    role = f"create role replicator login replication password '{PASSWORD}'"
    subprocess.run([*psql, "-c", role, "-f", str(TWO_SITE / "schema.sql"), "postgres"], env=env, check=True)
    await asyncio.to_thread(server.end)
    return Server(data)


# --- one restore ------------------------------------------------------------------------------------------------


@dataclass
class Restored:
    """What a restore came to. `plan`, `ledger`: what is wrong, in words, or nothing. The two others: whether they caught it."""

    plan: str = ""
    ledger: str = ""
    verify_caught: bool = False
    exit_caught: bool = False
    took_s: float = 0.0
    lost: int = 0
    rpo_s: float = 0.0

    @property
    def why(self) -> str:
        return self.plan or self.ledger

    @property
    def red(self) -> bool:
        return bool(self.why)


def restore(made: Made, archive: Path, scratch: Path, *, tools: Path = TOOLS, until: datetime | None = None) -> Restored:
    """Plan it; and whatever the plan says, restore what there is and compare it with every acknowledged write."""
    began, found = time.monotonic(), Restored()
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    planned: Plan | None = None
    try:
        planned = plan(Archive(archive), tools, until)
    except NotRestorable as refused:
        found.plan = "; ".join(map(str, refused.problems[:2]))
    bases = sorted((archive / "base").iterdir()) if (archive / "base").is_dir() else []
    base = archive / "base" / planned.base if planned else bases[-1] if bases else None
    found.verify_caught = base is None or not tools.is_dir() or _verify(base, archive / "wal")
    if base is None or not tools.is_dir():
        found.exit_caught = True
        found.took_s = time.monotonic() - began
        return found
    ends = made.instant(until or datetime.fromisoformat(planned.holds_until)) if planned else None
    asyncio.run(_restore(made, archive, base, scratch / "data", until, ends, found))
    found.took_s = time.monotonic() - began
    return found


def _verify(base: Path, wal: Path) -> bool:
    command = [str(TOOLS / "pg_verifybackup"), "--wal-directory", str(wal), str(base)]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


async def _restore(
    made: Made, archive: Path, base: Path, data: Path, until: datetime | None, ends_ns: int | None, found: Restored
) -> None:
    with offsite(archive) as address:
        fetch = [sys.executable, str(TWO_SITE / "recover.py"), address, base.name, str(data)]
        if subprocess.run(fetch, capture_output=True, check=False).returncode != 0:
            found.exit_caught = True
            return
        (data / "recovery.signal").touch()
        (data / "postgresql.auto.conf").unlink(missing_ok=True)
        moment = {"recovery_target_time": until.isoformat(sep=" "), "recovery_target_action": "promote"} if until else {}
        command = f"{sys.executable} -I -S {TWO_SITE / 'archive_client.py'} fetch {address} %f %p"
        server = Server(data, restore_command=command, archive_mode="off", recovery_target_timeline="latest", **moment)
        try:
            connection = await server.leads(REPLAYED_S)
        except (RuntimeError, TimeoutError):
            found.exit_caught = True
            found.ledger = "the database did not start"
            server.end(signal.SIGKILL)
            return
        try:
            found.ledger = await _compare(made, server, connection, until, ends_ns, found)
        finally:
            server.end(signal.SIGKILL)


async def _compare(
    made: Made, server: Server, admin: asyncpg.Connection, until: datetime | None, ends_ns: int | None, found: Restored
) -> str:
    """Every acknowledged write by id and hash, by the ledger of the judge; what is wrong, in words."""
    await admin.close()
    try:
        connection = await server.connect("app")
    except (OSError, asyncpg.PostgresError) as refused:
        return f"the services cannot log in: {refused}"
    before: list[Acknowledged] = []
    reasons: list[str] = []
    for table, journey in TABLES.items():
        try:
            hashed = "encode(sha256(convert_to(payload, 'UTF8')), 'hex') as hash"
            rows = await connection.fetch(f"select id, {hashed} from {table} where writer = 'w'")  # noqa: S608 - as above
        except asyncpg.PostgresError as broken:
            return f"{table} cannot be read: {broken}"
        ledger, writes = _ledger(made, table, journey, [(row["id"], row["hash"]) for row in rows])
        own = acknowledged(writes, ledger, made.fire_ns + 60 * NS_PER_S)
        before += own
        if not rows:
            reasons.append(f"{table} is empty")
        for category in ("unexpected", "duplicated", "corrupt", "resurrected"):
            if ids := ledger.ids(category):
                reasons.append(f"{len(ids)} of {table} {category}, such as {min(ids)}")
        found.rpo_s = max(found.rpo_s, ledger.rpo_s)
    await connection.close()
    found.lost = sum(write.lost for write in before)
    if (ends_ns is not None and (why := why_not_the_end(before, ends_ns))) or (
        ends_ns is None and found.lost and (why := why_not_the_end(before, max(w.acked_ns for w in before)))
    ):
        reasons.append(why)
    if until is None and found.rpo_s > RPO_S:
        reasons.append(f"the backup is stale: {found.lost} lost, the oldest {found.rpo_s:.1f} s before the fire")
    return "; ".join(reasons)


def _ledger(made: Made, table: str, journey: str, items: Sequence[tuple[str, str]]) -> tuple[Ledger, Writes]:
    ids = Ids()
    writes = Writes(ids)
    writes.add(made.writes[table])
    at_ns = made.fire_ns + 30 * NS_PER_S
    read = LedgerRead(
        t_ns=at_ns, journey=journey, service=table, writer="w", begin_ns=at_ns, end_ns=at_ns, ok=True, site="restored",
        final=True, items=list(items),
    )  # fmt: skip
    fire = Injection("fire", "site.destroy", "both", made.fire_ns, made.fire_ns, None, None, True, True)
    return ledger_of(writes, [Reading.of(read, ids)], [fire]), writes
