"""`python -m chaoslab.probe`: the prober as a separate process, with the plan that is the first line of its standard input.

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
import traceback
from pathlib import Path
from typing import Any

import msgspec

from chaoslab.clock import SYSTEM
from chaoslab.errors import ExitCode, SpecError
from chaoslab.probe.limits import raise_file_limit
from chaoslab.probe.plan import ProbePlan, Python, Sql, decode_plan
from chaoslab.probe.row_writer import RowWriter
from chaoslab.probe.session import run_plan

_PACKAGE = Path(__file__).parents[1]
_GC_THRESHOLD = 10_000  # hardly any garbage here is cyclic


def main() -> int:
    line = sys.stdin.buffer.readline()
    if not line:  # the parent has gone, or wants no prober any more
        return ExitCode.PASS
    try:
        raise_file_limit()
        plan, loop = decode_plan(line), asyncio.new_event_loop()
        try:
            loop.run_until_complete(_probe(plan))
        finally:
            loop.close()  # asyncio.run would wait for tasks of a user's class that ignore that they were cancelled
    except (SpecError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"the plan: {error}\n")
        return ExitCode.USAGE
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.ERROR
    return ExitCode.PASS


async def _probe(plan: ProbePlan) -> None:
    """Raises what broke, in the prober or in a callback of its event loop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    errors: list[BaseException] = []
    runs_foreign_code = any(isinstance(target.how, Python | Sql) for target in plan.targets)

    def fail(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(context["message"])
        frames = traceback.extract_tb(error.__traceback__)[-2:]
        is_own = any(Path(frame.filename).is_relative_to(_PACKAGE) for frame in frames)
        if runs_foreign_code and not is_own:  # it broke in what a user's class or a driver has left on the event loop
            sys.stderr.write(f"in the code of a journey: {context['message']}: {error!r}\n")
            return
        errors.append(error)
        stop.set()

    def stop_at_end_of_input() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    loop.set_exception_handler(fail)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        loop.add_reader(0, stop_at_end_of_input)
    rows = RowWriter(Path(plan.history))
    gc.set_threshold(_GC_THRESHOLD)
    gc.freeze()  # collections need not look at what is there now, which stays
    try:
        await run_plan(plan, rows.add, stop, SYSTEM)
    finally:
        rows.close()
    if errors:
        raise errors[0]


if __name__ == "__main__":
    sys.exit(main())
