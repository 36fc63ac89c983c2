"""talk with a cache in each site: a page is built once, kept for a while, and built for only so many readers at a time.

CACHE: host:port of the site's Valkey. Without an answer of it, pages come from the database, as far as it can bear that.
PAGE_DISK_MS: for how long building a page keeps the only disk of its database node busy. PAGE_CPU_MS: the processor time that
building a page costs this replica. With both, what a replica can do is the same on machines of any speed. PAGES_AT_ONCE: how
many are built at the same time.

Who cannot have a page built soon gets it as it was, if the cache still has it, and is refused with 429 otherwise, before
anything was done. A page that the database does not answer in time is a 503: that is no refusal, and nobody declared it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from aiohttp import web
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from connections import NotExecuted, Unknown
from postgres import Database
from talk import LATEST, Pages, talk
from web_service import serve

CACHE_S = 0.1  # for an answer of the cache; without one it is as if it were empty
FRESH_S = 30.0  # more or less: pages that were built in one second must not all be built again in another
KEPT_S = 600.0  # for those who would be refused otherwise
PATIENCE_S = 0.1  # how long a reader waits until a page may be built
READERS_MAX = 64  # characters of a name

# The lock is the disk: it has one, and reads a page in $2 seconds. Who waits for it costs the node no processor time.
_FROM_DISK = f"SELECT pg_advisory_xact_lock(1) IS NULL, pg_sleep($2) IS NULL, ({LATEST})"


class Kept(NamedTuple):
    """A page from the cache."""

    page: bytes
    is_fresh: bool


class Cache:
    """The site's Valkey. One that does not answer knows nothing, and keeps nothing. A value: fresh until when, and the page."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._valkey = Valkey(host=host, port=int(port), socket_timeout=CACHE_S, socket_connect_timeout=CACHE_S)

    def start(self) -> None:
        """Connections are made as they are needed."""

    async def stop(self) -> None:
        await self._valkey.aclose()

    async def get(self, key: str) -> Kept | None:
        found: bytes | None = None
        with contextlib.suppress(ValkeyError, OSError, TimeoutError):
            found = await self._valkey.get(key)
        if found is None:
            return None
        until_s, _, page = found.partition(b" ")
        return Kept(page, time.time() < float(until_s))

    async def put(self, key: str, page: bytes) -> None:
        until_s = time.time() + FRESH_S * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        with contextlib.suppress(ValkeyError, OSError, TimeoutError):
            await self._valkey.set(key, b"%.3f %b" % (until_s, page), px=round(KEPT_S * 1000))


class Builder:
    """Builds pages from the database, at the declared cost."""

    def __init__(self, nodes: Database, *, disk_s: float, cpu_s: float) -> None:
        self._nodes, self._disk_s, self._cpu_s = nodes, disk_s, cpu_s
        self._processor = asyncio.Lock()  # one page after the other

    async def build(self, limit: int) -> bytes:
        """Raises Unknown when the database does not answer in time."""
        try:
            row = await self._nodes.anywhere(_FROM_DISK, limit, self._disk_s)
        except NotExecuted as why:
            raise Unknown(str(why)) from why
        if self._cpu_s:
            async with self._processor:
                await asyncio.to_thread(_compute, self._cpu_s)
        return row[2].encode() if row else b"[]"


def _compute(cpu_s: float) -> None:
    """Use this much processor time, however long that takes. Hashing this much at once lets other threads run."""
    end_s = time.thread_time() + cpu_s
    while time.thread_time() < end_s:
        hashlib.sha256(bytes(32_768))


class Gate:
    """Lets a few in. Who cannot enter within `PATIENCE_S` is refused."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Raises NotExecuted."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._places.acquire()
        except TimeoutError:
            raise NotExecuted("too many pages are being built") from None
        try:
            yield
        finally:
            self._places.release()


class CachedPages:
    """Pages from the cache. One that it does not have is built once, however many ask for it, behind a gate."""

    def __init__(self, cache: Cache, builder: Builder) -> None:
        self._cache, self._builder = cache, builder
        self._gate = Gate(int(os.environ["PAGES_AT_ONCE"]))
        self._building: dict[str, asyncio.Task[bytes]] = {}

    async def page(self, reader: str, limit: int) -> bytes:
        key = page_key(reader, limit)
        kept = await self._cache.get(key)
        if kept is not None and kept.is_fresh:
            return kept.page
        try:
            return await asyncio.shield(self._building.get(key) or self._build_soon(key, limit))
        except (NotExecuted, Unknown):
            if kept is None:
                raise
            return kept.page

    def _build_soon(self, key: str, limit: int) -> asyncio.Task[bytes]:
        task = asyncio.create_task(self._build(key, limit))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._building[key] = task
        return task

    async def _build(self, key: str, limit: int) -> bytes:
        try:
            async with self._gate.entered():
                page = await self._builder.build(limit)
            await self._cache.put(key, page)
            return page
        finally:
            del self._building[key]


def page_key(reader: str, limit: int) -> str:
    """Of a page in the cache."""
    return f"page:{limit}:{reader[:READERS_MAX]}"


def talk_cached(make_pages: Callable[[Cache, Builder], Pages] = CachedPages) -> web.Application:
    """The service with a cache. Needs what talk needs, and CACHE, PAGE_DISK_MS, PAGE_CPU_MS and PAGES_AT_ONCE."""
    cache = Cache(os.environ["CACHE"])
    disk_s, cpu_s = (float(os.environ[f"PAGE_{kind}_MS"]) / 1000 for kind in ("DISK", "CPU"))
    return talk(lambda nodes: make_pages(cache, Builder(nodes, disk_s=disk_s, cpu_s=cpu_s)), [cache])


if __name__ == "__main__":
    serve(talk_cached)
