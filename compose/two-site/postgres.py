"""The services' way to the database: who leads now, and statements that always end in time, with an honest outcome.

Two failures are told apart, because a ledger depends on it:
    NotTried   the statement was certainly not executed: it may be repeated, nothing happened
    Unknown    it may have been executed: the answer did not come, or not whole
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import asyncpg

CONNECT_S = 1.0
STATEMENT_S = 1.0
ANYWHERE_S = 0.5  # for one node of several that may answer a read
QUEUE_S = 0.4  # how long to wait for a free connection
WATCH_S = 0.3  # pause between two looks at a node
CONNECTIONS = 10  # to each node

# 0 on a standby; on a leader its timeline, which grows with every promotion.
_ROLE = """
SELECT CASE WHEN pg_is_in_recovery() THEN 0
       ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END
"""

Row = Any  # asyncpg.Record, which has no types


class NotTried(Exception):
    """The statement was certainly not executed."""


class Unknown(Exception):
    """The statement may or may not have been executed."""


async def execute(connection: Any, sql: str, arguments: Sequence[Any], timeout_s: float) -> Row | None:
    """The first row of one statement. A connection that does not answer in time is cut, not asked to cancel.

    A cancel would travel over a connection of its own, hang with the first, and arrive when the link heals.
    """
    answer = asyncio.ensure_future(connection.fetchrow(sql, *arguments))
    answer.add_done_callback(_observe)
    try:
        done, _ = await asyncio.wait({answer}, timeout=timeout_s)
        if done:
            return answer.result()
    finally:
        if not answer.done():
            connection.terminate()
    raise Unknown(f"no answer within {timeout_s:.1f} s")


def _observe(answer: asyncio.Future[Any]) -> None:
    """Look at the outcome, so that one nobody waits for any more is not reported as forgotten."""
    if not answer.cancelled():
        answer.exception()


class Node:
    """One database node: what it last said it is, and a few connections to it."""

    def __init__(self, address: str, *, user: str, password: str, database: str) -> None:
        host, _, port = address.rpartition(":")
        self.address = address
        self.role: int | None = None  # None: does not answer; 0: standby; else: the timeline that it leads
        self._login = {"host": host, "port": int(port), "user": user, "password": password, "database": database}
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[Any] = []

    async def watch(self) -> None:
        """Keep `role` true to within about a second, for ever."""
        connection: Any = None
        while True:
            try:
                if connection is None or connection.is_closed():
                    connection = await self._connect()
                row = await execute(connection, _ROLE, (), STATEMENT_S)
                self.role = row[0] if row else None
            except (NotTried, Unknown, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self.role = None
            await asyncio.sleep(WATCH_S)

    async def fetch(self, sql: str, *arguments: Any, timeout_s: float = STATEMENT_S) -> Row | None:
        """The first row of one statement. Raises NotTried or Unknown."""
        await self._take_slot()
        try:
            connection = self._from_idle() or await self._connect()
            try:
                row = await execute(connection, sql, arguments, timeout_s)
            except asyncpg.ReadOnlySQLTransactionError as standby:
                raise NotTried(f"{self.address} is a standby") from standby
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as broken:
                connection.terminate()
                raise Unknown(f"{self.address}: {broken}") from broken
            self._idle.append(connection)
            return row
        finally:
            self._slots.release()

    async def _take_slot(self) -> None:
        try:
            async with asyncio.timeout(QUEUE_S):
                await self._slots.acquire()
        except TimeoutError:
            raise NotTried(f"all connections to {self.address} are busy") from None

    def _from_idle(self) -> Any | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _connect(self) -> Any:
        try:
            return await asyncpg.connect(**self._login, timeout=CONNECT_S, ssl=False)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as failed:
            raise NotTried(f"{self.address}: {failed}") from failed


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

    async def on_leader(self, sql: str, *arguments: Any) -> Row | None:
        """Raises NotTried when no node leads."""
        leader = self.leader
        if leader is None:
            raise NotTried("no database node leads")
        return await leader.fetch(sql, *arguments)

    async def anywhere(self, sql: str, *arguments: Any, leader_first: bool = False) -> Row | None:
        """For reads only: by the first node that answers, maybe a standby a moment behind. Raises NotTried when none does."""
        nodes = [node for node in self.nodes if node.role is not None]
        for node in sorted(nodes, key=lambda node: -(node.role or 0)) if leader_first else nodes:
            with contextlib.suppress(NotTried, Unknown):
                return await node.fetch(sql, *arguments, timeout_s=ANYWHERE_S)
        raise NotTried("no database node answers")

    async def on_local(self, sql: str, *arguments: Any) -> Row | None:
        """By the own site's node and no other."""
        return await self.nodes[0].fetch(sql, *arguments)
