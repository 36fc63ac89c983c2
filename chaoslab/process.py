"""The only module that spawns processes. Each leads its own session, so that its process group can be ended as a unit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from chaoslab.clock import SYSTEM
from chaoslab.errors import EnvironmentFault
from chaoslab.files import log_tail, open_to_append

Completed = subprocess.CompletedProcess[str]
Found = psutil.Process
LOW_PRIORITY, HIGH_PRIORITY = 10, -10  # niceness: a tenth of the usual weight, and ten times as much


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
    """Start a command in a session of its own; both outputs are appended to `log`, a private file.

    `niceness`: the priority of the process, and of its session among the others unless `session_niceness` gives that another.
    Priorities are set as well as this machine can, and a refusal is no error: Linux may weigh whole sessions against each
    other (autogroups), and within a session alone the usual priority counts. With HIGH_PRIORITY the process runs in real time
    where that is allowed (Linux, root): a waking process with a high weight still waits for others to use up their slice.
    Raises EnvironmentFault when the log cannot be written, or the program is not there or may not run.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        sink = os.fdopen(open_to_append(log), "ab")
    except OSError as broken:
        raise EnvironmentFault(f"cannot write the log {log}: {broken.strerror}") from broken
    with sink:
        try:
            child = subprocess.Popen(
                list(command), stdin=stdin, stdout=sink, stderr=sink, env=env, cwd=cwd, start_new_session=True
            )
        except (OSError, ValueError) as broken:  # ValueError: a NUL among the words
            raise EnvironmentFault(f"cannot start {command[0]}: {broken}") from broken
    if niceness or session_niceness:
        if niceness == HIGH_PRIORITY and sys.platform == "linux":
            in_real_time(child.pid, 1)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, child.pid, niceness)
        set_session_niceness(child.pid, niceness if session_niceness is None else session_niceness)
    return child


def set_session_niceness(pid: int, niceness: int) -> None:
    """Set the priority of a process's whole session among the others, where Linux weighs sessions.

    A refusal is no error; `read_session_niceness` shows what the kernel took. Ordinary users may not raise a priority above 0,
    and may set that of one session in a tenth of a second.
    """
    for _ in range(3):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
            return
        except BlockingIOError:
            SYSTEM.sleep(0.1)
        except OSError:
            return


def read_session_niceness(pid: int) -> tuple[str, int] | None:
    """The session (autogroup) that a process belongs to, and its niceness; None where Linux does not weigh sessions."""
    try:
        name, _, niceness = Path(f"/proc/{pid}/autogroup").read_text().split()
        return name, int(niceness)
    except (OSError, ValueError):
        return None


def in_real_time(thread: int, priority: int) -> None:
    """Let a thread run before all that share the processors by weight, where that is allowed (Linux, root)."""
    with contextlib.suppress(OSError):  # not allowed, or gone
        os.sched_setscheduler(thread, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def end_group(child: subprocess.Popen[bytes], *, grace_s: float = 5.0) -> int:
    """Send SIGTERM to the child's group and SIGKILL after the grace; returns the exit status. Idempotent."""
    _signal_group(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_s)
    _signal_group(child.pid, signal.SIGKILL)
    return child.wait()


def _signal_group(pgid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def send_line(child: subprocess.Popen[bytes], line: bytes) -> None:
    """Write a line, given without its newline, to the pipe that is the child's standard input, if it still runs.

    Blocks while the pipe is full and the child does not read.
    """
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(line + b"\n")
            child.stdin.flush()


def how_it_ended(name: str, child: subprocess.Popen[bytes], log: Path) -> str | None:
    """None while the child runs, else its exit status in words, with the last lines of its log."""
    status = child.poll()
    if status is None:
        return None
    return "\n".join([f"{name} ended unexpectedly with status {status}; its last lines:", *log_tail(log, 12)])


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    told: str | None = None,
) -> Completed:
    """Run a command to its end, outputs captured. Raises EnvironmentFault when it cannot start or takes too long.

    `told`: what its standard input holds.

    It has a session of its own: Ctrl-C in a terminal goes to the harness alone, which decides what ends.
    What it leaves in the background goes on; a command that takes too long is killed with all of its group.
    """
    try:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL if told is None else subprocess.PIPE,
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
            out, err = child.communicate(told, timeout=timeout_s)
        except subprocess.TimeoutExpired as late:
            raise EnvironmentFault(f"{' '.join(command)}: no end within {timeout_s:.0f} s") from late
        finally:
            if child.returncode is None:
                _signal_group(child.pid, signal.SIGKILL)
    return Completed(list(command), child.returncode, out, err)


class Leader(msgspec.Struct, frozen=True):
    """A process that was started with marks in its environment. `began`: see `began`; with the PID it names the process."""

    pid: int
    began: float
    marks: dict[str, str]


def began(pid: int) -> float | None:
    """When a process began, by a clock of this machine that nobody sets; None for one that has ended."""
    try:
        if sys.platform == "linux":  # ticks since the machine started
            return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return float(psutil.Process(pid).create_time())
    except (OSError, psutil.Error):
        return None


def remember(pid: int, marks: Mapping[str, str], roster: Path) -> None:
    """Write down which marks the environment of a process carries, before the process can overwrite it with a title.

    Raises EnvironmentFault when that cannot be written: then the process must not go on.
    """
    since = began(pid)
    if since is None:
        return
    try:
        roster.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(open_to_append(roster), "ab", buffering=0) as file:
            file.write(msgspec.json.encode(Leader(pid, since, dict(marks))) + b"\n")
    except OSError as broken:
        raise EnvironmentFault(f"cannot write {roster}: {broken.strerror}") from broken


def remembered(roster: Path | None) -> list[Leader]:
    """What was written down since the machine started; a line that was cut short counts as absent."""
    try:
        if roster is None or roster.stat().st_mtime < psutil.boot_time():
            return []
        lines = roster.read_bytes().splitlines()
    except OSError:
        return []
    leaders = []
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError):
            leaders.append(msgspec.json.decode(line, type=Leader))
    return leaders


