"""`python -m chaoslab.probe.read_back`: reads ledgers by users' classes, by the plan that is the line of its standard input.

Prints the rows as a list of JSON. Exit codes: 0 all were asked, 2 the plan or a class is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import msgspec

from chaoslab.clock import Deadline
from chaoslab.errors import ExitCode, SpecError
from chaoslab.probe.final_read import FinalPlan, read_planned


def main() -> None:
    """Ends the process without waiting for what a class has left behind."""
    code = ExitCode.PASS
    try:
        plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=FinalPlan)
        with contextlib.redirect_stdout(sys.stderr):  # what a class prints is no row
            rows = asyncio.new_event_loop().run_until_complete(read_planned(plan, Deadline.after(plan.left_s)))
        sys.stdout.buffer.write(msgspec.json.encode(rows))
    except (SpecError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"{error}\n")
        code = ExitCode.USAGE
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
