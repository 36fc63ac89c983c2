"""The pool against a real server: a burst waits for the connections that there are, and only a longer need opens more."""

from __future__ import annotations

import asyncio

import pytest

from connections import WARM, NotExecuted, Pool

PASSWORD = "for-tests-only"


@pytest.fixture
async def pool(leader):
    made = Pool(leader.address, user="app", password=PASSWORD, database="app")
    await made.warm_up()
    yield made
    made.close()


async def used_by(pool: Pool, sql: str, times: int) -> set[int]:
    """The backends that answered the same statement, asked so many times at once."""
    asked = (pool.fetch(sql, (), take_s=2, statement_s=2) for _ in range(times))
    return {row[0] for row in await asyncio.gather(*asked)}


async def test_a_burst_of_short_statements_opens_nothing(pool):
    assert len(await used_by(pool, "SELECT pg_backend_pid()", times=12)) <= WARM


async def test_statements_that_take_long_get_connections_of_their_own(pool):
    assert len(await used_by(pool, "SELECT pg_backend_pid(), pg_sleep(0.5)", times=WARM + 2)) == WARM + 2


async def test_who_finds_no_connection_in_time_has_tried_nothing(pool):
    """The server is full of what takes long, and the request says so in time."""
    held = asyncio.gather(*(pool.fetch("SELECT pg_sleep(1)", (), take_s=2, statement_s=3) for _ in range(20)))
    await asyncio.sleep(0.2)
    with pytest.raises(NotExecuted):
        await pool.fetch("SELECT 1", (), take_s=0.1, statement_s=1)
    await held
