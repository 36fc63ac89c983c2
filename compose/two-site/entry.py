"""What users reach: Caddy in front of both sites, routed by path. LISTEN, and <SERVICE>_UPSTREAMS (host:port by commas).

Reads and writes of a service are balanced apart, each over the replicas that say they are ready for it: a replica that
lost the database's leader may still serve reads. A request is sent to one replica, once: whoever must not be charged
twice repeats it with the same id.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

SERVICES = ("auth", "talk", "pay", "partner")
READS = ["GET", "HEAD"]
Json = dict[str, Any]


def main() -> None:
    """Hand Caddy its configuration on standard input, then become Caddy."""
    text = json.dumps(configuration(os.environ)).encode()
    reader, writer = os.pipe()
    if os.write(writer, text) != len(text):
        sys.exit("the configuration does not fit into a pipe")
    os.close(writer)
    os.dup2(reader, 0)
    os.execvp("caddy", ["caddy", "run", "--config", "-"])  # noqa: S606


def configuration(env: Mapping[str, str]) -> Json:
    """Caddy's own JSON: no admin API, no certificates, no copy of itself on disk."""
    routes = [route for name in SERVICES for route in _routes(name, env[f"{name.upper()}_UPSTREAMS"].split(","))]
    server = {
        "listen": [env["LISTEN"]],
        "routes": routes,
        "automatic_https": {"disable": True},
        "protocols": ["h1"],
        "read_header_timeout": "5s",
    }
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        # What every failed request would say is seen better from outside; thousands of lines an outage help nobody.
        "logging": {"logs": {"default": {"level": "WARN", "exclude": ["http.log.error"]}}},
        "apps": {"http": {"servers": {"entry": server}, "grace_period": "1s"}},
    }


def _routes(service: str, upstreams: list[str]) -> list[Json]:
    path = [f"/{service}/*"]
    reads = {"match": [{"path": path, "method": READS}], "handle": [_proxy(upstreams, "read")], "terminal": True}
    writes = {"match": [{"path": path}], "handle": [_proxy(upstreams, "write")], "terminal": True}
    return [reads, writes]


def _proxy(upstreams: list[str], ready_for: str) -> Json:
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": address} for address in upstreams],
        # Not in turns: of requests that come at once, one may be offered the replica that is down each time, and get a 503.
        "load_balancing": {"selection_policy": {"policy": "random"}, "retries": 0},
        "health_checks": {"active": _active(f"/ready?for={ready_for}")},
        # A hung replica costs a request this long, not the minutes that TCP would wait.
        "transport": {
            "protocol": "http",
            "dial_timeout": "500ms",
            "response_header_timeout": "1700ms",
            "keep_alive": {"max_idle_conns_per_host": 32, "idle_timeout": "30s", "probe_interval": "5s"},
        },
    }


def _active(uri: str) -> Json:
    return {"uri": uri, "interval": "1s", "timeout": "1s", "expect_status": 200, "passes": 1, "fails": 2}


if __name__ == "__main__":
    main()