def marked(key: str, value: str, roster: Path | None = None) -> list[psutil.Process]:
    """Every living process whose environment holds `key=value`, or did as `roster` has it, and all their descendants."""
    return [process for process, found in _tagged(key, roster).values() if found == value and alive(process)]


def tagged(key: str, prefix: str, roster: Path | None = None) -> dict[int, str]:
    """Pid to the value of environment variable `key`, for every living process where the value starts with `prefix`.

    Children that rewrote their environment (PostgreSQL's backends) are found through their parents; daemons that left
    their session and their parent (the postmaster) through their environment; those that `remember` has in the `roster`, and
    rewrote it (Redis writes its title there), by their PID, and the members of their session by that.
    """
    return {pid: value for pid, (process, value) in _tagged(key, roster).items() if value.startswith(prefix) and alive(process)}


def _tagged(key: str, roster: Path | None) -> dict[int, tuple[psutil.Process, str]]:
    leaders = {leader.pid: leader for leader in remembered(roster) if key in leader.marks}
    found: dict[int, tuple[psutil.Process, str]] = {}
    rest: list[psutil.Process] = []
    bare: set[int] = set()  # processes whose environment shows nothing at all
    for process in psutil.process_iter():
        environment: dict[str, str] = {}
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
        leader = leaders.get(process.pid)
        if key in environment:
            found[process.pid] = (process, environment[key])
        elif leader is not None and began(process.pid) == leader.began:
            found[process.pid] = (process, leader.marks[key])
        else:
            rest.append(process)
            bare |= set() if environment else {process.pid}
    for process in rest if leaders else ():
        leader = None
        with contextlib.suppress(OSError):
            leader = leaders.get(os.getsid(process.pid))
        if leader is None:
            continue
        # While its leader lives, a session is the leader's. After that its number may be another's in the end: then only
        # what shows no environment is taken, since all others of ours show their mark.
        is_led = leader.pid in found and began(leader.pid) == leader.began
        if is_led or (process.pid in bare and not psutil.pid_exists(leader.pid)):
            found[process.pid] = (process, leader.marks[key])
    growing = True
    while growing:
        orphans = [(process, _parent(process)) for process in rest if process.pid not in found]
        heirs = {process.pid: (process, found[parent][1]) for process, parent in orphans if parent in found}
        found.update(heirs)
        growing = bool(heirs)
    return found


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.Error:
        return -1


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; a zombie does not."""
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
    """Signal all of these processes, one right after another; those that have ended are left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def name_of(process: Found) -> str:
    """A process in words: the beginning of its command, and its pid."""
    with contextlib.suppress(psutil.Error):
        program, *words = process.cmdline()[:3] or [process.name()]
        return f"{' '.join([Path(program).name, *words])} ({process.pid})"
    return f"process {process.pid}"


def is_dead(child: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended. A process with several threads may be a zombie for a moment before it can be waited for."""
    return child.poll() is not None or not alive(psutil.Process(child.pid))


def life_of(child: subprocess.Popen[bytes]) -> tuple[str, str | None]:
    """What the kernel says of a child: its status in words, and its PID and time of start; None where it has ended."""
    if is_dead(child):
        return f"ended with status {child.poll()}", None
    try:
        seen = psutil.Process(child.pid)
        return str(seen.status()), f"{child.pid}@{seen.create_time():.2f}"
    except psutil.Error:
        return "ended", None


def is_stopped(pid: int) -> bool:
    """Whether a process is frozen (SIGSTOP)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
