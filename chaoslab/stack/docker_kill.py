"""End containers all at once: by SIGKILL to the host's PIDs where they are this machine's, else through Docker's API.

Killing the first process of a container ends all of it: the kernel kills the others, and that one is dead only when they are.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from chaoslab.clock import NS_PER_S, SYSTEM, Clock, Deadline
from chaoslab.errors import StackError
from chaoslab.stack.protocol import KillReport

_DEATHS_S = 5.0


def kill_all(pids: Mapping[str, int], by_api: Callable[[str], None], clock: Clock = SYSTEM) -> KillReport:
    """Kill these containers (id to the PID of its first process) at once, and tell how far apart they died.

    Raises StackError when one survives.
    """
    if not pids:
        return KillReport(targets=0, skew_ms=0.0, means="pids")
    if all(is_here(container, pid) for container, pid in pids.items()):
        deaths = kill_pids(list(pids.values()), clock)
        return KillReport(targets=len(pids), skew_ms=_skew_ms(deaths), means="pids")
    return KillReport(targets=len(pids), skew_ms=_skew_ms(kill_by_api(list(pids), by_api, clock)), means="engine's API")


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


def kill_pids(pids: Sequence[int], clock: Clock = SYSTEM) -> list[int]:
    """SIGKILL to all of these, in this order; returns the instants (monotonic ns) at which each was seen dead.

    Raises StackError for survivors.
    """
    with ExitStack() as handles:
        waiting = {handle: pid for pid in pids if (handle := _handle(pid, handles)) is not None}
        poll = select.poll()
        for handle in waiting:
            poll.register(handle, select.POLLIN)
        for handle in waiting:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        return _deaths(poll, waiting, clock)


def _handle(pid: int, handles: ExitStack) -> int | None:
    """A handle that cannot come to mean another process; None for one that is gone already."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    handles.callback(os.close, handle)
    return handle


def _deaths(poll: select.poll, waiting: dict[int, int], clock: Clock) -> list[int]:
    deadline, deaths = Deadline.after(_DEATHS_S, clock), list[int]()
    while waiting:
        ended = poll.poll(deadline.left_s * 1000)
        if not ended:
            raise StackError(f"processes {sorted(waiting.values())} survive SIGKILL")
        for handle, _ in ended:
            deaths.append(clock.now_ns())
            poll.unregister(handle)
            del waiting[handle]
    return deaths


def kill_by_api(containers: Sequence[str], by_api: Callable[[str], None], clock: Clock = SYSTEM) -> list[int]:
    """One call for each container, all at the same time; returns the instants at which they were answered."""

    def one(container: str) -> int:
        by_api(container)
        return clock.now_ns()

    with ThreadPoolExecutor(max_workers=len(containers)) as pool:
        return list(pool.map(one, containers))


def _skew_ms(deaths_ns: Sequence[int]) -> float:
    return (max(deaths_ns, default=0) - min(deaths_ns, default=0)) / NS_PER_S * 1000
