"""What is done to a machine, or to a run, to see whether the run tells the truth about it. Everything ends by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import psutil
from fire_runs import STACK

from chaoslab.process import marked, tagged
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.compose.project import REPLICA_LABEL, ROLE_LABEL, RUN_LABEL
from chaoslab.stack.reach import REPLICA_VARIABLE, RUN_VARIABLE

LONGEST_S = 400  # no load outlives this, whatever becomes of its parent
BUSY = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
WRITER = """
import os, sys, time
end, block = time.monotonic() + float(sys.argv[1]), b"x" * 1_000_000
with open(sys.argv[2], "wb") as file:
    while time.monotonic() < end:
        file.seek(0)
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
"""


@contextlib.contextmanager
def busy_loops(count: int = 2) -> Iterator[list[int]]:
    """So many processes that do nothing but compute. Their pids."""
    with _programs([[BUSY, str(LONGEST_S)]] * count) as started:
        yield [one.pid for one in started]


def fsync_writers(disk: Path, for_s: float, count: int = 3) -> list[int]:
    """So many processes that write a megabyte and force it to `disk`, again and again, for so long. Their pids."""
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-", dir=disk) as folder:
        programs = [[WRITER, str(for_s), f"{folder}/{number}"] for number in range(count)]
        with _programs(programs) as started:
            for one in started:
                one.wait(for_s + 30)
        return [one.pid for one in started]


@contextlib.contextmanager
def _programs(arguments: Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Python programs, each with its arguments; ended afterwards."""
    started = [subprocess.Popen([sys.executable, "-I", "-S", "-c", *each]) for each in arguments]
    try:
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()


def disk_of(runtime: str) -> Path:
    """A folder on the file system that holds the stack's volumes."""
    root = Path(docker.from_env().info()["DockerRootDir"]) if runtime == "compose" else Path(tempfile.gettempdir())
    return root if os.access(root, os.W_OK) else Path(tempfile.gettempdir())


# --- freezing -----------------------------------------------------------------------------------------------------


def freeze_all(child: int, run_id: str, runtime: str, for_s: float) -> None:
    """The whole run stands still: the program, its prober, its control, the load, the stack and the links."""
    with contextlib.ExitStack() as thaw:
        thaw.enter_context(stopped(lambda: _family(child)))
        if runtime == "compose":
            thaw.enter_context(_paused(run_id, lambda _: True))
        else:
            thaw.enter_context(stopped(lambda: {process.pid for process in marked(RUN_VARIABLE, run_id)}))
        time.sleep(for_s)


def freeze_replicas(child: int, run_id: str, runtime: str, for_s: float) -> None:
    """The stack's replicas stand still, and nothing else."""
    names = set(load_stack([STACK]).services)
    if runtime == "compose":
        frozen = _paused(run_id, lambda labels: labels.get(ROLE_LABEL) == "replica" and labels.get(REPLICA_LABEL) in names)
    else:
        frozen = stopped(lambda: replicas_of(run_id, names))
    with frozen:
        time.sleep(for_s)


def _family(child: int) -> set[int]:
    return {child, *(process.pid for process in psutil.Process(child).children(recursive=True))}


def replicas_of(run_id: str, names: set[str]) -> set[int]:
    """The pids of all living processes of these replicas."""
    return {pid for pid, value in tagged(REPLICA_VARIABLE, f"{run_id}/").items() if value.partition("/")[2] in names}


@contextlib.contextmanager
def stopped(find: Callable[[], set[int]]) -> Iterator[None]:
    """SIGSTOP to what `find` finds, also to what is born meanwhile; SIGCONT afterwards."""
    stopped: set[int] = set()
    try:
        while born := find() - stopped:
            _signal(born, signal.SIGSTOP)
            stopped |= born
        yield
    finally:
        _signal(stopped, signal.SIGCONT)


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def _paused(run_id: str, wanted: Callable[[dict[str, str]], bool]) -> Iterator[None]:
    """Running containers of the run whose labels are wanted, paused all at once; let go afterwards."""
    found = docker.from_env().containers.list(filters={"label": f"{RUN_LABEL}={run_id}", "status": "running"})
    chosen = [container for container in found if wanted(container.labels)]
    with ThreadPoolExecutor(max_workers=32) as pool:
        try:
            list(pool.map(lambda one: one.pause(), chosen))
            yield
        finally:
            list(pool.map(_unpause, chosen))


def _unpause(container: Any) -> None:
    with contextlib.suppress(docker.errors.APIError):  # it was not paused, or is gone
        container.unpause()
