"""Where the primary is. Sentinels that were cut off, or come back after a fire, still name the old one: so most must agree."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from passage import Address, address_of

NAME = "shop"
ASK_S = 0.5
LOOK_EVERY_S = 0.3


def sentinels() -> list[Address]:
    """SENTINELS: host:port of each by commas, the own site's first."""
    return [address_of(text) for text in os.environ["SENTINELS"].split(",")]


class Primary:
    """Asks all Sentinels, again and again. `address`: of the primary; None while there is no majority for one."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._sentinels = [
            Valkey(host=host, port=port, socket_timeout=ASK_S, socket_connect_timeout=ASK_S) for host, port in addresses
        ]
        self._look: asyncio.Task[None] | None = None
        self.address: Address | None = None

    def start(self) -> None:
        self._look = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        if self._look:
            self._look.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._look
        for sentinel in self._sentinels:
            await sentinel.aclose()

    async def _keep_looking(self) -> None:
        while True:
            named = await asyncio.gather(*map(_ask, self._sentinels))
            self.address = agreed(named)
            await asyncio.sleep(LOOK_EVERY_S)


def agreed(named: Iterable[Address | None]) -> Address | None:
    """What more than half of the Sentinels have answered; None is no answer."""
    answers = list(named)
    [(address, times)] = Counter(answers).most_common(1)
    return address if times > len(answers) / 2 else None


async def _ask(sentinel: Any) -> Address | None:
    try:
        async with asyncio.timeout(ASK_S):
            answer = await sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
    except (ValkeyError, OSError, TimeoutError):
        return None
    return (answer[0].decode(), int(answer[1])) if answer else None
