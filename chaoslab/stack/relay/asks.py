"""Connections to a relay's proxies that got no answer, counted by the replica that opened them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path

from chaoslab.stack.relay.client_sites import ClientSites, Peer
from chaoslab.stack.toxiproxy.wire import How, UnansweredCount

_LOOKUPS_MAX = 64  # at once; in a storm of retries the others are not counted
_SYN_SENT = "02"
_TABLES = (Path("/proc/net/tcp"),)


class Asks:
    """Counts what is refused behind a proxy, and what hangs before one. Lookups take a millisecond each, in their thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client_sites: ClientSites, lookups: Executor) -> None:
        self._loop = loop
        self._client_sites = client_sites
        self._lookups = lookups
        self._counts: Counter[tuple[str, str, How]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hanging: frozenset[int] = frozenset()  # inodes of sockets that were seen to hang in connect

    def refused(self, proxy: str, client: socket.socket) -> None:
        """Nobody took this connection: count it, and close it."""
        self._count(proxy, client, "refused")

    def held(self, proxy: str, client: socket.socket) -> None:
        """This connection waits behind a fence: count it."""
        self._count(proxy, client, "silent")

    async def take(self, listening: Mapping[int, str]) -> list[UnansweredCount]:
        """What was counted since the last call, and who hangs in connect. `listening`: proxies and routers by their port."""
        await self._loop.run_in_executor(self._lookups, self._count_hanging, listening)
        counts, self._counts = self._counts, Counter()
        return [UnansweredCount(client, proxy, how, times) for (client, proxy, how), times in sorted(counts.items())]

    def _count(self, proxy: str, client: socket.socket, how: How) -> None:
        if len(self._tasks) >= _LOOKUPS_MAX:
            if how == "refused":
                client.close()
            return
        task = self._loop.create_task(self._look_up(proxy, client, how))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_up(self, proxy: str, client: socket.socket, how: How) -> None:
        """While the client's socket is open: afterwards nobody knows whose it was."""
        try:
            peer, here = client.getpeername()[:2], client.getsockname()[:2]
            replica = await self._loop.run_in_executor(self._lookups, self._client_sites.replica_of, peer, here)
            if replica is not None:
                self._counts[replica, proxy, how] += 1
        except OSError:
            pass  # it gave up
        finally:
            if how == "refused":
                client.close()

    def _count_hanging(self, listening: Mapping[int, str]) -> None:
        """Linux drops the SYNs of a stalled listener, so that only the client's own socket shows that somebody asks."""
        hanging: dict[int, tuple[Peer, Peer]] = {}  # by inode, the sockets that wait in connect: their own address, the other
        for table in _TABLES:
            with contextlib.suppress(OSError):
                for words in map(str.split, table.read_text().splitlines()[1:]):
                    if words[3] == _SYN_SENT and (there := _address(words[2]))[1] in listening:
                        hanging[int(words[9])] = _address(words[1]), there
        for inode in hanging.keys() - self._hanging:
            peer, here = hanging[inode]
            replica = self._client_sites.replica_of(peer, here, inode)
            if replica is not None:
                self._counts[replica, listening[here[1]], "silent"] += 1
        self._hanging = frozenset(hanging)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


def _address(text: str) -> Peer:
    """`0100007F:1F90` is 127.0.0.1:8080: the address is a number in this machine's order of bytes."""
    host, _, port = text.partition(":")
    return socket.inet_ntoa(bytes.fromhex(host)[::-1]), int(port, 16)
