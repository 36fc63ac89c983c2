"""`python -m chaoslab.machine`: samples the machine for a run, as a separate process.

The first line of its standard input is its plan, the second the address of the control. SIGTERM or SIGINT ends it, and so does
the end of its standard input: then the harness is gone. Exit codes: 0 ended as asked, 2 the plan is wrong, 5 the sampler broke.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from chaoslab.clock import NS_PER_S, SYSTEM
from chaoslab.errors import ExitCode, SpecError
from chaoslab.machine.control_probe import ControlProbe
from chaoslab.machine.plan import ControlAt, MachinePlan
from chaoslab.machine.rows import MachineRows
from chaoslab.machine.sampler import Sampler
from chaoslab.probe.limits import raise_file_limit
from chaoslab.probe.row_writer import RowWriter

PERIOD_NS = NS_PER_S


def main() -> int:
    try:
        asyncio.run(_run())
    except (SpecError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"the plan: {error}\n")
        return ExitCode.USAGE
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.ERROR
    return ExitCode.PASS


async def _run() -> None:
    """Sample until a signal comes or standard input ends. Raises what broke."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await _until_one_ends(asyncio.create_task(stop.wait()), asyncio.create_task(_sample(lines)))


async def _sample(lines: asyncio.StreamReader) -> None:
    plan_line = await lines.readline()
    if not plan_line:  # the harness has gone
        return
    plan = msgspec.json.decode(plan_line, type=MachinePlan)
    raise_file_limit()
    history = RowWriter(Path(plan.history))
    rows = MachineRows(Sampler(plan), plan.late_s, SYSTEM.now_ns())

    async def write_rows() -> None:
        due_ns = SYSTEM.now_ns()
        while True:
            due_ns = max(due_ns + PERIOD_NS, SYSTEM.now_ns())  # seconds that were missed in a standstill are one row
            await asyncio.sleep((due_ns - SYSTEM.now_ns()) / NS_PER_S)
            history.add(rows.next_row(SYSTEM.now_ns()))
            history.flush()

    async def follow_input() -> None:
        while line := await lines.readline():
            rows.use_control(ControlProbe(msgspec.json.decode(line, type=ControlAt).url, SYSTEM))

    try:
        await _until_one_ends(asyncio.create_task(write_rows()), asyncio.create_task(follow_input()))
    finally:
        rows.stop()
        history.close()


async def _until_one_ends(*tasks: asyncio.Task[object]) -> None:
    """Cancel the others then. Raises the error of those that ended."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    sys.exit(main())
