"""Known bad: asks the Sentinels in turn as it starts, believes the first that answers, and asks again only after a failover.

Common client libraries do the same. A Sentinel whose site has burned knows nothing of the failover as it comes back, and
neither does the old primary beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

ASK_S = 0.5
LOOK_EVERY_S = 0.3

Address = tuple[str, int]


def answer(address: str, command: str) -> list[str]:
    """The lines of the first piece of an answer. Raises OSError when there is none."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=ASK_S) as connection:
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(4096).decode().split("\r\n")


def first_answer() -> Address:
    """The primary, as the first Sentinel that answers has it; waits until one does."""
    while True:
        for sentinel in os.environ["SENTINELS"].split(","):
            with contextlib.suppress(OSError):
                match answer(sentinel, "SENTINEL GET-MASTER-ADDR-BY-NAME shop"):
                    case ["*2", _, host, _, port, *_]:
                        return host, int(port)
        time.sleep(LOOK_EVERY_S)


def calls_itself_primary(address: Address) -> bool:
    """Whether a node answers, and does not say that it is a replica."""
    with contextlib.suppress(OSError):
        return "master" in answer(f"{address[0]}:{address[1]}", "ROLE")
    return False


class FirstAnswer:
    """Keeps to an address as long as the node there calls itself a primary."""

    def __init__(self, address: Address) -> None:
        self.address: Address | None = address
        self._look: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._look = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        if self._look:
            self._look.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._look

    async def _keep_looking(self) -> None:
        while True:
            if self.address is None or not await asyncio.to_thread(calls_itself_primary, self.address):
                self.address = await asyncio.to_thread(first_answer)
            await asyncio.sleep(LOOK_EVERY_S)


def main() -> None:
    found = first_answer()
    # Imported after that: they take a second, in which a Sentinel of a site that comes back would have heard of the failover.
    from shop import shop  # noqa: PLC0415
    from web_app import serve  # noqa: PLC0415

    serve(lambda: shop(lambda: FirstAnswer(found)))


if __name__ == "__main__":
    main()
