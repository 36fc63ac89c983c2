"""Remove all that a run left on the engine: `python -m chaoslab.stack.docker_sweep RUN_ID`. Needs no files of the run."""

from __future__ import annotations

import sys

from chaoslab.errors import ChaoslabError, ExitCode
from chaoslab.stack.docker_containers import Containers
from chaoslab.stack.docker_engine import connect


def command(run_id: str, *, allow_remote: bool = False) -> list[str]:
    """The command for an undo journal."""
    return [sys.executable, "-m", "chaoslab.stack.docker_sweep", run_id, *(["--allow-remote"] if allow_remote else [])]


def main(arguments: list[str]) -> int:
    try:
        left = Containers(connect(allow_remote="--allow-remote" in arguments), arguments[0]).sweep()
    except ChaoslabError as failed:
        sys.stderr.write(f"{failed}\n")
        return failed.exit_code
    sys.stderr.write("".join(f"left: {line}\n" for line in left))
    return ExitCode.UNCLEAN if left else ExitCode.PASS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
