"""Bad weather around whole runs on Compose, seen from outside: exit code, one clear error with its cure, nothing left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mini_stack import IMAGE, PROGRAM, Ran, finish, in_containers, run_until_told, start_chaoslab, write_experiment
from private_engine import PrivateEngine, private_engine, why_not

pytestmark = [pytest.mark.docker, pytest.mark.timeout(150), pytest.mark.usefixtures("engine")]

CUT = {"id": "cut", "fault": "site.isolate", "site": "east", "at": "0s", "heal_after": "4s"}
CUT_IS_IN = '"event":"effective"'
OTHER_MACHINE = {"DOCKER_HOST": "tcp://192.0.2.1:2375"}  # RFC 5737: nobody's address
MAIN = "from chaoslab.cli.program import main; main()"


def run(
    cwd: Path, *options: str, env: Mapping[str, str] | None = None, tweak: str = "", boot: str = "120s", **services: Any
) -> Ran:
    """A whole run on Compose; `services` change the stack, `boot` how long it may take, `tweak` the program."""
    overlay = in_containers(**{name.replace("_", "-"): one for name, one in services.items()})
    overlay["x-chaoslab"] = {**overlay.get("x-chaoslab", {}), "boot": boot}
    write_experiment(cwd, overlay=overlay)
    program = (sys.executable, "-c", f"{tweak}; {MAIN}") if tweak else PROGRAM
    options = options or ("--runtime", "compose")
    return finish(start_chaoslab(cwd, "run", "mini.yaml", *options, program=program, env=env), cwd)


def reports(ran: Ran, code: int, *messages: str) -> None:
    """The exit code, the story with its cure, one error and no more, nothing of the run on the engine."""
    said = ran.out + ran.err
    assert ran.code == code, said
    for message in messages:
        assert message in said, said
    assert "Traceback" not in ran.err, said
    assert "the harness broke" not in said, said
    assert ran.out.count("  error: ") + ran.err.count("chaoslab: ") == 1, said
    if ran.folder.exists():
        assert left_on_engine(run_id(ran)) == []


def nothing_was_started(ran: Ran) -> None:
    assert not ran.folder.parent.exists()


def run_id(ran: Ran) -> str:
    first = (ran.folder / "history.jsonl").read_text().splitlines()[0]
    return str(json.loads(first)["facts"]["run_id"])


def left_on_engine(id_: str) -> list[str]:
    """By the words of the `docker` command."""
    only = ["--filter", f"label=chaoslab.run={id_}"]
    lists = [["ps", "-a", *only], ["network", "ls", *only], ["volume", "ls", *only]]
    said = [subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout for words in lists]
    return [line for text in said for line in text.splitlines()[1:]]


def wait_for(child: subprocess.Popen[str], cwd: Path, text: str) -> str:
    """Until the history speaks of it; returns the run's id."""
    history = cwd / "runs/mini/latest/history.jsonl"
    while child.poll() is None and not (history.exists() and text in history.read_text()):
        time.sleep(0.02)
    assert child.poll() is None, child.communicate(timeout=5)
    return str(json.loads(history.read_text().splitlines()[0])["facts"]["run_id"])


# --- before anything is started ---------------------------------------------------------------------------------


def test_no_engine(tmp_path: Path) -> None:
    """Asked for, Compose is an error with its cure."""
    ran = run(tmp_path, env={"DOCKER_HOST": f"unix://{tmp_path}/nobody"})
    reports(ran, 5, "no Docker engine answers at unix://", "cure: start Docker")
    nothing_was_started(ran)


def test_no_engine_and_any_runtime_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs without containers, and its first line says so."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    ran = run_until_told(tmp_path, str(write_experiment(tmp_path)), "--runtime", "auto")
    assert (ran.code, ran.result["runtime"]) == (0, "embedded"), ran.out
    assert " ".join(ran.out.split()).startswith("runtime: embedded (no Docker engine answers at unix://"), ran.out


def test_an_engine_on_another_machine(tmp_path: Path) -> None:
    """Refused; no connection is made to it."""
    ran = run(tmp_path, env=OTHER_MACHINE)
    reports(ran, 5, "is on another machine", "cure: run chaoslab on that machine")
    nothing_was_started(ran)


