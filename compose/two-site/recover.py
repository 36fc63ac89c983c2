"""A database node with an empty disk: it creates a new cluster only if there is nothing to restore.

    recover.py HOST:PORT BASE FOLDER     fetch a base backup from the archive; Patroni calls this to bootstrap the cluster

Until that is decided, the node itself serves its Patroni address: GET /health, and POST /restore with {"until": "latest"}, a
point in time, or "random" for any point in time that the archive covers. The archive plans the restore, and refuses one that
would fail or lose data.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ASK_S = 2.0
PLAN_S = 60.0
_EVERY_S = 0.3
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class RestoreOrder:
    """Restore this base backup, and then WAL: all of it, or up to a point in time."""

    base: str
    until: str | None

    def bootstrap(self, archive: str, data: str) -> dict[str, Any]:
        """Patroni's `bootstrap` for it, without what all nodes share."""
        fetch = f"{sys.executable} {_HERE / 'recover.py'} {archive} {self.base} {data}"
        moment = {"recovery_target_time": self.until, "recovery_target_inclusive": "on"} if self.until else {}
        recovery = {
            "restore_command": f"{sys.executable} -I -S {_HERE / 'archive_client.py'} fetch {archive} %f %p",
            "recovery_target_timeline": "latest",
            "recovery_target_action": "promote",
            **moment,
        }
        return {"method": "restore", "restore": {"command": fetch, "no_params": True, "recovery_conf": recovery}}


def await_restore_order(env: Mapping[str, str]) -> RestoreOrder | None:
    """Wait until it is decided what a node with an empty disk does: restore, or start as Patroni does (None).

    It starts without a restore if another node leads, which it will follow, or if the archive is empty.
    """
    waiting = _WaitingNode(env["ARCHIVE"])
    host, _, port = env["LISTEN_REST"].rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), waiting.handler())
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        while waiting.order is None:
            if answers(f"http://{env['PEER_REST']}/leader"):
                return None
            waiting.look()
            if waiting.archive_is_empty:
                return None
            waiting.ordered.wait(_EVERY_S)
        return waiting.order
    finally:
        server.shutdown()
        server.server_close()


def answers(url: str) -> bool:
    """Whether a GET of it is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=ASK_S):  # noqa: S310 - an address of the stack
            return True
    except (OSError, ValueError):
        return False


class _WaitingNode:
    """What the node knows while it waits."""

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self.state = "asking the archive"
        self.archive_is_empty = False
        self.order: RestoreOrder | None = None
        self.ordered = threading.Event()

    def look(self) -> None:
        """Ask the archive whether it has anything."""
        try:
            with urllib.request.urlopen(f"http://{self.archive}/status", timeout=ASK_S) as answer:
                status = json.load(answer)
        except (OSError, ValueError) as failed:
            self.state = f"the archive at {self.archive} does not answer: {failed}"
            return
        self.archive_is_empty = not status["bases"] and not status["segments"]
        self.state = "waiting for a restore"

    def take(self, body: bytes) -> tuple[int, bytes]:
        """Plan the restore that a request asks for; returns the status and body of the answer."""
        try:
            until = str(json.loads(body or b"{}").get("until", "latest"))
        except (ValueError, AttributeError):
            return 400, b'{"error": "the body is not an object in JSON"}'
        url = f"http://{self.archive}/plan?{urllib.parse.urlencode({'until': until})}"
        try:
            with urllib.request.urlopen(url, timeout=PLAN_S) as answer:
                planned = answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()
        except OSError as failed:
            return 502, json.dumps({"error": f"the archive at {self.archive} does not answer: {failed}"}).encode()
        plan = json.loads(planned)
        self.order = RestoreOrder(plan["base"], plan["until"])
        return 202, planned

    def handler(self) -> type[BaseHTTPRequestHandler]:
        waiting = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path == "/health"
                self.answer(200 if known else 503, json.dumps({"state": waiting.state}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if self.path != "/restore":
                    return self.answer(404, b'{"error": "POST /restore"}')
                self.answer(*waiting.take(body))
                if waiting.order is not None:
                    waiting.ordered.set()
                return None

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: it is asked several times a second."""

        return Handler


def main(archive: str, base: str, folder: str) -> int:
    """Fetch a base backup, and unpack it while it is received."""
    began = time.monotonic()
    with urllib.request.urlopen(f"http://{archive}/base/{base}", timeout=PLAN_S) as answer:
        Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        unpack = subprocess.Popen(["tar", "--extract", "--directory", folder], stdin=subprocess.PIPE)
        if unpack.stdin is None:
            raise OSError("tar has no input")
        while piece := answer.read(1 << 20):
            unpack.stdin.write(piece)
        unpack.stdin.close()
        status = unpack.wait()
    Path(folder).chmod(0o700)
    print(f"base backup {base} fetched in {time.monotonic() - began:.1f} s", flush=True)  # noqa: T201
    return status


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:4]))
