"""SIGKILL to many processes at once, and when each of them died."""

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

_NAMELESS = "/dev/zero (deleted)"  # how /proc calls it


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
        _hold_shared_memory(there, handles)
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


def _hold_shared_memory(pids: Iterable[int], handles: contextlib.ExitStack) -> None:
    """Memory without a name that only these share would have to be released by the last of them, before it is dead."""
    for pid in pids:
        with contextlib.suppress(OSError):  # gone, or not ours to look into (Linux, root)
            for mapped in Path(f"/proc/{pid}/maps").read_text().splitlines():
                if mapped.endswith(_NAMELESS):
                    opened = os.open(f"/proc/{pid}/map_files/{mapped.split()[0]}", os.O_RDONLY | os.O_CLOEXEC)
                    handles.callback(os.close, opened)


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
        in_real_time(thread, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, *before)


def _threads(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    return []


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
        seen |= {pid: now_ns for pid, process in waiting.items() if not alive(process)}
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