def test_an_engine_on_another_machine_is_never_taken_by_itself(tmp_path: Path) -> None:
    """`auto` stays here."""
    ran = run(tmp_path, "--runtime", "auto", "--dry-run", env=OTHER_MACHINE)
    assert ran.code == 0, ran.err
    assert "embedded" in ran.out
    assert "is on another machine" in ran.out


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"mem_limit": "a lot"}, "mem_limit"), ({"network_mode": "host"}, "network_mode host would bypass the links")],
)
def test_a_compose_file_with_errors(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    """The user's fault, in Compose's words or ours: exit 2, and nothing is started."""
    ran = run(tmp_path, app_west=wrong)
    reports(ran, 2, words)
    nothing_was_started(ran)


# --- while the stack comes up -----------------------------------------------------------------------------------


def test_an_image_that_cannot_be_had(tmp_path: Path) -> None:
    """The service that needs it, and how to get it."""
    ran = run(tmp_path, app_east={"image": "nobody.invalid/has/this:1"})
    reports(ran, 5, "image nobody.invalid/has/this:1 (of app-east)", "cure: docker pull nobody.invalid/has/this:1")
    assert ran.result["verdict"] == "error"


def test_a_build_that_fails(tmp_path: Path) -> None:
    """The builder's last words."""
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo no flour left >&2; exit 3\n")
    ran = run(tmp_path, app_east={"image": "chaoslab-tests/never-built", "build": str(tmp_path)})
    reports(ran, 5, "docker compose build failed", "no flour left", "cure: docker compose build")
    assert ran.result["verdict"] == "error"


def test_a_service_that_never_gets_healthy(tmp_path: Path) -> None:
    """Its state, the output of its check, its last lines. The stack says for how long it is waited for."""
    cold = {"command": ["sh", "-c", "echo the oven is cold; exec python app.py"], "healthcheck": {"test": ["CMD", "false"]}}
    ran = run(tmp_path, boot="20s", app_west=cold)
    reports(ran, 5, "not healthy after waiting up to 20 s: app-west", "its health check: false", "| the oven is cold", "cure: ")
    assert ran.result["verdict"] == "error"


def test_a_port_that_the_file_publishes_is_in_use(tmp_path: Path) -> None:
    """No trouble: what the harness publishes has ports of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [f"127.0.0.1:{taken.getsockname()[1]}:8080"]
        write_experiment(tmp_path, overlay=in_containers(entry={"ports": ports}), timeline=[CUT | {"heal_after": "2s"}])
        ran = run_until_told(tmp_path, "mini.yaml", "--runtime", "compose")
    assert ran.code == 0, ran.out


def test_a_port_that_another_program_takes_meanwhile(tmp_path: Path) -> None:
    """Between choosing a port and listening on it there is a moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run(tmp_path, tweak=f"from chaoslab.stack.ports import PortBlock; PortBlock.take = lambda _: {port}")
    reports(ran, 5, str(port), "cure: run it again: another program took the port")
    assert ran.result["verdict"] == "error"


NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--"]


@pytest.mark.skipif(
    not os.environ.get("CHAOSLAB_REQUIRE_DOCKER")
    and (not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0),
    reason="no namespaces here",
)
def test_the_disk_of_the_runs_is_full(tmp_path: Path) -> None:
    """The folder of runs on a disk of 256 KiB: an error, and nothing left anywhere."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "runs").mkdir()
    script = 'mount -t tmpfs -o size=256k none runs && exec "$0" -m chaoslab "$@"'
    program = [*NAMESPACE, "sh", "-c", script, sys.executable]
    write_experiment(tmp_path, overlay=in_containers(entry={"labels": {"weather": str(tmp_path)}}), probe={"rate": 100})
    env = {"TMPDIR": str(tmp_path / "temporary")}
    child = start_chaoslab(tmp_path, "run", "mini.yaml", "--runtime", "compose", program=program, env=env)
    ran = finish(child, tmp_path)
    reports(ran, 5, "No space left on device", "cure: free some space")
    assert [*(tmp_path / "temporary").iterdir()] == []
    ours = ["docker", "ps", "-aq", "--filter", f"label=weather={tmp_path}"]
    assert subprocess.run(ours, capture_output=True, text=True, check=True).stdout == ""


# --- while the faults play --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [["kill"], ["restart", "--time", "0"], ["rm", "--force"]], ids=lambda words: words[0])
def test_a_toxiproxy_that_ends_during_a_fault(tmp_path: Path, what: list[str]) -> None:
    """Its faults are healed without a word: nothing can be concluded about them, and the run says so."""
    write_experiment(tmp_path, overlay=in_containers(), timeline=[CUT])
    child = start_chaoslab(tmp_path, "run", "mini.yaml", "--runtime", "compose")
    id_ = wait_for(child, tmp_path, CUT_IS_IN)
    named = ["--filter", f"label=chaoslab.run={id_}", "--filter", "label=chaoslab.replica=wan-outside-east"]
    wan = subprocess.run(["docker", "ps", "-q", *named], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["docker", *what, wan], capture_output=True, check=True)
    ran = finish(child, tmp_path)
    assert (ran.code, ran.result["verdict"]) == (3, "inconclusive"), ran.out
    assert "silently undoes every fault" in ran.objective("fault.cut")["why"]
    assert ran.objective("app.rto")["verdict"] == "inconclusive"
    assert "Traceback" not in ran.out + ran.err
    assert left_on_engine(id_) == []


# --- an engine of our own ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_engine() -> Iterator[PrivateEngine]:
    if missing := why_not():
        (pytest.fail if os.environ.get("CHAOSLAB_REQUIRE_DOCKER") else pytest.skip)(missing)
    with private_engine() as engine:
        yield engine


def beside(engine: PrivateEngine, cwd: Path) -> subprocess.Popen[str]:
    """A run on that engine."""
    write_experiment(cwd, overlay=in_containers(), timeline=[CUT])
    program = engine.beside(*PROGRAM)
    return start_chaoslab(cwd, "run", "mini.yaml", "--runtime", "compose", program=program, env=engine.env)


def heal(engine: PrivateEngine, cwd: Path) -> tuple[int, str]:
    """From a shell in which another engine is chosen: the journal knows better."""
    child = start_chaoslab(cwd, "heal", "--all", program=engine.beside(*PROGRAM))
    out, err = child.communicate(timeout=60)
    return child.returncode, out + err


def test_an_engine_that_dies_during_the_run(tmp_path: Path, own_engine: PrivateEngine) -> None:
    """An error that names it; what it kept is listed, and healed once it is back, from any shell, once."""
    child = beside(own_engine, tmp_path)
    id_ = wait_for(child, tmp_path, CUT_IS_IN)
    own_engine.kill()
    ran = finish(child, tmp_path)
    assert (ran.code, ran.result["verdict"], ran.result["cleanup"]) == (6, "error", "incomplete"), ran.out
    assert ran.out.count("  error: ") == 1, ran.out
    assert "the Docker engine no longer answers" in ran.result["reasons"][0]
    assert "cure: start Docker" in ran.out
    assert any(f"labelled chaoslab.run={id_}" in left for left in ran.result["left_behind"])
    assert any("when the cause is fixed, run: chaoslab heal runs/mini/" in left for left in ran.result["left_behind"])
    code, said = heal(own_engine, tmp_path)
    assert code == 6, "healing cannot work before the engine is back"
    assert "no Docker engine answers" in said
    own_engine.start()
    assert own_engine.things() != [], "known bad: what is to be healed is there"
    assert heal(own_engine, tmp_path)[0] == 0
    assert own_engine.things() == []
    assert heal(own_engine, tmp_path) == (0, "there was nothing to heal\n")


def test_the_disk_of_the_engine_is_full(tmp_path: Path, own_engine: PrivateEngine) -> None:
    """Its own words, and the cure."""
    with own_engine.full():
        ran = finish(beside(own_engine, tmp_path), tmp_path)
    assert (ran.code, ran.result["verdict"]) == (5, "error"), ran.out
    assert ran.out.count("  error: ") == 1, ran.out
    assert "no space left on device" in ran.out
    assert "cure: free some space where the engine keeps its data" in ran.out
    assert own_engine.things() == []
