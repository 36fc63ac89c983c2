"""How late the control is on a quiet machine, and on one that is starved: `python tests/bench/bench_witness.py [SECONDS]`.

For each state of the machine: the longest wait of each second for a read and for an fsync, and what the watch itself cost.
No threshold is chosen here. The limit of a run is half of the tightest `within`; what is printed is its margin to either side.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import Popen

from chaoslab.clock import Deadline, wait_until
from chaoslab.history.rows import Machine, read_history
from chaoslab.judge.starvation import FSYNC, READ, TICK
from chaoslab.machine.plan import MachinePlan
from chaoslab.machine.process import MachineWatch
from chaoslab.process import end_group, marked, spawn
from chaoslab.spec.stackfile.topology import Address
from chaoslab.stack.ports import PortBlock
from chaoslab.stack.reach import RUN_VARIABLE, answers

RUN_ID = "bench-witness"
LIMIT_MS = 250.0  # of the journeys of the two-site stack: within 500 ms
FROZEN_S = 3.0
BUSY = "while True: pass"
WRITER = (
    "import os, sys\nfile = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
    "block = os.urandom(int(sys.argv[2]) << 20)\n"
    "while True:\n os.write(file, block); os.fsync(file)\n if os.fstat(file).st_size > 256 << 20: os.ftruncate(file, 0)"
)
State = Callable[[Path], list[Popen[bytes]]]


def nothing(_: Path) -> list[Popen[bytes]]:
    return []


def busy_loops(folder: Path) -> list[Popen[bytes]]:
    return [spawn([sys.executable, "-c", BUSY], log=folder / "busy.log") for _ in range(os.cpu_count() or 1)]


def fsync_writers(folder: Path, block_mb: int) -> list[Popen[bytes]]:
    """Three that append a block, wait until it is on the disk, and append the next."""
    command = [sys.executable, "-c", WRITER]
    return [spawn([*command, str(folder / f"w{n}"), str(block_mb)], log=folder / "writer.log") for n in range(3)]


def frozen(folder: Path) -> list[Popen[bytes]]:
    """Everything of the run stands still for a moment: the watch and its control are all there is."""
    ours = [one.pid for one in marked(RUN_VARIABLE, RUN_ID)]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in ours:
            os.kill(pid, number)
        time.sleep(FROZEN_S if number == signal.SIGSTOP else 0)
    return []


STATES: dict[str, State] = {
    "quiet": nothing,
    "busy loops, one a processor": busy_loops,
    **{f"three writers with fsync, {size} MB each": partial(fsync_writers, block_mb=size) for size in (1, 64)},
    f"frozen for {FROZEN_S:.0f} s": frozen,
}


@contextmanager
def watched(folder: Path) -> Iterator[Path]:
    """The control and the watch, as in a run; given is the history."""
    ports = PortBlock()
    address = Address("127.0.0.1", ports.take())
    history, mark = folder / "history.jsonl", {**os.environ, RUN_VARIABLE: RUN_ID}
    command = [sys.executable, "-m", "chaoslab.machine.control", address.host, str(address.port), str(folder / "control")]
    control = spawn(command, log=folder / "control.log", env=mark)
    watch = MachineWatch(folder, {RUN_VARIABLE: RUN_ID})
    try:
        wait_until("the control", lambda: (answers(address, 0.3), address), Deadline.after(10))
        late_s = LIMIT_MS / 1000
        plan = MachinePlan(history=str(history), run_id=RUN_ID, harness=os.getpid(), sites=[], outside=[], late_s=late_s)
        watch.start(plan)
        watch.ask(f"http://{address}")
        yield history
    finally:
        watch.stop()
        end_group(control, grace_s=0)
        ports.release()


def measured(state: State, seconds: float) -> tuple[list[Machine], float]:
    """The rows of one state of the machine, and the share of a core that the watch took."""
    with tempfile.TemporaryDirectory() as name, watched(folder := Path(name)) as history:
        time.sleep(2.5)
        before = sum(1 for _ in read_history(history))
        (watch,) = [one for one in marked(RUN_VARIABLE, RUN_ID) if "chaoslab.machine" in one.cmdline()]
        cost_s, began = sum(watch.cpu_times()[:2]), time.monotonic()
        others = state(folder)
        try:
            time.sleep(seconds)
            spent = (sum(watch.cpu_times()[:2]) - cost_s) / (time.monotonic() - began)
        finally:
            for other in others:
                end_group(other, grace_s=0)
        rows = [row for row in read_history(history) if isinstance(row, Machine)][before:]
    return rows, spent


def told(rows: list[Machine], name: str) -> str:
    values = sorted(row.control_ms[name] or 0.0 for row in rows if name in row.control_ms)
    if not values:
        return "no answer"
    quantile = values[min(len(values) - 1, int(len(values) * 0.95))]
    return f"median {statistics.median(values):7.1f}   p95 {quantile:7.1f}   longest {values[-1]:7.1f}"


def main(seconds: float) -> None:
    found = {name: measured(state, seconds) for name, state in STATES.items()}
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors; the longest wait of each second, ms")
    for state, (rows, spent) in found.items():
        starved = sum(row.starved for row in rows)
        still = max((row.t_ns - row.begin_ns for row in rows if TICK in row.late), default=0) / 1e9
        print(f"{state}: {len(rows)} rows, {starved} starved{f', one of {still:.1f} s' if still else ''}")
        for name in (READ, FSYNC):
            print(f"  {name:6} {told(rows, name)}")
        print(f"  the watch itself took {spent:.1%} of a core")
    quiet = max((value or 0.0 for row in found["quiet"][0] for value in row.control_ms.values()), default=0.0)
    print(f"margin: the limit of {LIMIT_MS:.0f} ms is {LIMIT_MS / max(quiet, 0.1):.1f} times the longest quiet wait")
    for state, (rows, _) in found.items():
        late = [row.control_ms.get(FSYNC) or 0.0 for row in rows]
        print(f"  {state}: the median fsync is {statistics.median(late or [0.0]) / LIMIT_MS:.1f} times the limit")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
