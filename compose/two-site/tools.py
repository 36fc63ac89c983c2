"""Minimal tools of the people who run the stack. Used by overlays, not by the stack.

    python -m tools dependency   answers GET /live; stands for an image registry, a secrets store or a metrics server
    python -m tools runner       runs the failover runbook on POST /failover: it needs each dependency, and then releases the
                                 lease of the database's lost leader, so that a standby is promoted

LISTEN  host:port
NEEDS   runner only: by the name of each dependency, the addresses of which one must answer: `secrets=a:80,b:80 metrics=a:80`
ETCD    runner only: host:port of each member, separated by commas
"""

from __future__ import annotations

import base64
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from health import problem

LEASE = "/service/two-site/leader"  # where Patroni keeps who leads
ETCD_S = 3.0


class Dependency(BaseHTTPRequestHandler):
    """Answers that it is live."""

    def do_GET(self) -> None:
        self.answer(200, {"live": True})

    def answer(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """A line for each request would add nothing."""


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
    ThreadingHTTPServer((host, int(port)), {"dependency": Dependency, "runner": Runner}[sys.argv[1]]).serve_forever()
