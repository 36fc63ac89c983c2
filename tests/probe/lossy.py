"""A real HTTP server that goes wrong exactly as its script says, in a process of its own: `python lossy.py SCRIPT.json`.

    {"services": {"pay": {"turns": [[0, "503"], [0.7, "ok"]], "spoil": [["lose", "start", [3, 9]]]}}, "heal_s": 4, "end_s": 6}

Each service answers GET /<service>/x and POST /<service>/entries, shows what it holds at GET /<service>/entries, and what a
site holds at GET /<site>/<service>/entries. It prints {"ports": …} once it listens; a line on its standard input begins the
fault. Then it prints every turn with the instant at which it was made, {"at_ns", "at_s", "turned": {service: mode}}, and
{"lag_ms"} at the end: how long its own loop ever stood still. Between two turns nothing else is served, so that an instant is
exact: what was received before it was answered in the old mode, what comes after in the new one.

Modes: ok, silent (never answered), 503, slow (1.2 s late), third (of three requests one is served), refused (the listener and
all connections go; such a service has a port of its own). `spoil` names writes by their number since the start or since the
fault; see `Ledger` for what each spoiling does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import sys
import time
from itertools import groupby
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from scripted import SLOW_S, Connection, say, until

SITES = ("pangyo", "anyang")
LAG_EVERY_S = 0.005
SURELY_ACKED_S = 0.5  # so long after its answer a write is acknowledged for its sender, too
INVENTED = 1_000_000  # sequences that are never sent
Item = tuple[str, str]


class Ledger:
    """The writes of one service as each site holds them, and the ways to hold them wrongly.

    lose: acknowledged, and nowhere. double: stored twice. corrupt: stored with another hash. one-sided: in the first site
    alone. reject: refused and not stored. resurrect: refused, and stored. unsaid: stored, and answered with an error.
    vanish: answered with an error, and nowhere. show: answered with an error, shown by the service, and in no site.
    stale: missing from the first look that is surely after its acknowledgement.
    """

    def __init__(self, script: dict) -> None:
        self.spoil = {(since, number): what for what, since, numbers in script.get("spoil", []) for number in numbers}
        self.invent, self.unread = script.get("invent", 0), script.get("unread", False)
        self.count = {"start": 0, "fault": 0}
        self.fault = False
        self.held: dict[str, list[Item]] = {site: [] for site in SITES}
        self.shown: list[Item] = []
        self.hidden: dict[str, int] = {}

    def write(self, written: dict) -> int:
        item = (written["id"], hashlib.sha256(written["payload"].encode()).hexdigest())
        what = self._spoiling()
        copies = {"double": [item, item], "corrupt": [(item[0], "other")]}.get(what, [item])
        if what not in ("lose", "reject", "vanish", "show"):
            for site in SITES[:1] if what == "one-sided" else SITES:
                self.held[site] += copies
        if what not in ("lose", "reject", "vanish"):
            self.shown += copies
        if what == "stale":
            self.hidden[item[0]] = time.monotonic_ns() + round(SURELY_ACKED_S * 1e9)
        return {"reject": 409, "resurrect": 409, "unsaid": 503, "vanish": 503, "show": 503}.get(what, 201)

    def _spoiling(self) -> str:
        self.count["start"] += 1
        self.count["fault"] += self.fault
        return next((self.spoil[key] for key in self.count.items() if key in self.spoil), "")

    def look(self) -> list[Item]:
        """What the service shows through the entry."""
        now_ns = time.monotonic_ns()
        due = {id_ for id_, at_ns in self.hidden.items() if at_ns <= now_ns}
        for id_ in due:
            del self.hidden[id_]
        return [item for item in self.shown if item[0] not in due]

    def final(self, site: str, writer: str) -> list[Item]:
        return self.held[site] + [(f"{writer}-{INVENTED + number}", "invented") for number in range(self.invent)]


class Service:
    """How one service answers now."""

    def __init__(self, script: dict) -> None:
        self.mode = "ok"
        self.requests = 0
        self.ledger = Ledger(script)
        self.waiting: set[Line] = set()

    def turn(self, mode: str) -> None:
        """What waits for an answer that never comes is cut off."""
        self.mode = mode
        for line in self.waiting:
            line.transport.abort()
        self.waiting.clear()

    def answer(self, method: str, site: str, query: dict, body: bytes) -> tuple[int, dict]:
        if site:
            writer = query["writer"][0]
            return (500, {}) if self.ledger.unread else (200, listed(self.ledger.final(site, writer), query))
        self.requests += 1
        if self.mode == "503" or (self.mode == "third" and self.requests % 3):
            return 503, {}
        if method == "POST":
            return self.ledger.write(json.loads(body)), {}
        return 200, listed(self.ledger.look(), query) if query else {}


def listed(items: list[Item], query: dict) -> dict:
    after = int(query["after"][0])
    return {"entries": [{"id": id_, "hash": digest} for id_, digest in items if int(id_.rpartition("-")[2]) > after]}


class Line(Connection):
    """One connection; its requests name their service."""

    def serve(self, lines: list[str], body: bytes) -> None:
        method, target, _ = lines[0].split()
        url = urlsplit(target)
        *sites, name, _ = url.path.strip("/").split("/")
        service = self.owner.services[name]
        if service.mode == "silent" and not sites:
            service.waiting.add(self)
            return
        status, answer = service.answer(method, "".join(sites), parse_qs(url.query), body)
        raw = json.dumps(answer).encode()
        answer = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw
        close = any(line.lower() == "connection: close" for line in lines)
        if service.mode == "slow":
            asyncio.get_running_loop().call_later(SLOW_S, self.reply, answer, close)
        else:
            self.reply(answer, close)


class Entry:
    """One port and its connections. While it is closed the port is taken and nobody listens: connections are refused."""

    mode = "ok"  # of `scripted.Connection`: services have their own

    def __init__(self, services: dict[str, Service]) -> None:
        self.services = services
        self.connections: set[Line] = set()
        self.socket = self._take(0)
        self.port: int = self.socket.getsockname()[1]
        self.server: asyncio.Server | None = None

    def listen(self) -> None:
        """From here on the kernel takes connections; they are answered once `serve` is called."""
        self.socket.listen(1024)

    async def serve(self) -> None:
        self.server = await asyncio.get_running_loop().create_server(lambda: Line(self), sock=self.socket, backlog=1024)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
        self.socket = self._take(self.port)
        for connection in list(self.connections):
            connection.transport.abort()

    @staticmethod
    def _take(port: int) -> socket.socket:
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        return taken


class Lossy:
    """The server: its entries, and the script."""

    def __init__(self, script: dict) -> None:
        self.script = script
        self.services = {name: Service(own) for name, own in script["services"].items()}
        self.entries = {name: Entry(self.services) for name in ("entry", *self._refusing())}
        self.lag_s = 0.0

    def _refusing(self) -> list[str]:
        turns = {name: own.get("turns", []) for name, own in self.script["services"].items()}
        return [name for name, own in turns.items() if any(mode == "refused" for _, mode in own)]

    async def run(self) -> None:
        for entry in self.entries.values():
            entry.listen()
            await entry.serve()
        say({"ports": {name: entry.port for name, entry in self.entries.items()}})
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        watch = asyncio.create_task(self._watch_lag())
        await self._play()
        watch.cancel()
        say({"lag_ms": round(self.lag_s * 1000, 1)})
        await asyncio.Event().wait()

    async def _play(self) -> None:
        begin_ns = time.monotonic_ns()
        for at_s, turns in groupby(self._timeline(), key=lambda turn: turn[0]):
            await until(begin_ns + round(at_s * 1e9))
            turned = {name: mode for _, name, mode in turns if name}
            at_ns = await self._turn(turned)
            say({"at_ns": at_ns, "at_s": at_s, "turned": turned})

    def _timeline(self) -> list[tuple[float, str, str]]:
        marks = [(0, "", ""), (self.script["heal_s"], "", ""), (self.script["end_s"], "", "")]
        turns = [(at_s, name, mode) for name, own in self.script["services"].items() for at_s, mode in own.get("turns", [])]
        return sorted(marks + turns)

    async def _turn(self, turned: dict[str, str]) -> int:
        """All at one instant: nothing is served between its first step and its last."""
        opened = [self.entries[name] for name in turned if self.services[name].mode == "refused"]
        for entry in opened:
            entry.listen()
        at_ns = time.monotonic_ns()
        for name, mode in turned.items():
            self.services[name].turn(mode)
            if mode == "refused":
                self.entries[name].close()
        for service in self.services.values():
            service.ledger.fault = True
        for entry in opened:
            await entry.serve()
        return at_ns

    async def _watch_lag(self) -> None:
        while True:
            due_s = time.monotonic() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.lag_s = max(self.lag_s, time.monotonic() - due_s)


if __name__ == "__main__":
    asyncio.run(Lossy(json.loads(Path(sys.argv[1]).read_text())).run())
