"""The entry: Caddy in front of both sites, routing by path. LISTEN, and <SERVICE>_UPSTREAMS (host:port, separated by commas).
ANSWER_S: how long a replica may take to answer (8); longer than a request waits there for the next leader of the database.

Reads and writes of a service are balanced separately, each over the replicas that report ready for it: a replica that has
lost the database's leader may still serve reads. A request is sent to one replica, once: a client that must not be charged
twice retries with the same id.
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
    """Put Caddy's configuration on standard input, then exec Caddy."""
    text = json.dumps(configuration(os.environ)).encode()
    reader, writer = os.pipe()
    if os.write(writer, text) != len(text):
        sys.exit("the configuration does not fit into a pipe")
    os.close(writer)
    os.dup2(reader, 0)
    os.execvp("caddy", ["caddy", "run", "--config", "-"])  # noqa: S606


def configuration(env: Mapping[str, str]) -> Json:
    """Caddy's own JSON: no admin API, no certificates, no copy of itself on disk."""
    answer_s = env.get("ANSWER_S", "8")
    routes = [route for name in SERVICES for route in _routes(name, env[f"{name.upper()}_UPSTREAMS"].split(","), answer_s)]
    server = {
        "listen": [env["LISTEN"]],
        "routes": routes,
        "automatic_https": {"disable": True},
        "protocols": ["h1"],
        "read_header_timeout": "5s",
    }
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        # Failed requests are measured from outside; thousands of log lines for each outage would add nothing.
        "logging": {"logs": {"default": {"level": "WARN", "exclude": ["http.log.error"]}}},
        "apps": {"http": {"servers": {"entry": server}, "grace_period": "1s"}},
    }


def _routes(service: str, upstreams: list[str], answer_s: str) -> list[Json]:
    path = [f"/{service}/*"]
    reads = {"match": [{"path": path, "method": READS}], "handle": [_proxy(upstreams, "read", answer_s)], "terminal": True}
    writes = {"match": [{"path": path}], "handle": [_proxy(upstreams, "write", answer_s)], "terminal": True}
    return [reads, writes]


def _proxy(upstreams: list[str], ready_for: str, answer_s: str) -> Json:
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": address} for address in upstreams],
        # Not round robin: with concurrent requests, one may be offered the failed replica at every try, and get a 503.
        "load_balancing": {"selection_policy": {"policy": "random"}, "retries": 0},
        "health_checks": {"active": _active(f"/ready?for={ready_for}")},
        # A hung replica costs a request this long, not the minutes that TCP would wait.
        "transport": {
            "protocol": "http",
            "dial_timeout": "500ms",
            "response_header_timeout": f"{answer_s}s",
            "keep_alive": {"max_idle_conns_per_host": 32, "idle_timeout": "30s", "probe_interval": "5s"},
        },
    }


def _active(uri: str) -> Json:
    return {"uri": uri, "interval": "1s", "timeout": "1s", "expect_status": 200, "passes": 1, "fails": 2}


if __name__ == "__main__":
    main()
