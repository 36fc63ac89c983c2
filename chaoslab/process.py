"""The only module that spawns processes. Each is the leader of its own session, so that its group can be ended as one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from chaoslab.errors import EnvironmentFault


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; both outputs are appended to `log`.

    Raises EnvironmentFault when the program is not there or may not run.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        try:
            return subprocess.Popen(
                list(command), stdin=stdin, stdout=sink, stderr=sink, env=env, cwd=cwd, start_new_session=True
            )
        except OSError as broken:
            raise EnvironmentFault(f"cannot start {command[0]}: {broken}") from broken


def end_group(child: subprocess.Popen[bytes], *, grace_s: float = 5.0) -> int:
    """Ask the child's group to end, then make it; returns the exit status. Safe on one that has ended already."""
    _signal_group(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_s)
    _signal_group(child.pid, signal.SIGKILL)
    return child.wait()


def _signal_group(pgid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def run(
    command: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, outputs captured. Raises EnvironmentFault when it cannot start or takes too long."""
    try:
        return subprocess.run(
            list(command),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=env,
            cwd=cwd,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as late:
        raise EnvironmentFault(f"{' '.join(command)}: no end within {timeout_s:.0f} s") from late
    except OSError as broken:
        raise EnvironmentFault(f"cannot run {command[0]}: {broken}") from broken


def marked(key: str, value: str) -> list[psutil.Process]:
    """Every process whose environment holds `key=value`, or whose parent is one of those.

    Children that rewrote their environment (PostgreSQL's backends) are found through their parents; daemons that left
    their session and parent (the postmaster) through their environment.
    """
    found: dict[int, psutil.Process] = {}
    rest: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            (found.__setitem__(process.pid, process) if process.environ().get(key) == value else rest.append(process))
        except (psutil.AccessDenied, psutil.ZombieProcess, OSError):
            rest.append(process)
        except psutil.NoSuchProcess:
            continue
    growing = True
    while growing:
        children = [process for process in rest if _parent(process) in found and process.pid not in found]
        found.update((process.pid, process) for process in children)
        growing = bool(children)
    return [process for process in found.values() if _alive(process)]


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.NoSuchProcess:
        return -1


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
