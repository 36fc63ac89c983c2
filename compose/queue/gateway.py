"""The entry for what speaks Valkey's own protocol: a port that leads to the primary. LISTEN and SENTINELS.

When the primary changes, connections to the old one are closed: their clients come again, and reach the new one.
"""

from __future__ import annotations

import asyncio
import os

from passage import Passage, address_of
from primary import Primary, sentinels

LOOK_EVERY_S = 0.1


async def main() -> None:
    primary = Primary(sentinels())
    primary.start()
    passage = Passage(lambda: primary.address)
    async with await asyncio.start_server(passage.serve, *address_of(os.environ["LISTEN"])):
        while True:
            passage.close_others([primary.address])
            await asyncio.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    asyncio.run(main())
