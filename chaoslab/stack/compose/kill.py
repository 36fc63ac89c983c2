"""Kill containers all at once: by SIGKILL to their processes where they are this machine's, else through Docker's API.

Killing the first process of a container ends all of it: the kernel kills the others, and the first is dead only when they are.
So the others are signalled directly, too, for the first ones to die sooner.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from chaoslab import process
from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline
from chaoslab.errors import StackError
from chaoslab.kill import kill
from chaoslab.stack.protocol import KillReport

_DEATHS_S = 5.0
# Only version 1 of control groups can keep real time from a process, and only there it can be taken out alone.
_ROOT_GROUP = Path("/sys/fs/cgroup/cpu/cgroup.procs")
_NAMESPACES = ("mnt", "net", "ipc", "uts", "cgroup")


def kill_all(
    pids: Mapping[str, int],
    by_api: Callable[[str], None],
    clock: Clock = SYSTEM,
    thaw: Callable[[], object] | None = None,
) -> KillReport:
    """Kill these containers (id to the PID of its first process) at once, and report how far apart they died.

    `thaw`: resumes those that are paused, once they are signalled; the engine's API does that without it. Raises StackError
    when a process survives.
    """
    if not pids:
        return KillReport(targets=0, skew_ms=0.0, means="pids")
    if all(is_here(container, pid) for container, pid in pids.items()):
        victims = process.families(pids.values())
        with _namespaces_kept(pids.values()):
            for pid in victims:
                with suppress(OSError):  # out of the container's share of the processors, which may be small
                    _ROOT_GROUP.write_text(str(pid))
            killed = kill(victims, Deadline.after(_DEATHS_S, clock), thaw)
        if killed.survivors:
            raise StackError(f"processes {sorted(killed.survivors)} survived SIGKILL")
        return KillReport(targets=len(pids), skew_ms=killed.skew_ms, means="pids", signals_ms=killed.signals_ms)
    answered_ns = kill_by_api(list(pids), by_api, clock)
    skew_ms = (max(answered_ns) - min(answered_ns)) / NS_PER_S * 1000
    return KillReport(targets=len(pids), skew_ms=skew_ms, means="engine's API")


@contextmanager
def _namespaces_kept(pids: Iterable[int]) -> Iterator[None]:
    """Hold their namespaces until all are dead: the last process in one would have to release it before it is dead itself."""
    with ExitStack() as held:
        for pid in pids:
            for name in _NAMESPACES:
                with suppress(OSError):
                    held.callback(os.close, os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
        yield


def is_here(container: str, pid: int) -> bool:
    """Whether a PID that the engine names is this machine's process of that container, and may be signalled.

    It is not where the engine runs in a virtual machine; there the same number may be anything here.
    """
    try:
        group = Path(f"/proc/{pid}/cgroup").read_text()
        os.kill(pid, 0)
    except OSError:
        return False
    return pid > 1 and container in group


def kill_by_api(containers: Sequence[str], by_api: Callable[[str], None], clock: Clock = SYSTEM) -> list[int]:
    """One call for each container, all at the same time; returns the instants at which they were answered."""

    def kill_one(container: str) -> int:
        by_api(container)
        return clock.now_ns()

    with ThreadPoolExecutor(max_workers=len(containers)) as pool:
        return list(pool.map(kill_one, containers))
