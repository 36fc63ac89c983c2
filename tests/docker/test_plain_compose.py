"""The two-site stack is an ordinary Compose file: it works without chaoslab."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest
import requests

from chaoslab.clock import Deadline, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240), pytest.mark.usefixtures("engine")]

FILE = Path(__file__).parents[2] / "compose/two-site/compose.yaml"
ENTRY = "http://127.0.0.1:8080"  # as the file publishes it
DEMO = {"Authorization": "Bearer demo"}


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def left(project: str) -> list[str]:
    only = ["--filter", f"label=com.docker.compose.project={project}"]
    return [
        line
        for words in (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"])
        for line in docker(*words, *only).split()
    ]


@pytest.fixture
def project() -> Iterator[str]:
    """A name of its own; what it made is taken down with its volumes, which is checked."""
    name = f"plain-{token_hex(4)}"
    yield name
    docker("compose", "--file", str(FILE), "--project-name", name, "down", "--volumes", "--timeout", "1")
    assert left(name) == []


def test_docker_compose_up_alone_is_enough(project: str) -> None:
    """Once all is healthy, a write and a read go through the entry."""
    docker("compose", "--file", str(FILE), "--project-name", project, "up", "--detach")
    assert left(project) != [], "known bad: what is to be taken down is there"
    wait_until("a healthy entry", lambda: healthy(project), Deadline.after(60))
    entry = {"id": token_hex(8), "writer": "plain", "seq": 1, "payload": "a cent"}
    assert requests.post(f"{ENTRY}/pay/entries", json=entry, headers=DEMO, timeout=5).status_code == 201
    kept = requests.get(f"{ENTRY}/pay/entries?writer=plain&after=0", headers=DEMO, timeout=5).json()
    assert [one["id"] for one in kept["entries"]] == [entry["id"]]


def healthy(project: str) -> tuple[bool, str]:
    """By Docker's own health checks."""
    states = docker(
        "ps", "-a", "--filter", f"label=com.docker.compose.project={project}", "--format", "{{.Names}}: {{.Status}}"
    )
    return all("(healthy)" in state for state in states.splitlines()), states
