"""The only module that spawns processes. Each is the leader of its own session, so that its group can be ended as one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from chaoslab.clock import NS_PER_S, SYSTEM, Deadline
from chaoslab.errors import EnvironmentFault

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
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; both outputs are appended to `log`.

    `niceness`: who gets the processor first, so that a busy stack does not make the instrument stall.
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
    if niceness:
        _weigh(child.pid, niceness)
    return child


def _weigh(pid: int, niceness: int) -> None:
    """Set a priority, as well as this machine can: a nicety, so nothing here is an error.

    Linux may weigh whole sessions against each other (autogroups); within them alone the usual priority counts. Ordinary
    users may only lower one, and that for one session in a tenth of a second. Whoever comes first does so in real time where
    that is allowed (Linux, root): a waking process with a high weight still waits for others to use up their slice.
    """
    if niceness == COMES_FIRST and sys.platform == "linux":
        _in_real_time(pid, 1)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    for _ in range(3):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
            return
        except BlockingIOError:
            SYSTEM.sleep(0.1)
        except OSError:
            return


def _private_log(path: Path) -> IO[bytes]:
    """Logs may hold what is nobody else's business."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")


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
    """Run a command to its end, outputs captured. Raises EnvironmentFault when it cannot start or takes too long."""
    try:
        return subprocess.run(
            list(command),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=env,
            cwd=cwd,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as late:
        raise EnvironmentFault(f"{' '.join(command)}: no end within {timeout_s:.0f} s") from late
    except (OSError, ValueError) as broken:  # ValueError: a NUL among the words
        raise EnvironmentFault(f"cannot run {command[0]}: {broken}") from broken


def marked(key: str, value: str) -> list[psutil.Process]:
    """Every living process whose environment holds `key=value`, and all their descendants."""
    return [process for process, found in _tagged(key).values() if found == value and _alive(process)]


def tagged(key: str, prefix: str) -> dict[int, str]:
    """Pid to the value of environment variable `key`, for every living process where the value starts with `prefix`.

    Children that rewrote their environment (PostgreSQL's backends) are found through their parents; daemons that left
    their session and their parent (the postmaster) through their environment.
    """
    return {pid: value for pid, (process, value) in _tagged(key).items() if value.startswith(prefix) and _alive(process)}


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


def _alive(process: psutil.Process) -> bool:
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


@dataclass(frozen=True)
class Killed:
    """How a kill went, in monotonic ns. `deaths_ns`: when each was seen dead, by its pid; `survivors` were not.

    `signalled_ns`: before the first signal and after the last. A process with a SIGKILL pending runs no instruction of its own
    any more; it is dead (a zombie counts) when its memory has been released.
    """

    signalled_ns: tuple[int, int]
    deaths_ns: Mapping[int, int]
    survivors: frozenset[int] = frozenset()

    @property
    def skew_ms(self) -> float:
        """From the first death to the last; 0 without deaths."""
        return (max(self.deaths_ns.values(), default=0) - min(self.deaths_ns.values(), default=0)) / NS_PER_S * 1000

    def and_then(self, again: Killed) -> Killed:
        """Both as one."""
        return Killed((self.signalled_ns[0], again.signalled_ns[1]), {**self.deaths_ns, **again.deaths_ns}, again.survivors)

    @property
    def signals_ms(self) -> float:
        return (self.signalled_ns[1] - self.signalled_ns[0]) / NS_PER_S * 1000


def kill(pids: Iterable[int], deadline: Deadline, then: Callable[[], object] | None = None) -> Killed:
    """SIGKILL to all of these and watch them die; those that are gone already are left out.

    Whoever has most memory to release goes first, so that the last deaths are short ones.
    `then` is called, beside the watching, once all are signalled: to thaw who cannot die while frozen. Its errors are raised.
    """
    with contextlib.ExitStack() as handles:
        heaviest_first = sorted(pids, key=_resident_bytes, reverse=True)
        there = {pid: found for pid in heaviest_first if (found := _watch(pid, handles)) is not None}
        handles.enter_context(_before_all_others(there))
        began_ns = deadline.clock.now_ns()
        send(there, signal.SIGKILL)
        signalled_ns = began_ns, deadline.clock.now_ns()
        thawing = handles.enter_context(ThreadPoolExecutor(1)).submit(then) if then else None
        watched = {pid: handle for pid, handle in there.items() if isinstance(handle, int)}
        asked = {pid: process for pid, process in there.items() if isinstance(process, psutil.Process)}
        deaths_ns = _deaths_ns(watched, deadline) | _deaths_asked_ns(asked, deadline)
        if thawing is not None:
            thawing.result()
        return Killed(signalled_ns, deaths_ns, frozenset(there) - deaths_ns.keys())


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


@contextlib.contextmanager
def _before_all_others(pids: Iterable[int]) -> Iterator[None]:
    """Let this thread, and after it these processes, have the processors before all that is busy, where we may (Linux, root).

    A killed process still needs one to release its memory, and dozens of them would die long after each other in its queue.
    """
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):  # not to be reset on a fork: who may not clear that mark could not go back
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    for thread in [thread for pid in pids for thread in _threads(pid)]:  # the last of a process releases its memory
        _in_real_time(thread, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, *before)


def _threads(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    return []


def _in_real_time(thread: int, priority: int) -> None:
    with contextlib.suppress(OSError):  # not allowed, or gone
        os.sched_setscheduler(thread, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def _watch(pid: int, handles: contextlib.ExitStack) -> int | psutil.Process | None:
    """A handle that is readable once the process is dead, on Linux; None for one that is gone."""
    try:
        if sys.platform != "linux":
            return psutil.Process(pid)
        handle = os.pidfd_open(pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None
    handles.callback(os.close, handle)
    return handle


def _deaths_asked_ns(asked: Mapping[int, psutil.Process], deadline: Deadline) -> dict[int, int]:
    """For systems without such handles."""
    waiting, seen = dict(asked), dict[int, int]()
    while waiting and not deadline.passed:
        now_ns = deadline.clock.now_ns()
        seen |= {pid: now_ns for pid, process in waiting.items() if not _alive(process)}
        waiting = {pid: process for pid, process in waiting.items() if pid not in seen}
    return seen


def _deaths_ns(watched: Mapping[int, int], deadline: Deadline) -> dict[int, int]:
    """Waits without asking again and again: the dying need the processor themselves."""
    poll, seen, pids = select.poll(), dict[int, int](), {handle: pid for pid, handle in watched.items()}
    for handle in pids:
        poll.register(handle, select.POLLIN)
    while len(seen) < len(pids) and (dead := poll.poll(deadline.left_s * 1000)):
        for handle, _ in dead:
            seen[pids[handle]] = deadline.clock.now_ns()
            poll.unregister(handle)
    return seen


def name_of(process: Found) -> str:
    """A process for people: the first words of its command, and its pid."""
    with contextlib.suppress(psutil.Error):
        program, *words = process.cmdline()[:3] or [process.name()]
        return f"{' '.join([Path(program).name, *words])} ({process.pid})"
    return f"process {process.pid}"


def is_dead(child: subprocess.Popen[bytes]) -> bool:
    """Whether a child runs no more. One with several threads may be a zombie for a moment before it can be waited for."""
    return child.poll() is not None or not _alive(psutil.Process(child.pid))


def is_stopped(pid: int) -> bool:
    """Whether a process is frozen (SIGSTOP)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
