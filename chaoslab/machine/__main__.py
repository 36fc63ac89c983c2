"""`python -m chaoslab.machine`: watches the machine for a run, as a process of its own.

Its plan is the first line of its standard input, where the control answers the second. Ends with SIGTERM or SIGINT, and
with its standard input: then the harness is gone. Exit codes: 0 ended as asked, 2 the plan is wrong, 5 it broke itself.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from chaoslab.clock import NS_PER_S, SYSTEM
from chaoslab.errors import ExitCode, SpecError
from chaoslab.machine.plan import ControlAt, MachinePlan
from chaoslab.machine.rows import Rows
from chaoslab.machine.sampler import Sampler
from chaoslab.machine.waits import ControlProbe
from chaoslab.probe.appender import Appender
from chaoslab.probe.limits import raise_file_limit

PERIOD_NS = NS_PER_S


def main() -> int:
    try:
        asyncio.run(_watch())
    except (SpecError, msgspec.MsgspecError) as wrong:
        return _complain(f"the plan: {wrong}", ExitCode.USAGE)
    except OSError as broken:
        return _complain(str(broken), ExitCode.ERROR)
    return ExitCode.PASS


async def _watch() -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    watched = asyncio.create_task(_until_told_no_more(told))
    done, _ = await asyncio.wait([stopped, watched], return_when=asyncio.FIRST_COMPLETED)
    for task in (stopped, watched):
        task.cancel()
    if watched in done:
        watched.result()


async def _until_told_no_more(told: asyncio.StreamReader) -> None:
    line = await told.readline()
    if not line:  # whoever started it has gone
        return
    plan = msgspec.json.decode(line, type=MachinePlan)
    raise_file_limit()
    history = Appender(Path(plan.history))
    rows = Rows(Sampler(plan), plan.late_s, SYSTEM.now_ns())
    ticking = asyncio.create_task(_tick(rows, history))
    listening = asyncio.create_task(_listen(told, rows))
    try:
        done, _ = await asyncio.wait([ticking, listening], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        ticking.cancel()
        listening.cancel()
        rows.stop()
        history.close()


async def _listen(told: asyncio.StreamReader, rows: Rows) -> None:
    """Where the control answers, once it is said; the end of the input is the end of the harness."""
    while line := await told.readline():
        rows.ask(ControlProbe(msgspec.json.decode(line, type=ControlAt).url, SYSTEM))


async def _tick(rows: Rows, history: Appender) -> None:
    due_ns = SYSTEM.now_ns()
    while True:
        due_ns = max(due_ns + PERIOD_NS, SYSTEM.now_ns())  # after a standstill the seconds that were missed are one row
        await asyncio.sleep((due_ns - SYSTEM.now_ns()) / NS_PER_S)
        history.add(rows.next(SYSTEM.now_ns()))
        history.flush()


def _complain(message: str, code: ExitCode) -> ExitCode:
    sys.stderr.write(message + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
