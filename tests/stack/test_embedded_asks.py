"""Failed connections between replicas, in their own site and across links, on the embedded runtime."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from mini_stack import MINI, embedded_stack

from chaoslab.stack.protocol import CanTellAsks

ASKING = """
import os, socket, time
while True:
    for address in (os.environ["NEAR"], os.environ["FAR"]):
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=0.5) as line:
                line.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                line.recv(1)
        except OSError:
            pass
    time.sleep(0.1)
"""
ASKER = {
    "command": ["python", "-c", ASKING],
    "environment": {"NEAR": "${NEAR:-app-east:8000}", "FAR": "${FAR:-app-west:8000}"},
    "labels": {"chaoslab.site": "east", "chaoslab.service": "asker"},
}
PATIENCE_S = 10.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere connects cannot be stalled")
def test_who_asks_in_vain_is_known_near_and_far(tmp_path: Path) -> None:
    """A dead neighbour refuses, a replica behind a fence says nothing; and who is answered is not listed."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"services": {"asker": ASKER}}))
    with embedded_stack(MINI / "compose.yaml", overlay, watch_asks=True) as stack:
        assert isinstance(stack, CanTellAsks)
        time.sleep(0.5)
        stack.unanswered()  # of the boot
        time.sleep(0.5)
        assert [one for one in stack.unanswered() if one.client == "asker"] == []
        stack.kill(["app-east"])
        stack.links.fence(stack.topology.flows_around("west"), "test")
        found: Counter[tuple[str, int, str]] = Counter()
        until = time.monotonic() + PATIENCE_S
        while len(found) < 2 and time.monotonic() < until:
            for one in stack.unanswered():
                if one.client == "asker":
                    found[one.target, one.port, one.how] += one.times
            time.sleep(0.1)
    assert set(found) == {("app-east", 8000, "refused"), ("app-west", 8000, "silent")}
