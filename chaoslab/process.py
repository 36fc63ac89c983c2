"""The only module that spawns processes. Each is the leader of its own session, so that its group can be ended as one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from chaoslab.clock import SYSTEM
from chaoslab.errors import EnvironmentFault
from chaoslab.files import open_to_append

Completed = subprocess.CompletedProcess[str]
Found = psutil.Process
GIVES_WAY, COMES_FIRST = 10, -10  # niceness: a tenth of the usual weight, and ten times as much


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    niceness: int = 0,
    session_niceness: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; both outputs are appended to `log`.

    `niceness`: who gets the processor first, so that a busy stack does not make the instrument stall. `session_niceness`: of
    its session among the others, where that is to be another for a while.
    Raises EnvironmentFault when the program is not there or may not run.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with _private_log(log) as sink:
        try:
            child = subprocess.Popen(
                list(command), stdin=stdin, stdout=sink, stderr=sink, env=env, cwd=cwd, start_new_session=True
            )
        except OSError as broken:
            raise EnvironmentFault(f"cannot start {command[0]}: {broken}") from broken
    if niceness or session_niceness:
        _weigh(child.pid, niceness, niceness if session_niceness is None else session_niceness)
    return child


def _weigh(pid: int, niceness: int, session_niceness: int) -> None:
    """Set a priority, as well as this machine can: a nicety, so nothing here is an error.

    Linux may weigh whole sessions against each other (autogroups); within them alone the usual priority counts. Whoever comes
    first does so in real time where that is allowed (Linux, root): a waking process with a high weight still waits for others
    to use up their slice.
    """
    if niceness == COMES_FIRST and sys.platform == "linux":
        in_real_time(pid, 1)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    weigh_session(pid, session_niceness)


def weigh_session(pid: int, niceness: int) -> None:
    """Set the priority of a process's whole session among the others, where Linux weighs sessions. `session_weight` tells.

    Ordinary users may not raise it above 0, and may set that of one session in a tenth of a second.
    """
    for _ in range(3):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
            return
        except BlockingIOError:
            SYSTEM.sleep(0.1)
        except OSError:
            return


def session_weight(pid: int) -> tuple[str, int] | None:
    """Which session (autogroup) a process belongs to for Linux, and its niceness; None where there is no such thing."""
    try:
        name, _, niceness = Path(f"/proc/{pid}/autogroup").read_text().split()
        return name, int(niceness)
    except (OSError, ValueError):
        return None


def in_real_time(thread: int, priority: int) -> None:
    """Let a thread run before all that share the processors by weight, where we may (Linux, root)."""
    with contextlib.suppress(OSError):  # not allowed, or gone
        os.sched_setscheduler(thread, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def _private_log(path: Path) -> IO[bytes]:
    """Logs may hold what is nobody else's business."""
    try:
        return os.fdopen(open_to_append(path), "ab")
    except OSError as broken:
        raise EnvironmentFault(f"cannot write the log {path}: {broken.strerror}") from broken


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
) -> Completed:
    """Run a command to its end, outputs captured. Raises EnvironmentFault when it cannot start or takes too long.

    It stands in a session of its own: Ctrl-C in a terminal goes to the harness alone, which decides what ends.
    What it leaves in the background goes on; one that takes too long is killed with all of its group.
    """
    try:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    except (OSError, ValueError) as broken:  # ValueError: a NUL among the words
        raise EnvironmentFault(f"cannot run {command[0]}: {broken}") from broken
    with child:
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as late:
            raise EnvironmentFault(f"{' '.join(command)}: no end within {timeout_s:.0f} s") from late
        finally:
            if child.returncode is None:
                _signal_group(child.pid, signal.SIGKILL)
    return Completed(list(command), child.returncode, out, err)


def marked(key: str, value: str) -> list[psutil.Process]:
    """Every living process whose environment holds `key=value`, and all their descendants."""
    return [process for process, found in _tagged(key).values() if found == value and alive(process)]


def tagged(key: str, prefix: str) -> dict[int, str]:
    """Pid to the value of environment variable `key`, for every living process where the value starts with `prefix`.

    Children that rewrote their environment (PostgreSQL's backends) are found through their parents; daemons that left
    their session and their parent (the postmaster) through their environment.
    """
    return {pid: value for pid, (process, value) in _tagged(key).items() if value.startswith(prefix) and alive(process)}


def _tagged(key: str) -> dict[int, tuple[psutil.Process, str]]:
    found: dict[int, tuple[psutil.Process, str]] = {}
    rest: list[psutil.Process] = []
    for process in psutil.process_iter():
        value = _environ(process).get(key)
        if value is None:
            rest.append(process)
        else:
            found[process.pid] = (process, value)
    growing = True
    while growing:
        heirs = {p.pid: (p, found[_parent(p)][1]) for p in rest if p.pid not in found and _parent(p) in found}
        found.update(heirs)
        growing = bool(heirs)
    return found


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.Error:
        return -1


def alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def families(pids: Iterable[int]) -> list[int]:
    """These processes, in their order, and then all their descendants, found in one look at the process table."""
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter():
        children.setdefault(_parent(process), []).append(process.pid)
    found = [*pids]
    for pid in found:  # it grows meanwhile
        found += children.pop(pid, [])
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal all of these at once; those that are gone already are left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def name_of(process: Found) -> str:
    """A process for people: the first words of its command, and its pid."""
    with contextlib.suppress(psutil.Error):
        program, *words = process.cmdline()[:3] or [process.name()]
        return f"{' '.join([Path(program).name, *words])} ({process.pid})"
    return f"process {process.pid}"


def is_dead(child: subprocess.Popen[bytes]) -> bool:
    """Whether a child runs no more. One with several threads may be a zombie for a moment before it can be waited for."""
    return child.poll() is not None or not alive(psutil.Process(child.pid))


def is_stopped(pid: int) -> bool:
    """Whether a process is frozen (SIGSTOP)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
