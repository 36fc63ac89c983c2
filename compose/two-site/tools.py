"""Minimal tools of the people who run the stack. Used by overlays, not by the stack.

    python -m tools dependency   answers GET /live; stands for an image registry, a secrets store or a metrics server
    python -m tools secrets      a secrets store: GET /database-password
    python -m tools registry     a registry of what services run: GET /release, the programs of this folder as a zip
    python -m tools runner       runs the failover runbook on POST /failover: it needs each dependency, and then releases the
                                 lease of the database's lost leader, so that a standby is promoted

LISTEN        host:port
APP_PASSWORD  secrets only: the password that it gives out
NEEDS         runner only: by the name of each dependency, the addresses of which one must answer:
              `secrets=a:80,b:80 metrics=a:80`
ETCD          runner only: host:port of each member, separated by commas
"""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from health import problem

LEASE = "/service/two-site/leader"  # where Patroni keeps who leads
ETCD_S = 3.0


class Dependency(BaseHTTPRequestHandler):
    """Answers that it is live."""

    def do_GET(self) -> None:
        held = self.held()
        if self.path == "/live":
            self.answer(200, {"live": True})
        elif held is not None:
            self.send(200, "application/octet-stream", held)
        else:
            self.answer(404, {"error": f"there is no {self.path}"})

    def held(self) -> bytes | None:
        """What is kept here at the path of the request."""
        return None

    def answer(self, status: int, body: object) -> None:
        self.send(status, "application/json", json.dumps(body).encode())

    def send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A line for each request would add nothing."""


class Secrets(Dependency):
    """A secrets store."""

    def held(self) -> bytes | None:
        return os.environ["APP_PASSWORD"].encode() if self.path == "/database-password" else None


class Registry(Dependency):
    """A registry of what services run."""

    def held(self) -> bytes | None:
        return release() if self.path == "/release" else None


@functools.cache
def release() -> bytes:
    """The programs of this folder as a zip, from which Python can import them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for program in sorted(Path(__file__).parent.glob("*.py")):
            entry = zipfile.ZipInfo(program.name)  # without the file's time: in an image that is too early for a zip
            archive.writestr(entry, program.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


class Runner(Dependency):
    """Runs the runbook, all or nothing: if a dependency is missing, it answers which, and changes nothing."""

    def do_POST(self) -> None:
        needs = dict(need.split("=", 1) for need in os.environ["NEEDS"].split())
        with ThreadPoolExecutor(len(needs)) as pool:
            found = dict(zip(needs, pool.map(any_answers, needs.values()), strict=True))
        missing = sorted(name for name, answers in found.items() if not answers)
        if missing:
            self.answer(503, {"missing": missing})
        elif not release_lease(os.environ["ETCD"].split(",")):
            self.answer(503, {"missing": ["etcd"]})
        else:
            self.answer(200, {"released": LEASE})


def any_answers(addresses: str) -> bool:
    """Whether any of these replicas answers."""
    return any(problem(f"{address}/live") is None for address in addresses.split(","))


def release_lease(members: list[str]) -> bool:
    """Delete the key of the leader through the first member that can."""
    body = json.dumps({"key": base64.b64encode(LEASE.encode()).decode()})
    for member in members:
        host, _, port = member.rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=ETCD_S)
        try:
            connection.request("POST", "/v3/kv/deleterange", body)
            if connection.getresponse().status == 200:
                return True
        except (OSError, HTTPException):
            continue
        finally:
            connection.close()
    return False


if __name__ == "__main__":
    host, _, port = os.environ["LISTEN"].rpartition(":")
    role = {"dependency": Dependency, "secrets": Secrets, "registry": Registry, "runner": Runner}[sys.argv[1]]
    ThreadingHTTPServer((host, int(port)), role).serve_forever()
