"""A real HTTP server that fails by script: `python scripted.py '{"windows": [...]}'`, in a process of its own.

It prints {"port": …} when it listens, and for each window {"kind", "begin_ns", "end_ns"} as it really was, on the
monotonic clock, with "served_before_ns" and "served_after_ns", when it last and first served well around it (on a busy
machine that is a while before and after). Kinds: refused (the listener and all connections go), silent (what arrives is
never answered), 503, slow (answered 1.2 s late). POST stores {id, payload}, 201; GET /entries?writer=&after= reads back.
`lose_every`: every n-th write is acknowledged and forgotten. `page`: at most so many entries a read.
`drops_after_reads`: everything is gone after so many reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
import time
from urllib.parse import parse_qs, urlsplit

SLOW_S = 1.2


class Scripted:
    def __init__(self, script: dict) -> None:
        self.script = script
        self.mode = "ok"
        self.port = 0
        self.reads = 0
        self.served_ns = 0
        self.window: dict | None = None
        self.entries: dict[str, dict[str, str]] = {}
        self.connections: set[Connection] = set()
        self.server: asyncio.Server | None = None

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]

    async def run(self) -> None:
        await self.listen()
        start_ns = time.monotonic_ns() + round(self.script.get("lead_s", 0) * 1e9)
        say({"port": self.port, "start_ns": start_ns})
        for window in self.script.get("windows", []):
            await until(start_ns + round(window["at_s"] * 1e9))
            begin_ns = await self.enter(window["kind"])
            before_ns = self.served_ns
            await until(begin_ns + round(window["for_s"] * 1e9))
            end_ns = await self.leave()
            self.window = {"kind": window["kind"], "begin_ns": begin_ns, "end_ns": end_ns, "served_before_ns": before_ns}
        await asyncio.Event().wait()

    async def enter(self, kind: str) -> int:
        self.mode = kind
        if kind == "refused" and self.server is not None:
            self.server.close()
            self.drop_all()
        return time.monotonic_ns()

    async def leave(self) -> int:
        if self.mode == "refused":
            await self.listen()
        if self.mode == "silent":
            self.drop_all()
        self.mode = "ok"
        return time.monotonic_ns()

    def served(self) -> None:
        self.served_ns = time.monotonic_ns()
        if self.window is not None:
            say({**self.window, "served_after_ns": self.served_ns})
            self.window = None

    def drop_all(self) -> None:
        for connection in list(self.connections):
            connection.transport.abort()

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, dict]:
        parts = urlsplit(target)
        if parts.path == "/busy":
            return 429, {}
        if parts.path == "/broken":
            return 500, {}
        if method == "POST":
            return self.store(json.loads(body))
        if parts.path == "/entries":
            return 200, self.read(parse_qs(parts.query))
        return 200, {"ok": True}

    def store(self, written: dict) -> tuple[int, dict]:
        lose_every = self.script.get("lose_every")
        if not lose_every or written["seq"] % lose_every:
            digest = hashlib.sha256(written["payload"].encode()).hexdigest()
            self.entries.setdefault(written["writer"], {})[written["id"]] = digest
        return 201, {"id": written["id"]}

    def read(self, query: dict) -> dict:
        self.reads += 1
        if self.reads > self.script.get("drops_after_reads", self.reads):
            self.entries.clear()
        after = int(query.get("after", ["-1"])[0])
        rows = self.entries.get(query["writer"][0], {})
        above = [{"id": id_, "hash": digest} for id_, digest in rows.items() if int(id_.rpartition("-")[2]) > after]
        return {"entries": above[: self.script.get("page", len(above))]}


class Connection(asyncio.Protocol):
    def __init__(self, owner: Scripted) -> None:
        self.owner = owner
        self.buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.owner.connections.add(self)

    def connection_lost(self, _why) -> None:
        self.owner.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self.owner.mode == "silent":
            return
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.serve(lines, rest[:length])

    def serve(self, lines: list[str], body: bytes) -> None:
        method, target, _ = lines[0].split()
        status, answer = (503, {}) if self.owner.mode == "503" else self.owner.answer(method, target, body)
        raw = json.dumps(answer).encode()
        answer = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw
        close = any(line.lower() == "connection: close" for line in lines)
        delay_s = SLOW_S if self.owner.mode == "slow" else 0.0
        if self.owner.mode == "ok":
            self.owner.served()
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self.reply, answer, close)
        else:
            self.reply(answer, close)

    def reply(self, answer: bytes, close: bool) -> None:
        self.transport.write(answer)
        if close:
            self.transport.close()


async def until(at_ns: int) -> None:
    await asyncio.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))


def say(line: dict) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Scripted(json.loads(sys.argv[1])).run())
