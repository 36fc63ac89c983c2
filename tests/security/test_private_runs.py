"""Real runs of the mini stack: nothing listens to the network, nothing is open to others, and no secret gets out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from listening import listening
from mini_stack import Ran, assert_nothing_left, finish, parts_of, start_chaoslab, write_experiment

from chaoslab.process import marked
from chaoslab.stack.reach import RUN_VARIABLE

QUICK = {"fault": "service.kill", "service": "app", "site": "east", "id": "kill", "heal_after": "2s"}
PLANTED = ("planted-token", "planted-env", "planted-url", "planted-header", "planted-cookie", "planted-body", "planted-arg")
TALKER = """
import http.server, json, os
print("my secrets:", os.environ["API_TOKEN"], os.environ["SESSION_SECRET"], os.environ["DATABASE"], flush=True)
ready = []
class Answers(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = json.dumps({"ready": bool(ready), "echo": os.environ["API_TOKEN"]}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_GET = answer
    def do_POST(self):
        ready.append(1); self.answer()
host, _, port = os.environ["LISTEN"].rpartition(":")
http.server.HTTPServer((host, int(port)), Answers).serve_forever()
"""
OVERLAY: dict[str, Any] = {
    "services": {
        "talker": {
            "command": ["python", "-c", TALKER],
            "environment": {
                "LISTEN": "${LISTEN:-0.0.0.0:9000}",
                "API_TOKEN": "planted-token",
                "SESSION_SECRET": "${FROM_THE_SHELL}",
                "DATABASE": "postgresql://app:planted-url@db/x",
            },
            "expose": [9000],
            "labels": {"chaoslab.site": "witness"},
        }
    },
    "x-chaoslab": {
        "conditions": {
            "talks": {
                "get": "http://talker:9000/",
                "expect": "ready",
                "bring_about": {"post": "http://talker:9000/", "json": {}},
            }
        },
        "journeys": {
            "app.read": {
                "service": "app",
                "request": {
                    "path": "/where?api_key=planted-body",
                    "headers": {"Authorization": "Bearer planted-header", "Cookie": "lang=ko; sid=planted-cookie"},
                },
                "good": {"status": 200, "within": "400ms"},
                "timeout": "1s",
            }
        },
    },
}
SAYS = "import sys; print('planted-token planted-arg', file=sys.stderr); sys.exit(3)"
EXEC = {
    **{"id": "loud", "fault": "exec", "at": "1s", "heal": ["true"], "verify": ["false"]},
    "inject": ["python3", "-c", SAYS, "--password=planted-arg"],
}


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of this test's own: an emergency stop here must not end the runs of others."""
    (tmp_path / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("FROM_THE_SHELL", "planted-env")


def wait_for(folder: Path, text: str) -> Path:
    """Until the history of the latest run speaks of it; returns the run's folder."""
    latest, until = folder / "runs/mini/latest", time.monotonic() + 30
    while time.monotonic() < until:
        if (latest / "history.jsonl").exists() and text in (latest / "history.jsonl").read_text():
            return latest.resolve()
        time.sleep(0.02)
    raise AssertionError(f"{text} did not come")


def processes_of(child: subprocess.Popen[str], folder: Path) -> list[psutil.Process]:
    run_id = json.loads((folder / "history.jsonl").read_text().splitlines()[0])["facts"]["run_id"]
    mine = psutil.Process(child.pid)
    return [mine, *mine.children(recursive=True), *marked(RUN_VARIABLE, run_id)]


def modes(folder: Path) -> Iterator[tuple[str, int]]:
    for path in [folder, *folder.rglob("*")]:
        yield ("folder" if path.is_dir() else str(path.relative_to(folder))), path.stat().st_mode & 0o777


def holding(folder: Path) -> list[str]:
    """The files that hold a planted secret."""
    return [
        f"{path.relative_to(folder)}: {secret}"
        for path in folder.rglob("*")
        if path.is_file()
        for secret in PLANTED
        if secret.encode() in path.read_bytes()
    ]


def loud_run(tmp_path: Path) -> Ran:
    """A run in which every secret is said aloud somewhere, looked at while it goes."""
    load = tmp_path / "users.py"
    load.write_text(
        "from locust import task\nfrom chaoslab.locust_rows import DeadlineUser\n"
        "class User(DeadlineUser):\n    @task\n    def read(self):\n        self.client.get('/where')\n"
    )
    steady = {"hold": "1s", "within": "30s", "conditions": ["talks"]}
    changes = {"timeline": [QUICK, EXEC], "steady_state": steady, "load": {"locustfile": str(load), "users": 2}}
    spec = write_experiment(tmp_path, overlay=OVERLAY, **changes)
    child = start_chaoslab(tmp_path, "run", str(spec), "--allow-exec")
    folder = wait_for(tmp_path, '"event":"effective"')
    running = processes_of(child, folder)
    assert len(running) > 6
    assert {ip for ip, _ in listening(running)} == {"127.0.0.1"}
    assert {mode for name, mode in modes(folder) if name == "folder"} == {0o700}
    assert [(name, oct(mode)) for name, mode in modes(folder) if name != "folder" and mode != 0o600] == []
    found = " ".join(holding(folder))
    assert "planted-token" in found, (
        "a service says its secrets aloud, and its log is covered at the end; if not, nothing is tested"
    )
    assert "planted-header" not in found and "planted-cookie" not in found, "what the prober sends never gets to the disk"
    return finish(child, tmp_path)


def test_a_run_keeps_its_secrets_and_can_be_judged_without_them(tmp_path: Path) -> None:
    """Planted in environment, headers, URLs, bodies, arguments and answers: in no file, output or bundle; the same verdict."""
    ran = loud_run(tmp_path)
    result = ran.result
    assert result["verdict"] == "error", "the loud fault fails and says so"
    assert "exit status 3" in ran.out
    assert holding(ran.folder) == []
    assert [secret for secret in PLANTED if secret in ran.out + ran.err] == []
    assert [(name, oct(mode)) for name, mode in modes(ran.folder) if mode not in (0o600, 0o700)] == []
    assert "my secrets: ***" in (ran.folder / "logs/talker.log").read_text()
    assert "***" in (ran.folder / "experiment.yaml").read_text()
    away = tmp_path / "another-machine"
    away.mkdir()
    export = start_chaoslab(tmp_path, "export", "mini", "-o", str(away / "b.tar.gz"))
    assert "sha256" in export.communicate(timeout=30)[0]
    for file in (tmp_path / "mini.yaml", tmp_path / "overlay.yaml"):
        file.unlink()
    shutil.rmtree(tmp_path / "runs")
    told, code = analyze(away, "b.tar.gz")
    assert (json.loads(told), code) == (result, ran.code)
    with tarfile.open(away / "b.tar.gz") as archive:
        archive.extractall(away / "open", filter="data")
    assert holding(away / "open") == []
    (opened,) = (away / "open").iterdir()
    assert analyze(away, str(opened)) == (told, code)
    (opened / "history.jsonl").write_text((opened / "history.jsonl").read_text().replace('"good":false', '"good":true'))
    assert analyze(away, str(opened))[1] == 5


def analyze(folder: Path, bundle: str) -> tuple[str, int]:
    child = start_chaoslab(folder, "analyze", bundle, "--json")
    return child.communicate(timeout=30)[0], child.returncode


def ask(folder: Path, *arguments: str) -> tuple[int, str]:
    child = start_chaoslab(folder, *arguments)
    out, err = child.communicate(timeout=60)
    return child.returncode, out + err


def test_the_emergency_stop_ends_a_run_and_blocks_the_next(tmp_path: Path) -> None:
    """From any folder: healed and cleaned; a new run is refused with its cure until `resume`; a second stop changes nothing."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spec = str(write_experiment(tmp_path))
    child = start_chaoslab(tmp_path, "run", spec)
    wait_for(tmp_path, '"event":"effective"')
    code, said = ask(elsewhere, "stop", "--all")
    assert (code, "nothing is left behind" in said) == (0, True), said
    assert finish(child, tmp_path).code == 130
    runs = list((tmp_path / "runs/mini").iterdir())
    code, said = ask(tmp_path, "run", spec)
    assert (code, "chaoslab resume" in said) == (2, True), said
    assert list((tmp_path / "runs/mini").iterdir()) == runs
    assert "no runs stopped" in ask(elsewhere, "stop", "--all")[1]
    assert "allowed again" in ask(elsewhere, "resume")[1]
    assert "were not blocked" in ask(elsewhere, "resume")[1]


@pytest.mark.parametrize("how", ["a folder that is a link", "a journal that is a link", "a bundle"])
def test_heal_carries_out_no_journal_of_somebody_else(tmp_path: Path, how: str) -> None:
    """Known bad: it removes folders and runs commands, so what is only linked or unpacked below runs/ must not be followed."""
    precious, foreign, run = tmp_path / "precious", tmp_path / "foreign", tmp_path / "project" / "runs" / "mini" / "evil"
    for folder in (precious, foreign, run.parent):
        folder.mkdir(parents=True)
    (foreign / "undo.jsonl").write_text(json.dumps({"undo": "remove-folder", "path": str(precious)}) + "\n")
    (foreign / "experiment.yaml").touch()
    if how == "a folder that is a link":
        run.symlink_to(foreign)
    else:
        shutil.copytree(foreign, run)
    if how == "a journal that is a link":
        (run / "undo.jsonl").unlink()
        (run / "undo.jsonl").symlink_to(foreign / "undo.jsonl")
    if how == "a bundle":
        (run / "manifest.json").write_text("{}")
    _, said = ask(tmp_path / "project", "heal", "--all")
    assert precious.exists(), said
    assert "its undo journal is not executed" in said
    assert ask(tmp_path / "project", "heal", "runs/mini/evil")[0] in (2, 5)
    assert precious.exists()


def test_heal_finds_a_killed_run_from_anywhere(tmp_path: Path) -> None:
    """Harness and reaper killed at once: what they left is found through the registry, healed once, and forgotten."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path)))
    folder = wait_for(tmp_path, '"event":"effective"')
    assert "still running" in ask(elsewhere, "heal", "--all")[1]
    reapers = parts_of(child.pid, "chaoslab.cleanup.reaper")
    for pid in [*(reaper.pid for reaper in reapers), child.pid]:
        os.kill(pid, signal.SIGKILL)
    child.communicate(timeout=10)
    assert len(reapers) == 1
    with pytest.raises(AssertionError):
        assert_nothing_left(folder)
    assert "healed" in ask(elsewhere, "heal", "--all")[1]
    assert_nothing_left(folder)
    assert ask(elsewhere, "heal", "--all") == (0, "there was nothing to heal\n")
    assert list((tmp_path / "runtime/chaoslab").iterdir()) == []
    code, said = ask(tmp_path, "export", "mini")
    assert (code, "no result.json" in said) == (5, True), said
