"""Remove all that a run left on the engine: `python -m chaoslab.stack.docker_sweep RUN_ID`. Needs no files of the run."""

from __future__ import annotations

import contextlib
import sys

from chaoslab.clock import SYSTEM
from chaoslab.errors import ChaoslabError, ExitCode, StackError
from chaoslab.stack.docker_containers import Containers
from chaoslab.stack.docker_engine import connect, same_engine

_LATE_S = 0.5  # what the engine was asked for before its caller was killed may appear this long after


def command(run_id: str) -> list[str]:
    """The command for an undo journal; it finds today's engine, whatever engine is chosen where it is run."""
    return [*same_engine(), sys.executable, "-m", "chaoslab.stack.docker_sweep", run_id]


def sweep(containers: Containers) -> list[str]:
    """Remove until nothing more appears; what is left, in words."""
    while containers.left():
        with contextlib.suppress(StackError):  # what survives is removed all the same, or told as left
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
