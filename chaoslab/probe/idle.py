"""Connections that wait to be used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from chaoslab.clock import NS_PER_S, Clock

IDLE_NS_MAX: Final = 2 * NS_PER_S  # below every usual keep-alive, so that a reused connection is not about to close


class Reusable(Protocol):
    """A connection that knows whether either end has closed it."""

    @property
    def closed(self) -> bool: ...


C = TypeVar("C", bound=Reusable)


class IdleConnections(Generic[C]):
    """The one used last is taken first; those that have been idle for IDLE_NS_MAX are closed."""

    def __init__(self, close: Callable[[C], None], clock: Clock) -> None:
        """`close`: how to close one; it may be closed already."""
        self._close, self._clock = close, clock
        self._idle: list[tuple[C, int]] = []  # each with when it was used; the one used last is at the end

    def keep(self, connection: C, used_ns: int) -> None:
        """`used_ns`: when its last exchange ended, monotonic."""
        self._idle.append((connection, used_ns))

    def take(self) -> C | None:
        """One that is still open; None when there is none."""
        oldest_ns = self._clock.now_ns() - IDLE_NS_MAX
        while self._idle and self._idle[0][1] < oldest_ns:
            self._close(self._idle.pop(0)[0])
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.closed:
                return connection
            self._close(connection)
        return None

    def close(self) -> None:
        """Close all of them."""
        while self._idle:
            self._close(self._idle.pop()[0])
