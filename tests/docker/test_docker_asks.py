"""Failed connections, on a real engine: near through the WAN of the own site, and far behind a fence."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaoslab.clock import Deadline
from chaoslab.stack.compose.stack import ComposeStack

pytestmark = [pytest.mark.docker, pytest.mark.nightly]

SERVER = "import http.server; http.server.ThreadingHTTPServer(('', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()"
ASKING = """
import socket, time
while True:
    for host in ("near", "far"):
        try:
            with socket.create_connection((host, 8000), timeout=0.5) as line:
                line.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                line.recv(1)
        except OSError:
            pass
    time.sleep(0.1)
"""
PATIENCE_S = 15.0


def test_who_asks_in_vain_is_known_near_and_far(tmp_path: Path, make_stack: Callable[..., ComposeStack]) -> None:
    """A dead neighbour refuses, a replica behind a fence says nothing; and who is answered is not listed."""
    image = {"image": "chaoslab/two-site:latest", "init": True}
    near = {**image, "command": ["python", "-c", SERVER], "expose": ["8000"], "labels": {"chaoslab.site": "east"}}
    services: dict[str, Any] = {
        "near": near,
        "far": {**near, "labels": {"chaoslab.site": "west"}},
        "asker": {**image, "command": ["python", "-c", ASKING], "labels": {"chaoslab.site": "east"}},
        "entry": {**near, "labels": {}},
    }
    file = tmp_path / "compose.yaml"
    section = {"sites": ["east", "west"], "entry": "entry:8000"}
    file.write_text(yaml.safe_dump({"name": "asks", "services": services, "x-chaoslab": section}))
    stack = make_stack(file)
    stack.watch_asks()
    stack.up(Deadline.after(90), lambda _: None)
    time.sleep(1.0)
    stack.unanswered()  # of the boot
    time.sleep(1.0)
    assert stack.unanswered() == []
    stack.kill(["near"])
    stack.links.fence(stack.topology.flows_around("west"), "test")
    found: Counter[tuple[str, str, int, str]] = Counter()
    until = time.monotonic() + PATIENCE_S
    while len(found) < 2 and time.monotonic() < until:
        for one in stack.unanswered():
            found[one.client, one.target, one.port, one.how] += one.times
        time.sleep(0.2)
    assert set(found) == {("asker", "near", 8000, "refused"), ("asker", "far", 8000, "silent")}
