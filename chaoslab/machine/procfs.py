"""What Linux says of its processes, processors, disks and memory, read from /proc. Nothing here where there is no /proc.

Once a second, for every process of the machine: the reads are as plain as they can be.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

PROC = "/proc"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
_OF_THE_KERNEL = 0x00200000  # PF_KTHREAD among the flags of a process
_BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq among the columns of /proc/stat
_STOLEN = 7
_NS_PER_S = 1e9


class Task(NamedTuple):
    """A process as `/proc/PID/stat` has it. Seconds of processor time: its own, and that of children it has waited for."""

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
    """Of the whole machine, since it started: processor seconds, waiting seconds by resource, MB written and swapped."""

    busy_s: float = 0.0
    stolen_s: float = 0.0
    pressure_s: Mapping[str, float] = field(default_factory=dict)
    written_mb: float | None = None
    swapped_mb: float | None = None
    memory_used: float | None = None


def text(path: str) -> str:
    """A file of /proc; empty when it is gone, or not ours to read."""
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


def there() -> bool:
    """Whether this machine has what is read here."""
    return bool(text(f"{PROC}/stat"))


def tasks() -> dict[int, Task]:
    """Every process of the machine, by pid."""
    found = (task_of(text(f"{PROC}/{name}/stat")) for name in os.listdir(PROC) if name.isdigit())  # noqa: PTH208 - hot
    return {task.pid: task for task in found if task is not None}


def task_of(line: str) -> Task | None:
    """One line of `/proc/PID/stat`; None of one that has gone. A name may hold anything, brackets and blanks too."""
    head, _, rest = line.rpartition(")")
    pid, _, name = head.partition(" (")
    if not rest:
        return None
    values = rest.split()
    own, children = (sum(int(value) for value in values[at : at + 2]) / TICKS_PER_S for at in (11, 13))
    kernel = bool(int(values[6]) & _OF_THE_KERNEL)
    return Task(int(pid), name, values[0], int(values[1]), int(values[19]), own, children, int(values[17]), kernel)


def totals() -> Totals:
    """The machine as a whole, now."""
    cpu = [int(value) / TICKS_PER_S for value in text(f"{PROC}/stat").partition("\n")[0].split()[1:]]
    vm = _numbers(text(f"{PROC}/vmstat").splitlines())
    memory = _numbers(text(f"{PROC}/meminfo").replace(":", "").splitlines())
    return Totals(
        busy_s=sum(cpu[at] for at in _BUSY),
        stolen_s=cpu[_STOLEN],
        pressure_s={name: _pressure_s(said) for name in ("cpu", "io", "memory") if (said := text(f"{PROC}/pressure/{name}"))},
        written_mb=vm["pgpgout"] * 1024 / 1e6 if "pgpgout" in vm else None,
        swapped_mb=(vm["pswpin"] + vm["pswpout"]) * _PAGE_MB if "pswpin" in vm else None,
        memory_used=1 - memory["MemAvailable"] / memory["MemTotal"] if "MemAvailable" in memory else None,
    )


def waited_s(task: Task) -> float | None:
    """How long a process, with all its threads, has been runnable without a processor; None where it is not told."""
    if task.threads == 1:
        said = [text(f"{PROC}/{task.pid}/schedstat")]
    else:
        folder = f"{PROC}/{task.pid}/task"
        said = [text(f"{folder}/{thread}/schedstat") for thread in _entries(folder)]
    waits = [int(one.split()[1]) / _NS_PER_S for one in said if one]
    return sum(waits) if waits else None


def written_mb(pid: int) -> float | None:
    """What a process has had written to disks; None when that is not ours to read."""
    said = _numbers(text(f"{PROC}/{pid}/io").replace(":", "").splitlines())
    return said["write_bytes"] / 1e6 if said else None


def _pressure_s(said: str) -> float:
    """The microseconds in which some task waited, from `some avg10=… total=N`."""
    return int(said.partition("\n")[0].rpartition("=")[2]) / 1e6


def _numbers(lines: Iterable[str]) -> dict[str, int]:
    return {words[0]: int(words[1]) for line in lines if len(words := line.split()) > 1 and words[1].isdigit()}


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - hot
    except OSError:
        return []
