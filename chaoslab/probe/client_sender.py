"""Sends slots through the client of a protocol that is not HTTP: one command of Redis, or one statement of SQL."""

from __future__ import annotations

from chaoslab.probe.assessment import Assessment, Assessor
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.payload import write_values
from chaoslab.probe.plan import Target
from chaoslab.probe.redis import RedisClient
from chaoslab.probe.sql import SqlClient


class ClientSender:
    """A target whose command or statement `client` knows; its placeholders are filled in for each slot."""

    def __init__(self, target: Target, client: RedisClient | SqlClient, writer: str) -> None:
        self.timeout_s = target.timeout_s
        self._writer, self._assessor, self._client = writer, Assessor(target), client

    async def send(self, slot: int, *, fresh: bool, left_s: float) -> Exchange:
        return await self._client.exchange(write_values(self._writer, slot), timeout_s=left_s, fresh=fresh)

    def assess(self, exchange: Exchange, due_ns: int) -> Assessment:
        return self._assessor.assess(exchange, due_ns)

    def close(self) -> None:
        self._client.close()
