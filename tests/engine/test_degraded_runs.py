"""Whole runs of the mini stack whose service queues writes while its store is frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mini_stack import Ran, run_until_told, write_experiment

FROZEN = {"id": "frozen", "fault": "service.pause", "service": "store", "heal_after": "2s"}


def queueing(folder: Path, how: str) -> Ran:
    """Both replicas queue; the journey that writes may be queued while a fault is active."""
    replicas: dict[str, Any] = {name: {"environment": {"QUEUES": how}} for name in ("app-east", "app-west")}
    section = {
        "services": {"app": {"objectives": {"degraded": {"app.write": "queued"}}}},
        "journeys": {"app.write": {"title": "Write an entry", "good": {"status": [201, 202]}}},
    }
    overlay = {"services": replicas, "x-chaoslab": section}
    return run_until_told(folder, str(write_experiment(folder, overlay=overlay, timeline=[FROZEN])))


def test_writes_that_are_queued_while_the_store_is_frozen_are_there_in_the_end(tmp_path: Path) -> None:
    """The prober takes a 202 for an acknowledgement, the ledger has what it promised, and the business reads of it."""
    ran = queueing(tmp_path, "yes")
    assert (ran.code, ran.result["verdict"], ran.result["warnings"]) == (0, "pass", []), ran.out
    assert ran.result["services"]["app"]["faults"] == {"frozen": "degraded"}
    function = ran.result["functions"]["app.write"]
    assert (function["used"], function["later_lost"], function["kept"]) == (True, 0, "kept")
    assert function["later"] > 5
    assert "app.write (queued): " in ran.out
    assert "Write an entry" in (ran.folder / "report.html").read_text()


@pytest.mark.nightly
def test_writes_that_are_queued_and_forgotten_are_lost(tmp_path: Path) -> None:
    """Known bad: what a 202 acknowledged never reaches the store."""
    ran = queueing(tmp_path, "forgets")
    assert (ran.code, ran.objective("app.rpo")["verdict"]) == (1, "fail"), ran.out
    assert ran.result["functions"]["app.write"]["later_lost"] > 5
