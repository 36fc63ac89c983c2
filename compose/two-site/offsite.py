"""The archive's server, outside both sites: receives WAL, takes base backups of the leader, and plans restores.

LISTEN                host:port
ARCHIVE_DATA          folder that survives the process
DATABASE              host:port of each database node, separated by commas; if empty, no base backups are taken
REPLICATION_PASSWORD  of the role `replicator`
BASE_EVERY_S          seconds between two base backups (30); BASES: how many are kept (2)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import IO

from aiohttp import web

from archive import Archive, Refused
from database import TOOLS
from restore_plan import NotRestorable, Plan, plan
from web_service import json_answer

SEGMENT_MAX = 65 * 1024 * 1024  # somewhat more than the largest segment that an overlay sets
RETRY_S = 1.0
_BASE_TIMEOUT_S = 60.0
_ERROR_MAX = 300


Planner = Callable[[Archive, Path, datetime | Random | None], Plan]
Say = Callable[[str], object]


def offsite(planner: Planner = plan) -> web.Application:
    """The server as an application."""
    env = os.environ
    archive = Archive(Path(env["ARCHIVE_DATA"]))

    async def put_wal(request: web.Request) -> web.Response:
        try:
            await asyncio.to_thread(archive.put_wal, _name(request), await request.read())
        except Refused as refused:
            return _error(str(refused), 409)
        return web.Response()

    async def get_wal(request: web.Request) -> web.StreamResponse:
        path = archive.wal / _name(request)
        return web.FileResponse(path) if path.is_file() else _error(f"no {path.name}", 404)

    async def get_base(request: web.Request) -> web.StreamResponse:
        """As a tar file."""
        folder = archive.bases / _name(request)
        if not folder.is_dir():
            return _error(f"no base backup {folder.name}", 404)
        answer = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await answer.prepare(request)
        with tempfile.TemporaryFile() as packed:
            await asyncio.to_thread(_pack, folder, packed)
            while piece := await asyncio.to_thread(packed.read, 1 << 20):
                await answer.write(piece)
        return answer

    async def status(_: web.Request) -> web.Response:
        return json_answer(json.dumps(await asyncio.to_thread(archive.status)).encode())

    async def planned(request: web.Request) -> web.Response:
        until = request.query.get("until", "latest")
        try:
            known = {"latest": None, "random": Random()}  # noqa: S311 - it picks a point in time, and keeps no secret
            moment = known[until] if until in known else _moment(until)
            found = await asyncio.to_thread(planner, archive, TOOLS, moment)
        except NotRestorable as refused:
            return json_answer(json.dumps({"problems": [*map(str, refused.problems)]}).encode(), 409)
        except ValueError:
            return _error(f"{until!r} is neither a moment, nor latest or random", 400)
        return json_answer(json.dumps(asdict(found)).encode())

    async def lifespan(_: web.Application) -> AsyncIterator[None]:
        taking = asyncio.create_task(take_bases(archive)) if env["DATABASE"] else None
        yield
        if taking is not None:
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await taking

    app = web.Application(client_max_size=SEGMENT_MAX)
    app.cleanup_ctx.append(lifespan)
    app.router.add_put("/wal/{name}", put_wal)
    app.router.add_get("/wal/{name}", get_wal)
    app.router.add_get("/base/{name}", get_base)
    app.router.add_get("/status", status)
    app.router.add_get("/plan", planned)
    return app


def _moment(text: str) -> datetime:
    """From ISO 8601; without a time zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _name(request: web.Request) -> str:
    """The last part of the path, which names a file of the archive and nothing outside it."""
    name = request.match_info["name"]
    if name.startswith(".") or not all(letter.isalnum() or letter in ".-_" for letter in name):
        raise web.HTTPBadRequest(text=json.dumps({"error": f"{name!r} is not a name"}), content_type="application/json")
    return name


def _error(why: str, status: int) -> web.Response:
    return json_answer(json.dumps({"error": why}).encode(), status)


def _pack(folder: Path, into: IO[bytes]) -> None:
    with tarfile.open(fileobj=into, mode="w") as packed:
        packed.add(folder, arcname=".")
    into.seek(0)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


async def take_bases(archive: Archive, say: Say = _say) -> None:
    """A base backup whenever one is due, forever; the first at once. One that fails is tried again."""
    env = os.environ
    every_s, kept = float(env.get("BASE_EVERY_S", "30")), int(env.get("BASES", "2"))
    while True:
        complete = False
        try:
            complete = await _take_base_backup(archive, env["DATABASE"].split(","), env["REPLICATION_PASSWORD"], say)
            if complete:
                archive.remove_old_bases(kept)
        except OSError as failed:  # above all a full disk
            say(f"no base backup: {failed}")
        await asyncio.sleep(every_s if complete else RETRY_S)


async def _take_base_backup(archive: Archive, nodes: list[str], password: str, say: Say) -> bool:
    """One backup of the leader; the WAL that it needs is archived before it counts as complete."""
    part = archive.folder / "part"
    shutil.rmtree(part, ignore_errors=True)
    archive.folder.mkdir(parents=True, exist_ok=True)
    hosts, ports = (",".join(node.rpartition(":")[place] for node in nodes) for place in (0, 2))
    leader = f"host={hosts} port={ports} user=replicator target_session_attrs=read-write connect_timeout=2"
    how = ["--wal-method=none", "--checkpoint=fast", "--manifest-checksums=SHA256", "--no-password"]
    child = await asyncio.create_subprocess_exec(
        *[str(TOOLS / "pg_basebackup"), "--dbname", leader, "--pgdata", str(part), *how],
        env={**os.environ, "PGPASSWORD": password, "LC_ALL": "C"},
        stderr=asyncio.subprocess.PIPE,
    )
    error = b"it took too long"  # a cut-off node never answers
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BASE_TIMEOUT_S):
                _, error = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        say(f"no base backup: {error.decode(errors='replace')[-_ERROR_MAX:].strip()}")
        return False
    system = str(int.from_bytes((part / "global" / "pg_control").read_bytes()[:8], "little"))
    name = await asyncio.to_thread(archive.put_base, part, system)
    say(f"base backup {name} is complete")
    return True


def main(planner: Planner = plan) -> None:
    host, _, port = os.environ["LISTEN"].rpartition(":")
    web.run_app(offsite(planner), host=host, port=int(port), access_log=None, print=None, shutdown_timeout=1.0)


if __name__ == "__main__":
    main()
