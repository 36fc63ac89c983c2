"""Commands of Redis or Valkey over RESP 2: sent once, with a record of how far each got.

Clients of Redis send a command again when a connection breaks, which would make two writes of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from chaoslab.clock import Clock
from chaoslab.probe.dialer import Dialer
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.payload import Values, fill_texts
from chaoslab.probe.plan import Redis
from chaoslab.probe.sessions import Refused, Sessions
from chaoslab.probe.streams import Stream

_NESTED_MAX = 32


class RedisClient:
    """Commands to one server, as one user, in one database."""

    def __init__(self, how: Redis, endpoint: Endpoint, clock: Clock) -> None:
        self._how, self._dialer = how, Dialer(endpoint, clock)
        self._sessions = Sessions(self._open, clock)

    async def exchange(self, values: Values, *, timeout_s: float, fresh: bool) -> Exchange:
        """The plan's command with its placeholders filled in. Never raises for what the network or the server does."""
        words = fill_texts(self._how.command, values)
        return await self._sessions.exchange(lambda stream: ask(stream, words), timeout_s=timeout_s, fresh=fresh)

    async def _open(self) -> Stream:
        stream = await Stream.open(self._dialer)
        try:
            if self._how.password is not None:
                await ask(stream, ["AUTH", *([self._how.user] if self._how.user else []), self._how.password])
            if self._how.database:
                await ask(stream, ["SELECT", str(self._how.database)])
        except BaseException:
            stream.close(answered=False)
            raise
        return stream

    def close(self) -> None:
        self._sessions.close()


async def ask(stream: Stream, words: Sequence[str]) -> Any:
    """The reply to one command: None, text, a whole number, or a list. Raises Refused for an error, OSError without a reply."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        raw = word.encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    stream.writer.write(b"".join(parts))
    await stream.writer.drain()
    try:
        return await _reply(stream.reader)
    except asyncio.IncompleteReadError as cut:
        raise ConnectionError("closed by the peer") from cut
    except (ValueError, asyncio.LimitOverrunError) as odd:
        raise ConnectionError(f"not an answer of Redis: {odd}") from odd


async def _reply(reader: asyncio.StreamReader, depth: int = 0) -> Any:
    line = await reader.readuntil(b"\r\n")
    kind, rest = line[:1], line[1:-2].decode(errors="replace")
    if kind == b"+":
        return rest
    if kind == b"-":
        raise Refused(rest.partition(" ")[0], rest)
    if kind == b":":
        return int(rest)
    if kind == b"$":
        length = int(rest)
        return None if length < 0 else (await reader.readexactly(length + 2))[:-2].decode(errors="replace")
    if kind == b"*" and depth < _NESTED_MAX:
        found: list[Any] = []
        refused: Refused | None = None
        for _ in range(int(rest)):  # after an error among them, too: what is left would be the answer to the next command
            try:
                found.append(await _reply(reader, depth + 1))
            except Refused as error:
                refused = refused or error
        if refused is not None:
            raise refused
        return None if int(rest) < 0 else found
    raise ValueError(f"{line[:40]!r}")
