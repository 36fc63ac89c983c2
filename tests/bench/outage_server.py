"""A server that knows the truth of its outages, in a process of its own: `python outage_server.py SCRIPT.json`.

    {"seed": 1, "truths": "FILE", "lanes": {"silent": {"kind": "silent", "windows": [[1.5, 0.8], [5.1, 1.2]]}}}

Each lane has a port. It prints {lane: port} when all listen, and {"lane", "agent"} for each kind of client that asks a lane for
the first time. A line on its standard input begins the script: a window is [when it begins, how long it lasts] in seconds. It
prints "played" after the last; one more line, and it writes `truths` and prints "told": every window of each lane with the
monotonic instants at which it began and ended, what became of each request that carried ?seq=N, and when its own loop stood
still. Between two turns nothing else is served, so that an instant is exact.

Kinds: silent (no answer ever), refused (nobody listens, all connections go), reset (each request gets an RST), 503, stall
(held, and all answered at the end), late (each answered 0.7 s late), one-way (requests arrive, nothing comes back: no answer,
and no new connection), flap (0.3 s silent, 0.3 s well, and so on). Shares of the requests, by chance: tail (a fifth is 0.7 s
late), brown-out (30 % are answered 503), half (two of four replicas never answer).
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

LATE_S = 0.7
FLAP_S = 0.3
SHARES = {"tail": 0.2, "brown-out": 0.3, "half": 0.5}
AS_ALL = {"tail": "late", "brown-out": "503", "half": "silent"}  # what happens to such a request
LAG_EVERY_S, LAG_KEPT_NS = 0.005, 2_000_000
RST = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class Lane:
    """One port: how it answers now, and what it did."""

    def __init__(self, name: str, script: dict, seed: int) -> None:
        self.name = name
        self.kind, self.script = script["kind"], script["windows"]
        self.mode = "ok"
        self.windows: list[tuple[int, int]] = []
        self.fates: dict[int, tuple[int, bool]] = {}  # by seq: when it was answered, and whether well
        self.connections: set[Connection] = set()
        self.held: list[Request] = []
        self.agents: set[str] = set()
        self.luck = random.Random(f"{seed} {name}")  # noqa: S311
        self.filler: socket.socket | None = None
        self.socket = _taken(0)
        self.port: int = self.socket.getsockname()[1]

    def listen(self) -> None:
        self.socket.listen(1024)
        self.socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self.socket, self._accept)

    async def play(self, start_ns: int) -> None:
        for at_s, for_s in self.script:
            await until(start_ns + round(at_s * 1e9))
            begin_ns = time.monotonic_ns()
            if self.kind == "flap":
                end_ns = await self._flap(begin_ns + round(for_s * 1e9))
            else:
                self._enter(self.kind)
                await until(begin_ns + round(for_s * 1e9))
                end_ns = self._leave()
            self.windows.append((begin_ns, end_ns))

    async def _flap(self, end_ns: int) -> int:
        """Ends with a bad spell."""
        while True:
            self._enter("silent")
            await asyncio.sleep(FLAP_S)
            left_ns = self._leave()
            if left_ns + round(2 * FLAP_S * 1e9) > end_ns:
                return left_ns
            await asyncio.sleep(FLAP_S)

    def _enter(self, kind: str) -> None:
        self.mode = kind
        loop = asyncio.get_running_loop()
        if kind in ("refused", "one-way"):
            loop.remove_reader(self.socket)
        if kind == "refused":
            self.socket.close()
            self.socket = _taken(self.port)
            for connection in list(self.connections):
                connection.transport.abort()
        if kind == "one-way":  # a full queue: the kernel drops what wants to connect
            self.socket.listen(0)
            self.filler = socket.socket()
            self.filler.setblocking(False)
            self.filler.connect_ex(("127.0.0.1", self.port))

    def _leave(self) -> int:
        """What waits for an answer that never comes is cut off."""
        was, self.mode = self.mode, "ok"
        if was in ("refused", "one-way"):
            self.listen()
        end_ns = time.monotonic_ns()
        held, self.held = self.held, []
        for request in held:
            request.reply(200) if was == "stall" else request.connection.transport.abort()
        if self.filler is not None:
            self.filler.close()
            self.filler = None
        return end_ns

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                taken, _ = self.socket.accept()
            except OSError:  # no more of them
                return
            taken.setblocking(False)
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(loop.connect_accepted_socket(lambda: Connection(self), taken))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def serve(self, request: Request) -> None:
        if request.agent not in self.agents:
            self.agents.add(request.agent)
            print(json.dumps({"lane": self.name, "agent": request.agent}), flush=True)
        mode = self.mode
        if mode in SHARES:
            mode = AS_ALL[mode] if self.luck.random() < SHARES[mode] else "ok"
        if mode == "ok":
            request.reply(200)
        elif mode == "503":
            request.reply(503)
        elif mode == "late":
            asyncio.get_running_loop().call_later(LATE_S, request.reply, 200)
        elif mode == "reset":
            request.connection.reset()
        else:
            self.held.append(request)


class Request:
    """One request, answered at most once. `seq`: its number where it carries one."""

    def __init__(self, connection: Connection, head: str) -> None:
        target = head.split(" ", 2)[1]
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
        self.connection = connection
        self.agent = headers.get("user-agent", "").partition("/")[0]
        self.close = headers.get("connection") == "close"
        self.seq = int(parse_qs(urlsplit(target).query).get("seq", ["-1"])[0])

    def reply(self, status: int) -> None:
        transport = self.connection.transport
        if transport.is_closing():
            return
        transport.write(f"HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n".encode())
        if self.seq >= 0:
            self.connection.lane.fates[self.seq] = (time.monotonic_ns(), status == 200)
        if self.close:
            transport.close()


class Connection(asyncio.Protocol):
    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.lane.connections.add(self)

    def connection_lost(self, _why) -> None:
        self.lane.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            self.lane.serve(Request(self, head.decode("latin-1")))

    def reset(self) -> None:
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        self.transport.abort()


def _taken(port: int) -> socket.socket:
    """A port that is ours and at which nobody listens: connections are refused."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", port))
    return taken


async def until(at_ns: int) -> None:
    await asyncio.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))


async def watch_lag(lags: list[tuple[int, int]]) -> None:
    """Notes [when, for how long] this loop stood still, in nanoseconds."""
    while True:
        due_ns = time.monotonic_ns() + round(LAG_EVERY_S * 1e9)
        await asyncio.sleep(LAG_EVERY_S)
        lag_ns = time.monotonic_ns() - due_ns
        if lag_ns > LAG_KEPT_NS:
            lags.append((due_ns, lag_ns))


async def run(script: dict) -> None:
    lanes = {name: Lane(name, own, script["seed"]) for name, own in script["lanes"].items()}
    for lane in lanes.values():
        lane.listen()
    print(json.dumps({name: lane.port for name, lane in lanes.items()}), flush=True)
    lags: list[tuple[int, int]] = []
    watch = asyncio.create_task(watch_lag(lags))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    start_ns = time.monotonic_ns()
    await asyncio.gather(*(lane.play(start_ns) for lane in lanes.values()))
    print(json.dumps("played"), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    watch.cancel()
    told = {name: {"windows": lane.windows, "fates": lane.fates} for name, lane in lanes.items()}
    Path(script["truths"]).write_text(json.dumps({"lanes": told, "lags": lags}))
    print(json.dumps("told"), flush=True)


if __name__ == "__main__":
    asyncio.run(run(json.loads(Path(sys.argv[1]).read_text())))
