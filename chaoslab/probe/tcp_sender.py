"""Sends the slots of one target as connections: a text, and an answer that matches a regular expression."""

from __future__ import annotations

import re

from chaoslab.clock import Clock
from chaoslab.errors import SpecError
from chaoslab.probe.assessment import Assessment, Assessor
from chaoslab.probe.dialer import Dialer
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.payload import fill_texts, write_values
from chaoslab.probe.plan import Target, Tcp
from chaoslab.probe.sessions import Sessions
from chaoslab.probe.streams import Stream

_RECEIVE_BYTES = 65536
_SHOWN = 80  # characters of a wrong answer
_MATCHED_BYTES_MAX = 1024 * 1024  # of an answer without a match: a server that talks on is a wrong answer


class TcpSender:
    """A connect, good when it is accepted in time; with a text, when the answer to it is."""

    def __init__(self, target: Target, how: Tcp, endpoint: Endpoint, writer: str, clock: Clock) -> None:
        """Raises SpecError when `expect` is not a regular expression."""
        self.timeout_s = target.timeout_s
        self._send, self._writer, self._assessor = how.send, writer, Assessor(target)
        try:
            self._expect = re.compile(how.expect.encode()) if how.expect is not None else None
        except re.error as error:
            raise SpecError(f"{target.name}: tcp: expect: {error}") from error
        dialer = Dialer(endpoint, clock)
        self._sessions = Sessions(lambda: Stream.open(dialer), clock)
        self._connects_only = how.send is None and how.expect is None

    async def send(self, slot: int, *, fresh: bool, left_s: float) -> Exchange:
        """A connection on which the server speaks first is never reused: it speaks once."""
        values = write_values(self._writer, slot)
        fresh = fresh or self._send is None

        async def talk(stream: Stream) -> str:
            if self._send is not None:
                stream.writer.write(fill_texts([self._send], values)[0].encode())
                await stream.writer.drain()
            answer = b""
            while self._expect is not None and not self._expect.search(answer):
                more = await stream.reader.read(_RECEIVE_BYTES)
                answer += more
                if not more or len(answer) > _MATCHED_BYTES_MAX:
                    raise ConnectionError(f"not as expected: {answer[:_SHOWN].decode(errors='replace')!r}")
            return answer.decode(errors="replace")

        exchange = await self._sessions.exchange(talk, timeout_s=left_s, fresh=fresh)
        return exchange._replace(sent=False) if self._connects_only else exchange

    def assess(self, exchange: Exchange, due_ns: int) -> Assessment:
        return self._assessor.assess(exchange, due_ns)

    def close(self) -> None:
        self._sessions.close()
