"""A journey through the whole queue, for the prober: an order counts once a worker has handled it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import aiohttp

import chaoslab

LOOK_EVERY_S = 0.05

Done = Literal["acked", "rejected", "indeterminate"]


class Handled(chaoslab.Journey):
    """Places an order, and looks until it is handled."""

    def __init__(self, entry: Any, settings: Mapping[str, Any]) -> None:
        super().__init__(entry, settings)
        self._session: aiohttp.ClientSession | None = None

    async def attempt(self, id: str) -> Done | tuple[Done, str]:
        try:
            async with self._client().post(f"http://{self.entry}/orders", json={"id": id, "payload": id}) as answer:
                if answer.status != 201:
                    return "rejected" if answer.status == 429 else "indeterminate", f"status {answer.status}"
        except aiohttp.ClientConnectorError as refused:
            return "rejected", str(refused)
        while True:
            async with self._client().get(f"http://{self.entry}/handled/{id}") as answer:
                if answer.status == 200:
                    return "acked"
            await asyncio.sleep(LOOK_EVERY_S)

    async def read_back(self, site: str) -> Iterable[str]:
        async with self._client().get(f"http://{self.entry}/handled", params={"prefix": f"{self.writer}-"}) as answer:
            answer.raise_for_status()
            handled: list[str] = await answer.json()
        return handled

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        """A new connection for each request: one that is used again, aiohttp would replace by itself when it breaks."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        return self._session
