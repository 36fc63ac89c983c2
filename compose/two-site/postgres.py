"""How the services reach the database: which node leads, and which node to query.

When a leader hands over to another node, as in a planned switchover, it shows: it ends its connections, refuses new ones, or
reports that it is a standby. Then statements wait for the next leader instead of failing. A leader that is lost sends nothing,
and nobody knows whether another node will take over: statements fail at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from connections import NotExecuted, Pool, Row, Unknown, answer_of

CONNECTION_WAIT_S = 0.6  # for a connection
STATEMENT_S = 0.9
ANYWHERE_S = 0.25  # the limit of each of the two, if another node may answer as well
WATCH_S = 0.3  # pause between two checks of a node
HANDOVER_S = 6.0  # how long statements wait for the next leader; a switchover takes about 3 s
RETRY_S = 0.05  # pause between attempts during that time
RECENT_S = 2.0  # a node that answered within this time counts as up

# 0 on a standby; on a leader its timeline, which grows with every promotion.
_ROLE = """
SELECT CASE WHEN pg_is_in_recovery() THEN 0
       ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END
"""


class Node:
    """One database node, and the role that it last reported."""

    def __init__(self, pool: Pool) -> None:
        self.role: int | None = None  # None: does not answer; 0: standby; else: the timeline that it leads
        self.stepped_down_at = -math.inf  # when it last reported that it no longer leads, on the monotonic clock
        self.answered_at = -math.inf  # the last check
        self._pool = pool
        self._watching: Any = None

    async def watch(self) -> None:
        """Keep `role` up to date to within a second or two, forever. One failed check may be a hiccup; two are not."""
        failed = 0
        while True:
            try:
                role = await self._check()
                failed = 0
                self.answered_at = time.monotonic()
                if self.role is None:
                    await self._pool.warm_up()
                self._set_role(role)
            except (NotExecuted, Unknown) as why:
                failed += 1
                if why.by_node:
                    self._set_role(None)
                elif failed > 1:
                    self.role = None
            await asyncio.sleep(WATCH_S)

    def _set_role(self, role: int | None) -> None:
        """Note a role that the node itself reported."""
        if self.role and not role:
            self.stepped_down_at = time.monotonic()
        self.role = role

    async def _check(self) -> int | None:
        """Over a connection of its own, so that a busy service does not consider its database dead."""
        if self._watching is None or self._watching.is_closed():
            self._watching = await self.open_one()
        row = await answer_of(self._watching, _ROLE, (), STATEMENT_S)
        return row[0] if row else None

    async def fetch(
        self, sql: str, *arguments: Any, take_s: float = CONNECTION_WAIT_S, statement_s: float = STATEMENT_S
    ) -> Row | None:
        """The first row of one statement, within `take_s + statement_s`. Raises NotExecuted or Unknown."""
        try:
            return await self._pool.fetch(sql, arguments, take_s=take_s, statement_s=statement_s)
        except (NotExecuted, Unknown) as why:
            if why.by_node:
                self._set_role(None)  # until the next check
            raise

    async def open_one(self) -> Any:
        """A connection for the caller alone, who has to close it. Raises NotExecuted."""
        return await self._pool.open_one()

    def close(self) -> None:
        """Cut every connection that nobody uses."""
        if self._watching is not None:
            self._watching.terminate()
        self._pool.close()


class Database:
    """All nodes; the first is the one in the caller's own site.

    `handover_s`: how long statements wait while one node follows another as the leader. A statement whose answer was lost
    meanwhile is repeated, so each must be idempotent: a read, or a record that is stored once by its id.
    """

    def __init__(self, nodes: Sequence[Node], handover_s: float = HANDOVER_S) -> None:
        self.nodes = list(nodes)
        self._handover_s = handover_s
        self._watches: list[asyncio.Task[None]] = []

    @property
    def leader(self) -> Node | None:
        """The node that leads; of two that claim to, the one that was promoted later."""
        leaders = [node for node in self.nodes if node.role]
        return max(leaders, key=lambda node: node.role or 0, default=None)

    @property
    def answers(self) -> bool:
        """Whether any node answers, leader or not."""
        return any(node.role is not None for node in self.nodes)

    @property
    def is_handing_over(self) -> bool:
        """Whether a leader stepped down a moment ago, and another node is up that can take over, or has done so."""
        now = time.monotonic()
        left = [node for node in self.nodes if now - node.stepped_down_at < self._handover_s]
        return any(now - other.answered_at < RECENT_S for node in left for other in self.nodes if other is not node)

    @property
    def takes_writes(self) -> bool:
        """Whether a node leads, or is about to."""
        return self.leader is not None or self.is_handing_over

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
        """Raises NotExecuted when no node leads; during a handover, only after `handover_s`."""

        async def ask() -> Row | None:
            leader = self.leader
            if leader is None:
                raise NotExecuted("no database node leads")
            return await leader.fetch(sql, *arguments)

        return await self._retry_during_handover(ask)

    async def anywhere(self, sql: str, *arguments: Any) -> Row | None:
        """For reads only: by the nearest node that answers, perhaps a standby that lags. Raises NotExecuted if none does."""

        async def ask() -> Row | None:
            for node in [node for node in self.nodes if node.role is not None]:
                with contextlib.suppress(NotExecuted, Unknown):
                    return await node.fetch(sql, *arguments, take_s=ANYWHERE_S, statement_s=ANYWHERE_S)
            raise NotExecuted("no database node answers")

        return await self._retry_during_handover(ask)

    async def _retry_during_handover(self, ask: Callable[[], Awaitable[Row | None]]) -> Row | None:
        """Ask, and repeat that for as long as a leader hands over. Raises as `ask` does."""
        until = time.monotonic() + self._handover_s
        while True:
            try:
                return await ask()
            except (NotExecuted, Unknown):
                if not self.is_handing_over or time.monotonic() >= until:
                    raise
            await asyncio.sleep(RETRY_S)

    async def on_local(self, sql: str, *arguments: Any) -> Row | None:
        """By the node of the caller's own site, and no other."""
        return await self.nodes[0].fetch(sql, *arguments)
