"""The entry for customers: Caddy in front of the shops of both sites. LISTEN, and SHOPS (host:port, separated by commas)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any


def main() -> None:
    """Hand Caddy its configuration on standard input, then become Caddy."""
    text = json.dumps(configuration(os.environ)).encode()
    reader, writer = os.pipe()
    if os.write(writer, text) != len(text):
        sys.exit("the configuration does not fit into a pipe")
    os.close(writer)
    os.dup2(reader, 0)
    os.execvp("caddy", ["caddy", "run", "--config", "-"])  # noqa: S606


def configuration(env: Mapping[str, str]) -> dict[str, Any]:
    """Caddy's own JSON. A request is sent to one shop, once, among those that know the primary."""
    health = {"uri": "/ready", "interval": "500ms", "timeout": "1s", "expect_status": 200, "passes": 1, "fails": 2}
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": address} for address in env["SHOPS"].split(",")],
        "load_balancing": {"selection_policy": {"policy": "random"}, "retries": 0},
        "health_checks": {"active": health},
        "transport": {"protocol": "http", "dial_timeout": "500ms", "response_header_timeout": "1700ms"},
    }
    server = {"listen": [env["LISTEN"]], "routes": [{"handle": [proxy]}], "automatic_https": {"disable": True}}
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "WARN", "exclude": ["http.log.error"]}}},
        "apps": {"http": {"servers": {"front": server}, "grace_period": "1s"}},
    }


if __name__ == "__main__":
    main()
