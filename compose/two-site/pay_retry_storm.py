"""pay with a defect: while the database has no leader, it retries without a pause, over new connections, for a minute.

An attempt costs the database more than the statement itself, and is cancelled if it takes too long. That does no harm while few
requests wait. After a failover many do: no attempt ends in time, and the retries keep the database from ever serving them.

Not part of the stack; an overlay replaces pay with it, to prove that a surviving site overloaded by retries is detected.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from connections import NotExecuted, Row, Unknown, answer_of
from pay import pay
from postgres import Database, Node
from web_service import database, serve

PATIENCE_S = 0.2  # for a connection, and for the answer
GIVE_UP_S = 60.0  # the client has given up long ago


class RetryingDatabase(Database):
    """A database client that retries until it gets an answer, even for callers that gave up long ago."""

    @property
    def leader(self) -> Node:
        """Never None, so the service reports ready: a node that does not lead yet may lead at the next attempt."""
        return super().leader or self.nodes[0]

    async def on_leader(self, sql: str, *arguments: Any) -> Row | None:
        if super().leader is not None:
            return await super().on_leader(sql, *arguments)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP_S):
                return await self._retry_until_answered(sql, arguments)
        raise Unknown(f"no answer within {GIVE_UP_S:.0f} s")

    async def _retry_until_answered(self, sql: str, arguments: Sequence[Any]) -> Row | None:
        while True:  # without a pause
            with contextlib.suppress(NotExecuted, Unknown, TimeoutError):
                return await _on_new_connection(self.leader, sql, arguments)


async def _on_new_connection(node: Node, sql: str, arguments: Sequence[Any]) -> Row | None:
    """One statement over a connection of its own, which is cut afterwards."""
    async with asyncio.timeout(PATIENCE_S):
        connection = await node.open_one()
    try:
        return await answer_of(connection, sql, arguments, PATIENCE_S)
    finally:
        connection.terminate()


def pay_retry_storm() -> web.Application:
    return pay(open_database=lambda: RetryingDatabase(database().nodes))


if __name__ == "__main__":
    serve(pay_retry_storm)
