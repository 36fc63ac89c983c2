"""SIGKILL to many processes at once, and when each of them ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from chaoslab.clock import NS_PER_S, Deadline
from chaoslab.process import alive, in_real_time, send

_ANONYMOUS = "/dev/zero (deleted)"  # how /proc names anonymous shared memory


@dataclass(frozen=True)
class Killed:
    """How a kill went, in monotonic ns. `deaths_ns`: when each process was seen dead, by pid; `survivors` were not.

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
        """This kill and a later one, as one."""
        return Killed((self.signalled_ns[0], again.signalled_ns[1]), {**self.deaths_ns, **again.deaths_ns}, again.survivors)

    @property
    def signals_ms(self) -> float:
        return (self.signalled_ns[1] - self.signalled_ns[0]) / NS_PER_S * 1000


def kill(pids: Iterable[int], deadline: Deadline, then: Callable[[], object] | None = None) -> Killed:
    """Send SIGKILL to all of these processes and wait until they are dead; those that have ended already are left out.

    The process with most memory to release goes first, so that the last deaths are quick.
    `then` is called, beside the waiting, once all are signalled: to thaw what cannot die while frozen. Its errors are raised.
    """
    pidfds, processes = dict[int, int](), dict[int, psutil.Process]()
    with contextlib.ExitStack() as handles:
        for pid in sorted(pids, key=_resident_bytes, reverse=True):
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if sys.platform == "linux":
                    pidfds[pid] = os.pidfd_open(pid)
                    handles.callback(os.close, pidfds[pid])
                else:
                    processes[pid] = psutil.Process(pid)
        targets = [*pidfds, *processes]
        for pid in targets:  # anonymous memory that only these share would have to be released by the last of them to die
            with contextlib.suppress(OSError):  # gone, or not ours to look into (Linux, root)
                maps = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if line.endswith(_ANONYMOUS)]
                for mapped in maps:
                    opened = os.open(f"/proc/{pid}/map_files/{mapped.split()[0]}", os.O_RDONLY | os.O_CLOEXEC)
                    handles.callback(os.close, opened)
        handles.enter_context(_before_all_others(targets))
        began_ns = deadline.clock.now_ns()
        send(targets, signal.SIGKILL)
        signalled_ns = began_ns, deadline.clock.now_ns()
        thawing = handles.enter_context(ThreadPoolExecutor(1)).submit(then) if then else None
        deaths_ns = _deaths_by_pidfd(pidfds, deadline) | _deaths_by_polling(processes, deadline)
        if thawing is not None:
            thawing.result()
        return Killed(signalled_ns, deaths_ns, frozenset(targets) - deaths_ns.keys())


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


@contextlib.contextmanager
def _before_all_others(pids: Iterable[int]) -> Iterator[None]:
    """Give this thread, and after it these processes, the processors before everything else, where allowed (Linux, root).

    A killed process still needs a processor to release its memory; dozens that queue for one would die long after each other.
    """
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):  # without SCHED_RESET_ON_FORK, which an ordinary user could not clear afterwards
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            for task in Path(f"/proc/{pid}/task").iterdir():  # the last thread of a process releases its memory
                in_real_time(int(task.name), 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, *before)


def _deaths_by_pidfd(pidfds: Mapping[int, int], deadline: Deadline) -> dict[int, int]:
    """When each process was seen dead, by pid. Waits without polling: the dying processes need the processor themselves."""
    poll, seen, pids = select.poll(), dict[int, int](), {pidfd: pid for pid, pidfd in pidfds.items()}
    for pidfd in pids:
        poll.register(pidfd, select.POLLIN)
    while len(seen) < len(pids) and (dead := poll.poll(deadline.left_s * 1000)):
        for pidfd, _ in dead:
            seen[pids[pidfd]] = deadline.clock.now_ns()
            poll.unregister(pidfd)
    return seen


def _deaths_by_polling(processes: Mapping[int, psutil.Process], deadline: Deadline) -> dict[int, int]:
    """The same, for systems without pidfds."""
    waiting, seen = dict(processes), dict[int, int]()
    while waiting and not deadline.passed:
        now_ns = deadline.clock.now_ns()
        seen |= {pid: now_ns for pid, process in waiting.items() if not alive(process)}
        waiting = {pid: process for pid, process in waiting.items() if pid not in seen}
    return seen
