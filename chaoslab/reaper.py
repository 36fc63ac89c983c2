"""The process that cleans up when the harness cannot: `python -m chaoslab.reaper JOURNAL`.

It stands in a session of its own and waits for the end of its standard input, which the harness holds open for as long as
it lives, whatever kills it. Then it undoes what the journal still has open.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from chaoslab import registry
from chaoslab.process import spawn
from chaoslab.undo import undo


def start(journal: Path) -> subprocess.Popen[bytes]:
    """Start the reaper of a run. Keep the returned process: closing its standard input tells it to look."""
    command = [sys.executable, "-m", "chaoslab.reaper", str(journal)]
    return spawn(command, log=journal.with_name("reaper.log"), stdin=subprocess.PIPE)


def dismiss(reaper: subprocess.Popen[bytes]) -> int:
    """Let the reaper look once more and end; 0 when nothing is left. A reaper that is gone already is fine."""
    if reaper.stdin is not None:
        reaper.stdin.close()
    return reaper.wait()


def main(arguments: list[str]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    journal = Path(arguments[0])
    left = undo(journal)
    if not left:
        registry.forget_journal(journal)
    sys.stderr.write("".join(f"left: {line}\n" for line in left))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
