"""Remove all that a run left behind on the engine: `python -m chaoslab.stack.compose.sweep RUN_ID`. Needs no run files."""

from __future__ import annotations

import contextlib
import sys

from chaoslab.clock import SYSTEM
from chaoslab.errors import ChaoslabError, ExitCode, StackError
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.engine import connect, same_engine

_LATE_S = 0.5  # what a killed harness had asked the engine for may appear this long after


def command(run_id: str) -> list[str]:
    """The command for an undo journal; it reaches the engine of this process, whatever shell it is run from."""
    return [*same_engine(), sys.executable, "-m", "chaoslab.stack.compose.sweep", run_id]


def sweep(containers: Containers) -> list[str]:
    """Remove until nothing more appears; returns what is left, in words."""
    while containers.left():
        with contextlib.suppress(StackError):  # what survives is removed all the same, or listed as left
            containers.end_all(SYSTEM)
        if left := containers.sweep():
            return left
        SYSTEM.sleep(_LATE_S)
    return []


def main(arguments: list[str]) -> int:
    try:
        left = sweep(Containers(connect(), arguments[0]))
    except ChaoslabError as failed:
        sys.stderr.write(f"{failed}\n")
        return failed.exit_code
    sys.stderr.write("".join(f"left: {line}\n" for line in left))
    return ExitCode.UNCLEAN if left else ExitCode.PASS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
