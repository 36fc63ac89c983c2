"""`auto` never runs a stack as processes that was not written for it, and says what that would take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from mini_stack import MINI, write_experiment

from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.run import runtimes
from chaoslab.spec.load import Loaded, load_experiment
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.embedded.suited import lacking, programs

ROOT = Path(__file__).parents[2]
FOREIGN = """\
services:
  db:
    image: postgres:16
    expose: [5432]
    labels: {chaoslab.site: east}
  web:
    image: nginx
    command: [nginx, -g, daemon off;]
    environment: {DATABASE_URL: "postgres://u@db:5432/x", OWN: "web:80", LOG: "${LOG:-db:5432}"}
    ports: ["8080:80"]
    labels: {chaoslab.site: west}
x-chaoslab:
  sites: [east, west]
  entry: web:80
  requires: {programs: [no-such-program]}
  journeys: {web.read: {service: web, request: {path: /}}}
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """A stack that was written for containers, where there is no engine."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    (tmp_path / "docker-compose.yml").write_text(FOREIGN)
    fire = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "5s"}
    spec: dict[str, Any] = {"title": "Fire", "stack": "docker-compose.yml", "timeline": [fire]}
    (tmp_path / "fire.yaml").write_text(f"# It survives.\n{yaml.safe_dump(spec)}")
    return load_experiment(tmp_path / "fire.yaml")


def test_a_stack_for_containers_is_not_run_as_processes(foreign: Loaded) -> None:
    """Known bad: without an engine `auto` started what it could of any file. It says why not, and what that would need."""
    with pytest.raises(EnvironmentFault) as refused:
        runtimes.choose_runtime("auto", foreign)
    told = str(refused.value)
    assert "/nonexistent/docker.sock" in told
    assert "docker-compose.yml was not written to run as processes; it would need" in told
    assert "db: the command that starts it as a process" in told
    assert "chaoslab doctor fire" in told


def test_what_it_would_need_is_listed_whole(foreign: Loaded) -> None:
    """Commands, ports and addresses; its own name and what is interpolated already are no fault."""
    assert lacking(foreign.compose) == [
        "db: the command that starts it as a process, as `command` or x-chaoslab.processes.db.command",
        "db: where it listens on port 5432, as a variable or an argument such as ${LISTEN:-0.0.0.0:5432}",
        "web: where it listens on port 80, as a variable or an argument such as ${LISTEN:-0.0.0.0:80}",
        "web: the address db:5432 in DATABASE_URL as ${DB:-db:5432}",
    ]
    assert programs(foreign.compose) == {"nginx": ["web"], "no-such-program": ["x-chaoslab.requires"]}


def test_asked_for_by_name_it_is_refused_only_where_it_could_not_start(foreign: Loaded) -> None:
    """Before anything starts: exit 2 for the file, 5 for the machine."""
    with pytest.raises(SpecError, match="does not say how to run db as a process"):
        runtimes.choose_runtime("embedded", foreign)
    text = FOREIGN.replace("expose: [5432]", "command: [python, db.py]")
    foreign.compose.files[0].write_text(text)
    with pytest.raises(EnvironmentFault, match="not on this machine: nginx, no-such-program"):
        runtimes.choose_runtime("embedded", load_experiment(foreign.file))


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("npm start", {"npm"}),
        ("[/app/server]", {"/app/server"}),
        ("[./run]", set()),
        ("[python3, x.py]", set()),
        ("[$RUN]", set()),
        ("sh -c 'x", set()),
    ],
)
def test_programs_are_those_that_this_machine_must_have(tmp_path: Path, command: str, needed: set[str]) -> None:
    """Not Python, which is here, nor what is beside the service's code; a command that cannot be read is none."""
    file = tmp_path / "compose.yaml"
    file.write_text(FOREIGN.replace("[nginx, -g, daemon off;]", command).replace("requires: {programs: [no-such-program]}", ""))
    assert set(programs(load_stack([file]))) == needed


def test_a_plan_needs_no_runtime(foreign: Loaded) -> None:
    """A dry run works on any machine; it says that no runtime is ready."""
    runtime, why = runtimes.runtime_to_plan("auto", foreign)
    assert (runtime.name, why) == ("compose", "not ready here; see: chaoslab doctor fire")


@pytest.mark.parametrize(
    "overlay", [None, *sorted((ROOT / "compose/known-bad").glob("*.yaml"))], ids=lambda file: file and file.stem
)
def test_our_own_stacks_were_written_for_both(overlay: Path | None) -> None:
    """The reference stack with each of its overlays; some are for another overlay, whose replica they change."""
    more = [overlay] if overlay else []
    bases = re.findall(r"two-site/[\w-]+\.yaml", overlay.read_text()) if overlay else []
    more[:0] = [ROOT / "compose" / base for base in bases]
    files = [ROOT / "compose/two-site/compose.yaml", *more]
    assert lacking(load_stack(files)) == []
    assert {"etcd", "caddy", "postgres"} <= programs(load_stack(files)).keys()


@pytest.mark.parametrize("overlay", ["", "trusting-sentinel.yaml"])
def test_the_queue_was_written_for_both(overlay: str) -> None:
    """The images of Valkey are for containers alone, so each has a command as a process."""
    folder = ROOT / "compose/queue"
    files = [folder / "compose.yaml", *([folder / overlay] if overlay else [])]
    assert lacking(load_stack(files)) == []
    assert {"bash", "caddy"} == programs(load_stack(files)).keys()


def test_so_was_the_mini_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And `auto` takes it where there is no engine."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    assert (lacking(load_stack([MINI / "compose.yaml"])), programs(load_stack([MINI / "compose.yaml"]))) == ([], {})
    assert runtimes.choose_runtime("auto", load_experiment(write_experiment(tmp_path)))[0].name == "embedded"
