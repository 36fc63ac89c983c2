"""A game day of real runs on a machine that cannot run them; `browser/test_browser.py` has one that can."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from mini_stack import start_chaoslab
from pretended import write_suite


@pytest.mark.parametrize("answers", [False, True], ids=["nobody-listens", "no-answer"])
def test_a_dead_engine_ends_in_a_page(project: Path, tmp_path_factory: pytest.TempPathFactory, answers: bool) -> None:
    """Known bad: no engine, and one that takes connections and never answers. Every run is broken, and the page says why."""
    write_suite(project, "experiments: [{name: calm}]")
    suite = project / "experiments" / "gameday" / "all.yaml"
    suite.write_text(suite.read_text().replace("runtime: embedded", "runtime: compose"))
    address = str(tmp_path_factory.mktemp("engine") / "docker.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        if answers:
            listening.bind(address)
            listening.listen(50)
        child = start_chaoslab(project, "gameday", "all", "--json", env={"DOCKER_HOST": f"unix://{address}"})
        out, err = child.communicate(timeout=60)
    night = json.loads(out)
    assert (child.returncode, night["verdict"]) == (5, "error"), err
    [case] = night["cases"]
    assert (case["status"], "no Docker engine answers" in case["why"]) == ("broken", True)
    assert "no Docker engine answers" in (project / "runs/gameday/all/latest/index.html").read_text()
