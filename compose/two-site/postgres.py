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

TAKE_S = 0.6  # for a connection, free or new
STATEMENT_S = 0.9
ANYWHERE_S = 0.25  # each of the two, where another node may answer as well
WATCH_S = 0.3  # pause between two looks at a node
CONNECTIONS = 10  # to each node
WARM = 3  # of these, opened before a node that came back is used

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
        self._watching: Any = None

    async def watch(self) -> None:
        """Keep `role` true to within a second or two, for ever. One look that fails may be a hiccup; two are not."""
        failed = 0
        while True:
            try:
                role = await self._look()
                failed = 0
                if self.role is None:
                    await self._warm_up()
                self.role = role
            except (NotTried, Unknown):
                failed += 1
                self.role = self.role if failed < 2 else None
            await asyncio.sleep(WATCH_S)

    async def _look(self) -> int | None:
        """Over a connection of its own, so that a busy service does not take its database for dead."""
        if self._watching is None or self._watching.is_closed():
            self._watching = await self._connect(STATEMENT_S)
        row = await self._ask(self._watching, _ROLE, (), STATEMENT_S)
        return row[0] if row else None

    async def _warm_up(self) -> None:
        while len(self._idle) < WARM:
            self._idle.append(await self._connect(STATEMENT_S))

    async def fetch(self, sql: str, *arguments: Any, take_s: float = TAKE_S, statement_s: float = STATEMENT_S) -> Row | None:
        """The first row of one statement, within `take_s + statement_s`. Raises NotTried or Unknown."""
        begun = asyncio.get_running_loop().time()
        await self._take_slot(take_s)
        try:
            left_s = take_s - (asyncio.get_running_loop().time() - begun)
            connection = self._from_idle() or await self._connect(left_s)
            row = await self._ask(connection, sql, arguments, statement_s)
            self._idle.append(connection)
            return row
        finally:
            self._slots.release()

    def close(self) -> None:
        """Cut every connection that nobody uses."""
        for connection in [*self._idle, *([self._watching] if self._watching else [])]:
            connection.terminate()
        self._idle.clear()

    async def _take_slot(self, take_s: float) -> None:
        try:
            async with asyncio.timeout(take_s):
                await self._slots.acquire()
        except TimeoutError:
            raise NotTried(f"all connections to {self.address} are busy") from None

    def _from_idle(self) -> Any | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _connect(self, timeout_s: float) -> Any:
        try:
            return await asyncpg.connect(**self._login, timeout=max(timeout_s, 0.01), ssl=False)
        except Exception as failed:  # whatever it was: there is no connection
            raise NotTried(f"{self.address}: {failed!r}") from failed

    async def _ask(self, connection: Any, sql: str, arguments: Sequence[Any], timeout_s: float) -> Row | None:
        """A connection that fails in any way is not used again."""
        try:
            return await execute(connection, sql, arguments, timeout_s)
        except Unknown:
            raise
        except asyncpg.ReadOnlySQLTransactionError as standby:
            connection.terminate()
            raise NotTried(f"{self.address} is a standby") from standby
        except Exception as broken:  # whatever it was: it does not prove that nothing happened
            connection.terminate()
            raise Unknown(f"{self.address}: {broken!r}") from broken


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

    async def anywhere(self, sql: str, *arguments: Any, leader_first: bool = False) -> Row | None:
        """For reads only: by the first node that answers, maybe a standby a moment behind. Raises NotTried when none does."""
        nodes = [node for node in self.nodes if node.role is not None]
        for node in sorted(nodes, key=lambda node: -(node.role or 0)) if leader_first else nodes:
            with contextlib.suppress(NotTried, Unknown):
                return await node.fetch(sql, *arguments, take_s=ANYWHERE_S, statement_s=ANYWHERE_S)
        raise NotTried("no database node answers")

    async def on_local(self, sql: str, *arguments: Any) -> Row | None:
        """By the own site's node and no other."""
        return await self.nodes[0].fetch(sql, *arguments)
