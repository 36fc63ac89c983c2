"""Commands to the primary, each sent once, with a truthful outcome.

Two failures are told apart, because a ledger depends on it:
    NotExecuted   the command was certainly not executed
    Unknown    it may have been executed: no answer came
"""

from __future__ import annotations

from typing import Any, Protocol

from valkey.asyncio import ConnectionPool
from valkey.exceptions import BusyLoadingError, ReadOnlyError, ResponseError, ValkeyError

from passage import Address

CONNECT_S = 0.5
ANSWER_S = 1.0


class NotExecuted(Exception):
    """The command was certainly not executed."""


class Unknown(Exception):
    """The command may or may not have been executed."""


class Where(Protocol):
    """Says where to send commands; None while nobody knows."""

    @property
    def address(self) -> Address | None: ...


class Fixed:
    """One node, whatever it is: the own site's."""

    def __init__(self, address: Address) -> None:
        self.address: Address | None = address


class Store:
    """Valkey at an address that may change."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._address: Address | None = None
        self._pool: ConnectionPool | None = None

    async def command(self, *words: Any) -> Any:
        """The answer. Raises NotExecuted or Unknown; ResponseError for a command that Valkey refuses for another reason."""
        pool = await self._current_pool()
        try:
            connection = await pool.get_connection(str(words[0]))
        except (ValkeyError, OSError, TimeoutError) as failed:
            raise NotExecuted(f"{self._address}: {failed}") from failed
        try:
            await connection.send_command(*words)
            return await connection.read_response()
        except (BusyLoadingError, ReadOnlyError) as refused:
            raise NotExecuted(f"{self._address}: {refused!r}") from refused
        except ResponseError:
            raise
        except (ValkeyError, OSError, TimeoutError) as failed:
            raise Unknown(f"{self._address}: {failed!r}") from failed
        except BaseException:
            await connection.disconnect(nowait=True)  # an answer that nobody waits for must not be taken for the next one's
            raise
        finally:
            await pool.release(connection)

    async def _current_pool(self) -> ConnectionPool:
        address = self._where.address
        if address is None:
            raise NotExecuted("nobody knows the primary")
        if address != self._address or self._pool is None:
            old, self._address = self._pool, address
            self._pool = ConnectionPool(
                host=address[0],
                port=address[1],
                socket_connect_timeout=CONNECT_S,
                socket_timeout=ANSWER_S,
                decode_responses=True,
                lib_name=None,  # what a client says of itself would be two more round trips for each connection
                lib_version=None,
            )
            if old is not None:
                await old.disconnect(inuse_connections=False)
        return self._pool

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.disconnect()
