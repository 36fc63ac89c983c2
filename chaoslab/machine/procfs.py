"""Processes, CPUs, disks and memory, read from Linux's /proc; other systems have nothing to read.

Every process of the machine is read once a second, so each read is a single system call or two: psutil opens several files for
the same numbers, and has neither the time that a process waited for a CPU nor pressure (PSI).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from chaoslab.clock import NS_PER_S

PROC = "/proc"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD among the flags of a process
_BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq among the columns of /proc/stat
_STOLEN = 7


class Process(NamedTuple):
    """A process as `/proc/PID/stat` has it. `start`: ticks since the machine started.

    Processor time in seconds: `own_s`, and `children_s` of children that have ended and were waited for.
    """

    pid: int
    name: str
    state: str
    parent: int
    start: int
    own_s: float
    children_s: float
    threads: int
    kernel: bool


@dataclass(frozen=True)
class Totals:
    """Of the whole machine, since it started: processor seconds, waiting seconds by resource, MB written and swapped.

    `memory_used`: share of the memory, from 0 to 1, now.
    """

    busy_s: float = 0.0
    stolen_s: float = 0.0
    pressure_s: Mapping[str, float] = field(default_factory=dict)
    written_mb: float | None = None
    swapped_mb: float | None = None
    memory_used: float | None = None


def text(path: str) -> str:
    """A file of /proc; empty when it is gone, or this user may not read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 65_536).decode(errors="replace")
    except OSError:  # it ended since
        return ""
    finally:
        os.close(descriptor)


def available() -> bool:
    """Whether this machine has a /proc as Linux has it."""
    return bool(text(f"{PROC}/stat"))


def processes() -> dict[int, Process]:
    """Every process of the machine, by pid."""
    found = (parse_stat(text(f"{PROC}/{name}/stat")) for name in os.listdir(PROC) if name.isdigit())  # noqa: PTH208 - hot
    return {process.pid: process for process in found if process is not None}


def parse_stat(line: str) -> Process | None:
    """A process from its `/proc/PID/stat`; None when that is empty. The name may hold anything, brackets and blanks too."""
    head, _, rest = line.rpartition(")")
    pid, _, name = head.partition(" (")
    if not rest:
        return None
    values = rest.split()
    own_s, children_s = (sum(int(value) for value in values[at : at + 2]) / TICKS_PER_S for at in (11, 13))
    kernel = bool(int(values[6]) & _KERNEL_THREAD)
    return Process(int(pid), name, values[0], int(values[1]), int(values[19]), own_s, children_s, int(values[17]), kernel)


def totals() -> Totals:
    """The machine as a whole, now."""
    cpu = [int(value) / TICKS_PER_S for value in text(f"{PROC}/stat").partition("\n")[0].split()[1:]]
    vm = _numbers(text(f"{PROC}/vmstat").splitlines())
    memory = _numbers(text(f"{PROC}/meminfo").replace(":", "").splitlines())
    pressure = {name: text(f"{PROC}/pressure/{name}").partition("\n")[0] for name in ("cpu", "io", "memory")}
    return Totals(
        busy_s=sum(cpu[at] for at in _BUSY),
        stolen_s=cpu[_STOLEN],
        # "some avg10=… total=N": for N microseconds some process waited
        pressure_s={name: int(line.rpartition("=")[2]) / 1e6 for name, line in pressure.items() if line},
        written_mb=vm["pgpgout"] * 1024 / 1e6 if "pgpgout" in vm else None,
        swapped_mb=(vm["pswpin"] + vm["pswpout"]) * _PAGE_MB if "pswpin" in vm else None,
        memory_used=1 - memory["MemAvailable"] / memory["MemTotal"] if "MemAvailable" in memory else None,
    )


def waited_s(process: Process) -> float | None:
    """Seconds that a process, with all its threads, has been runnable without a processor; None where that is not known."""
    files = [f"{PROC}/{process.pid}/schedstat"]
    if process.threads > 1:
        folder = f"{PROC}/{process.pid}/task"
        files = []
        with contextlib.suppress(OSError):
            files = [f"{folder}/{thread}/schedstat" for thread in os.listdir(folder)]  # noqa: PTH208 - hot
    waits_ns = [int(schedstat.split()[1]) for schedstat in map(text, files) if schedstat]
    return sum(waits_ns) / NS_PER_S if waits_ns else None


def written_mb(pid: int) -> float | None:
    """MB that a process has had written to disks; None when this user may not read it."""
    io = _numbers(text(f"{PROC}/{pid}/io").replace(":", "").splitlines())
    return io["write_bytes"] / 1e6 if io else None


def _numbers(lines: Iterable[str]) -> dict[str, int]:
    return {words[0]: int(words[1]) for line in lines if len(words := line.split()) > 1 and words[1].isdigit()}
