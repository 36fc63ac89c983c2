"""Exchanges over connections of any protocol but HTTP: fresh ones and reused ones, never sent twice, cut when they hang."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from chaoslab.clock import Clock
from chaoslab.probe.dialer import in_words
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.idle import IdleConnections

T = TypeVar("T")
_closing: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive


class Refused(Exception):
    """The server answered, and its answer is a refusal. `code`: by which the spec's `not_applied` may name it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Session(Protocol):
    """A connection that carries one exchange at a time."""

    @property
    def closed(self) -> bool: ...

    def close(self, *, answered: bool) -> None:
        """Never raises, never waits. `answered`: nothing is under way on it."""


S = TypeVar("S", bound=Session)


class Sessions(Generic[S]):
    """The connections to one server: each exchange over a new one, or over the one used last."""

    def __init__(self, open_: Callable[[], Awaitable[S]], clock: Clock) -> None:
        """`open_` connects and logs in. Raises OSError, or Refused."""
        self._open, self._clock = open_, clock
        self._idle = IdleConnections[S](lambda session: session.close(answered=True), clock)

    async def exchange(self, ask: Callable[[S], Awaitable[Any]], *, timeout_s: float, fresh: bool) -> Exchange:
        """`ask` sends and reads once, and raises OSError or Refused. Never raises for what the network or the server does."""
        sent = pooled = answered = False
        session: S | None = None

        async def work() -> Any:
            nonlocal session, sent, pooled
            session = None if fresh else self._idle.take()
            pooled = session is not None
            if session is None:
                session = await self._open()
            sent = True
            return await ask(session)

        try:
            value = await cut_after(work(), timeout_s)
            answered = True
            return Exchange(self._clock.now_ns(), True, pooled, value=value)
        except Refused as refused:
            answered = sent
            return Exchange(self._clock.now_ns(), sent, pooled, error=str(refused), code=refused.code)
        except OSError as error:
            return Exchange(self._clock.now_ns(), sent, pooled, error=in_words(error, sent=sent))
        finally:
            if session is not None and answered and not fresh and not session.closed:
                self._idle.keep(session, self._clock.now_ns())
            elif session is not None:
                session.close(answered=answered)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._idle.close()


async def cut_after(work: Awaitable[T], timeout_s: float) -> T:
    """What `work` returns or raises; TimeoutError when it is not over by then. It is cancelled, and not waited for.

    Code of others may ignore that it was cancelled, or take its time; the slot must not.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=timeout_s)
    finally:
        if not task.done():
            task.add_done_callback(lambda task: task.cancelled() or task.exception())  # what it still raises is of no interest
            task.cancel()
    if not task.done():
        raise TimeoutError
    return task.result()


def in_background(closing: Coroutine[Any, Any, Any]) -> None:
    """To close may be to say good-bye to a server that does not answer: no slot waits for that, and no error matters."""

    async def close() -> None:
        with contextlib.suppress(Exception):
            await closing

    task = asyncio.create_task(close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def wait_for_closing(timeout_s: float) -> None:
    """Until what closes in the background is closed, at most this long."""
    if _closing:
        await asyncio.wait(_closing, timeout=timeout_s)
