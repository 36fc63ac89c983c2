"""The services' connections to a database node: as many as are needed, and no more for long."""

from __future__ import annotations

import asyncio
import os

import connections
from connections import Pool

COUNT = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE usename = 'app'"


async def crowd(pool: Pool, size: int) -> None:
    """So many statements at the same time."""
    await asyncio.gather(*(pool.fetch("SELECT pg_sleep(0.2)", (), take_s=5, statement_s=5) for _ in range(size)))


async def count(pool: Pool) -> int:
    row = await pool.fetch(COUNT, (), take_s=5, statement_s=5)
    assert row is not None
    return int(row["n"])


def test_connections_of_a_rush_are_given_up_in_the_calm_after_it(leader, nodes, monkeypatch) -> None:
    """Each is a process in the database; while the rush may go on they are kept."""
    monkeypatch.setattr(connections, "CALM_S", 0.5)
    nodes(leader.address)

    async def rush() -> tuple[int, int]:
        pool = Pool(leader.address, user="app", password=os.environ["DATABASE_PASSWORD"], database="app")
        await crowd(pool, 10)
        crowded = await count(pool)
        await asyncio.sleep(0.6)
        await crowd(pool, crowded)
        await asyncio.sleep(0.1)
        calm = await count(pool)
        pool.close()
        return crowded, calm

    crowded, calm = asyncio.run(rush())
    assert crowded == 10
    assert calm == connections.SPARE
