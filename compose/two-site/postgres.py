"""The services' way to the database: who leads now, and which node to ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from connections import NotTried, Pool, Row, Unknown, answer_of

TAKE_S = 0.6  # for a connection
STATEMENT_S = 0.9
ANYWHERE_S = 0.25  # each of the two, where another node may answer as well
WATCH_S = 0.3  # pause between two looks at a node

# 0 on a standby; on a leader its timeline, which grows with every promotion.
_ROLE = """
SELECT CASE WHEN pg_is_in_recovery() THEN 0
       ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END
"""


class Node:
    """One database node, and what it last said it is."""

    def __init__(self, pool: Pool) -> None:
        self.role: int | None = None  # None: does not answer; 0: standby; else: the timeline that it leads
        self._pool = pool
        self._watching: Any = None

    async def watch(self) -> None:
        """Keep `role` true to within a second or two, for ever. One look that fails may be a hiccup; two are not."""
        failed = 0
        while True:
            try:
                role = await self._look()
                failed = 0
                if self.role is None:
                    await self._pool.warm_up()
                self.role = role
            except (NotTried, Unknown):
                failed += 1
                self.role = self.role if failed < 2 else None
            await asyncio.sleep(WATCH_S)

    async def _look(self) -> int | None:
        """Over a connection of its own, so that a busy service does not take its database for dead."""
        if self._watching is None or self._watching.is_closed():
            self._watching = await self.open_one()
        row = await answer_of(self._watching, _ROLE, (), STATEMENT_S)
        return row[0] if row else None

    async def fetch(self, sql: str, *arguments: Any, take_s: float = TAKE_S, statement_s: float = STATEMENT_S) -> Row | None:
        """The first row of one statement, within `take_s + statement_s`. Raises NotTried or Unknown."""
        return await self._pool.fetch(sql, arguments, take_s=take_s, statement_s=statement_s)

    async def open_one(self) -> Any:
        """A connection for the caller alone, who has to end it. Raises NotTried."""
        return await self._pool.open_one()

    def close(self) -> None:
        """Cut every connection that nobody uses."""
        if self._watching is not None:
            self._watching.terminate()
        self._pool.close()


class Database:
    """All nodes; the first is the one in the caller's own site."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)
        self._watches: list[asyncio.Task[None]] = []

    @property
    def leader(self) -> Node | None:
        """The node that leads; of two that claim to, the one that was promoted later."""
        leaders = [node for node in self.nodes if node.role]
        return max(leaders, key=lambda node: node.role or 0, default=None)

    @property
    def answers(self) -> bool:
        """Whether any node does, leader or not."""
        return any(node.role is not None for node in self.nodes)

    def start(self) -> None:
        self._watches = [asyncio.create_task(node.watch()) for node in self.nodes]

    async def stop(self) -> None:
        for watch in self._watches:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        for node in self.nodes:
            node.close()

    async def on_leader(self, sql: str, *arguments: Any) -> Row | None:
        """Raises NotTried when no node leads."""
        leader = self.leader
        if leader is None:
            raise NotTried("no database node leads")
        return await leader.fetch(sql, *arguments)

    async def anywhere(self, sql: str, *arguments: Any) -> Row | None:
        """For reads only: by the nearest node that answers, maybe a standby a moment behind. Raises NotTried when none does."""
        for node in [node for node in self.nodes if node.role is not None]:
            with contextlib.suppress(NotTried, Unknown):
                return await node.fetch(sql, *arguments, take_s=ANYWHERE_S, statement_s=ANYWHERE_S)
        raise NotTried("no database node answers")

    async def on_local(self, sql: str, *arguments: Any) -> Row | None:
        """By the own site's node and no other."""
        return await self.nodes[0].fetch(sql, *arguments)
