"""The mini stack, for tests that need something real to hurt: on the embedded runtime, and what it needs as containers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import psutil
import yaml

from chaoslab.clock import Deadline
from chaoslab.process import marked
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.loop_disk import attached
from chaoslab.stack.reach import RUN_VARIABLE

MINI = Path(__file__).parent / "mini"
PROGRAM = (sys.executable, "-m", "chaoslab")
IMAGE = "chaoslab/two-site:latest"  # has a Python, and every machine that tests containers has it


@contextlib.contextmanager
def embedded_stack(
    *files: Path,
    relayed: Collection[str] = (),
    cut: Collection[str] = (),
    watch_asks: bool = False,
    within_s: float = 30,
) -> Iterator[EmbeddedStack]:
    """A stack that is up; afterwards nothing of it is left, which is checked.

    `relayed`: see CanBlockWithinSite; `cut`: see CanCutDisks, where the machine allows that; `watch_asks`: see CanTellAsks.
    """
    run_id, folder = token_hex(4), Path(tempfile.mkdtemp(prefix="chaoslab-test-"))
    stack = EmbeddedStack(load_stack(files), run_id, folder / "data", folder / "logs")
    stack.relay_within_site(relayed)
    if watch_asks:
        stack.watch_asks()
    if stack.why_no_cut() is None:
        stack.ready_to_cut(cut)
    try:
        stack.up(Deadline.after(within_s), lambda _: None)
        yield stack
    finally:
        assert stack.down() == []
        shutil.rmtree(folder)
    assert marked(RUN_VARIABLE, run_id) == []
    assert attached(str(folder)) == []


@contextlib.contextmanager
def mini_stack(*overlays: Path, relayed: Collection[str] = (), cut: Collection[str] = ()) -> Iterator[EmbeddedStack]:
    """The mini stack, up."""
    with embedded_stack(MINI / "compose.yaml", *overlays, relayed=relayed, cut=cut) as stack:
        yield stack


def in_containers(**more: dict[str, Any]) -> dict[str, Any]:
    """An overlay that gives the mini stack's services an image and their code; `more` adds to a service, by its name."""
    container = {"image": IMAGE, "working_dir": "/mini", "volumes": [f"{MINI}:/mini:ro"], "stop_grace_period": "1s"}
    sites = {"store": {}, "entry": {}, "app-east": {"CHAOSLAB_SITE": "east"}, "app-west": {"CHAOSLAB_SITE": "west"}}
    services = {name: container | {"environment": env} for name, env in sites.items()}
    return {"services": {name: services.get(name, {}) | more.get(name, {}) for name in {**services, **more}}}


def write_experiment(folder: Path, *, overlay: dict[str, Any] | None = None, **changes: Any) -> Path:
    """An experiment on the mini stack, in `folder`; `changes` replace top-level keys, `overlay` is one of the stack's."""
    spec = yaml.safe_load((MINI / "pass.yaml").read_text()) | changes
    spec["stack"] = [str(MINI / "compose.yaml")]
    if overlay is not None:
        (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
        spec["stack"].append(str(folder / "overlay.yaml"))
    path = folder / "mini.yaml"
    path.write_text("# What this test claims.\n" + yaml.safe_dump({k: v for k, v in spec.items() if v is not None}))
    return path


@dataclass(frozen=True)
class Ran:
    """What `chaoslab run` left: its exit code, its outputs and its result."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return found

    def objective(self, id_: str) -> dict[str, Any]:
        return next(one for one in self.result["objectives"] if one["id"] == id_)


def start_chaoslab(
    cwd: Path, *arguments: str, program: Sequence[str] = PROGRAM, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """The program as a person starts it, in a folder of its own. `env` is added to ours."""
    command, whole = [*program, *arguments], {**os.environ, **(env or {})}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=whole, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def finish(child: subprocess.Popen[str], cwd: Path, name: str = "mini", timeout_s: float = 90) -> Ran:
    """Wait for the end, and prove that nothing of the run is left."""
    out, err = child.communicate(timeout=timeout_s)
    folder = (cwd / "runs" / name / "latest").resolve()
    if folder.exists():
        assert_nothing_left(folder)
    return Ran(child.returncode, out, err, folder)


def run_chaoslab(cwd: Path, *arguments: str) -> Ran:
    """`chaoslab run` to its end."""
    return finish(start_chaoslab(cwd, "run", *arguments), cwd)


def run_until_told(cwd: Path, *arguments: str) -> Ran:
    """`chaoslab run` until it can be told: on a busy machine the harness may stall, says so, and wants to be asked again."""
    for _ in range(3):
        ran = run_chaoslab(cwd, *arguments)
        if ran.code != 3:
            break
    return ran


def assert_nothing_left(folder: Path) -> None:
    """No process, port or folder of a stored run exists any more."""
    anchor = json.loads((folder / "history.jsonl").read_text().splitlines()[0])
    run_id = anchor["facts"]["run_id"]
    assert commands_of(marked(RUN_VARIABLE, run_id)) == []
    assert not (Path(tempfile.gettempdir()) / f"chaoslab-{run_id}").exists()
    assert commands_of(p for p in psutil.process_iter() if speaks_of(p, str(folder))) == []


def parts_of(harness: int, module: str) -> list[psutil.Process]:
    """The living processes of a run that run this module; those that are dying, or dead and not waited for, are none."""
    return [process for process in psutil.Process(harness).children(recursive=True) if speaks_of(process, module)]


def commands_of(processes: Iterable[psutil.Process]) -> list[list[str]]:
    """What living processes were started with; one that ended in this moment is none."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.append(process.cmdline())
    return found


def speaks_of(process: psutil.Process, text: str) -> bool:
    try:
        return any(text in word for word in process.cmdline())
    except psutil.Error:
        return False
