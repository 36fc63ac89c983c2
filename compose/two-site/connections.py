"""Connections to one database node: statements that always end in time, with a truthful outcome.

Two failures are by_node apart, because a ledger depends on it:
    NotExecuted   the statement was certainly not executed, and may be repeated
    Unknown       it may have been executed: no answer came, or only a part of one

`by_node` is true if the node itself refused or ended the statement, as it does when it shuts down, restarts or has become a
standby. A node that is lost sends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import asyncpg

CONNECT_S = 2.0  # several round trips: over a slow link, longer than a request would wait
CONNECTIONS = 16
WARM = 3  # of these, open before a node that came back is used
PATIENCE_S = 0.03  # a connection in use is usually free again sooner than a new one could be opened

Row = Any  # asyncpg.Record, which has no types


class NotExecuted(Exception):
    """The statement was certainly not executed. `by_node`: the node itself refused it."""

    def __init__(self, why: str, *, by_node: bool = False) -> None:
        super().__init__(why)
        self.by_node = by_node


class Unknown(Exception):
    """The statement may or may not have been executed. `by_node`: the node itself ended it, or its connection."""

    def __init__(self, why: str, *, by_node: bool = False) -> None:
        super().__init__(why)
        self.by_node = by_node


# How a node answers, or ends its connections, when it shuts down, starts up, or closes connections that it had accepted.
_BY_NODE = (
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,  # closed in the middle of a statement
    ConnectionError,  # refused, reset, or accepted and closed, by a relay in front of it
)


async def answer_of(connection: Any, sql: str, arguments: Sequence[Any], timeout_s: float) -> Row | None:
    """The first row of one statement. Raises NotExecuted or Unknown; a connection that fails in any way is cut."""
    try:
        return await _in_time(connection, sql, arguments, timeout_s)
    except Unknown:
        raise
    except asyncpg.ReadOnlySQLTransactionError as standby:
        connection.terminate()
        raise NotExecuted("this node is a standby", by_node=True) from standby
    except Exception as broken:  # whatever it was: it does not prove that nothing happened
        was_closed = connection.is_closed()
        connection.terminate()
        raise Unknown(repr(broken), by_node=was_closed or isinstance(broken, _BY_NODE)) from broken


async def _in_time(connection: Any, sql: str, arguments: Sequence[Any], timeout_s: float) -> Row | None:
    """A connection that does not answer in time is cut, not asked to cancel.

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


def _observe(done: asyncio.Future[Any]) -> None:
    """Retrieve the outcome, so that asyncio does not report an exception that was never retrieved."""
    if not done.cancelled():
        done.exception()


class Pool:
    """A few connections. New ones are opened in the background, so that no request waits for a whole connection setup."""

    def __init__(self, address: str, *, user: str, password: str, database: str) -> None:
        host, _, port = address.rpartition(":")
        self._login = {"host": host, "port": int(port), "user": user, "password": password, "database": database}
        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        self._used = 0
        self._opening: set[asyncio.Task[None]] = set()

    async def open_one(self) -> Any:
        """A new connection, outside the pool. Raises NotExecuted."""
        try:
            return await asyncpg.connect(**self._login, timeout=CONNECT_S, ssl=False)
        except Exception as failed:  # whatever it was: there is no connection
            raise NotExecuted(repr(failed), by_node=isinstance(failed, _BY_NODE)) from failed

    async def warm_up(self) -> None:
        """Have a few connections ready. Raises NotExecuted."""
        while self._idle.qsize() < WARM:
            self._idle.put_nowait(await self.open_one())

    async def fetch(self, sql: str, arguments: Sequence[Any], *, take_s: float, statement_s: float) -> Row | None:
        """The first row of one statement, within `take_s + statement_s`. Raises NotExecuted or Unknown."""
        connection = await self._take(take_s)
        self._used += 1
        try:
            return await answer_of(connection, sql, arguments, statement_s)
        finally:
            self._used -= 1
            if not connection.is_closed():
                self._idle.put_nowait(connection)

    async def _take(self, take_s: float) -> Any:
        try:
            async with asyncio.timeout(take_s):
                while True:
                    connection = await self._next_idle()
                    if not connection.is_closed():
                        return connection
        except TimeoutError:
            raise NotExecuted("no connection was free in time") from None

    async def _next_idle(self) -> Any:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                return await self._idle.get()
        self._open_more()
        return await self._idle.get()

    def _open_more(self) -> None:
        if self._used + len(self._opening) < CONNECTIONS:
            task = asyncio.create_task(self._open_into_pool())
            task.add_done_callback(_observe)
            task.add_done_callback(self._opening.discard)
            self._opening.add(task)

    async def _open_into_pool(self) -> None:
        self._idle.put_nowait(await self.open_one())

    def close(self) -> None:
        """Cut every connection that nobody uses."""
        for task in self._opening:
            task.cancel()
        while not self._idle.empty():
            self._idle.get_nowait().terminate()
