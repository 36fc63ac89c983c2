"""`python -m chaoslab.probe`: the prober as a process of its own, on the plan that is the first line of its standard input.

SIGTERM or SIGINT ends it, and so does the end of its standard input when that is a pipe: then its parent is gone.
Exit codes: 0 ended as asked, 2 the plan is wrong, 5 the prober itself broke.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec

from chaoslab.clock import SYSTEM
from chaoslab.errors import ExitCode, SpecError
from chaoslab.probe.appender import Appender
from chaoslab.probe.limits import raise_file_limit
from chaoslab.probe.plan import ProbePlan, decode_plan
from chaoslab.probe.session import run_plan

_GC_THRESHOLD = 10_000  # hardly anything here is garbage in circles


def main() -> int:
    told = sys.stdin.buffer.readline()
    if not told:  # whoever started it has gone, or wants no prober any more
        return ExitCode.PASS
    try:
        raise_file_limit()
        asyncio.run(_probe(decode_plan(told)))
    except (SpecError, msgspec.MsgspecError) as wrong:
        return _complain(f"the plan: {wrong}", ExitCode.USAGE)
    except OSError as broken:
        return _complain(str(broken), ExitCode.ERROR)
    return ExitCode.PASS


async def _probe(plan: ProbePlan) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    broken: list[BaseException] = []

    def fail(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        broken.append(context.get("exception") or RuntimeError(context["message"]))
        stop.set()

    loop.set_exception_handler(fail)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _stop_with_parent(loop, stop)
    rows = Appender(Path(plan.history))
    gc.set_threshold(_GC_THRESHOLD)
    gc.freeze()  # what is there now stays; collections need not look at it again
    try:
        await run_plan(plan, rows.add, stop, SYSTEM)
    finally:
        rows.close()
    if broken:
        raise broken[0]


def _stop_with_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Watch standard input when it is a pipe: nobody writes to it any more, and it ends when whoever held it is gone."""
    mode = os.fstat(0).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return

    def look() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, look)


def _complain(message: str, code: ExitCode) -> ExitCode:
    sys.stderr.write(message + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
