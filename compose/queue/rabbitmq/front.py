"""The entry for AMQP: a port that leads to the first node that answers. LISTEN; NODES: host:port of each, by commas.

When a node no longer answers, connections to it are closed: their clients come again, and reach the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from passage import Address, Passage, address_of

ANSWER_S = 0.5
LOOK_EVERY_S = 0.3
HELLO = b"AMQP\x00\x00\x09\x01"


class Front:
    """Has each client led to `node`: the first that answers; None while none does."""

    def __init__(self, nodes: list[Address]) -> None:
        self._nodes = nodes
        self.node: Address | None = None
        self.passage = Passage(lambda: self.node)

    async def follow(self) -> None:
        """Look for the first node that answers, and close what leads to one that does not."""
        while True:
            answers = await asyncio.gather(*map(_answers, self._nodes))
            alive = [node for node, answered in zip(self._nodes, answers, strict=True) if answered]
            self.node = next(iter(alive), None)
            self.passage.close_others(alive)
            await asyncio.sleep(LOOK_EVERY_S)


async def _answers(node: Address) -> bool:
    """Whether a node speaks AMQP."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(*node)
            with contextlib.closing(writer):
                writer.write(HELLO)
                return bool(await reader.read(1))
    return False


async def main() -> None:
    front = Front([address_of(node) for node in os.environ["NODES"].split(",")])
    async with await asyncio.start_server(front.passage.serve, *address_of(os.environ["LISTEN"])):
        await front.follow()


if __name__ == "__main__":
    asyncio.run(main())
