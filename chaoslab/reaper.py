"""The process that cleans up when the harness cannot: `python -m chaoslab.reaper JOURNAL RUN`.

It stands in a session of its own and waits for the end of its standard input, which the harness holds open for as long as
it lives, whatever kills it. Then it undoes what the journal still has open, and once nothing is left strikes the run off the
registry. Last, when nobody writes to them any more, it covers the secrets of the run in its logs: the harness told it which.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from chaoslab import registry
from chaoslab.errors import EnvironmentFault
from chaoslab.masking import Secrets
from chaoslab.process import spawn
from chaoslab.scrub import scrub
from chaoslab.store import RunFolder
from chaoslab.undo import Tell, undo

TIMEOUT_S = 30.0  # above what removing a whole stack mostly takes; whoever waits looks again after that
_DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def start(journal: Path, run_id: str, secrets: Secrets) -> subprocess.Popen[bytes]:
    """Start the reaper of a run. Keep the returned process: closing its standard input tells it to look."""
    command = [sys.executable, "-m", "chaoslab.reaper", str(journal), run_id]
    reaper = spawn(command, log=journal.with_name("reaper.log"), stdin=subprocess.PIPE)
    with contextlib.suppress(BrokenPipeError):  # it is gone already; whoever dismisses it will see
        if reaper.stdin is not None:
            reaper.stdin.write(msgspec.json.encode(sorted(secrets.values)))
            reaper.stdin.flush()
    return reaper


def release(reaper: subprocess.Popen[bytes]) -> None:
    """Let the reaper look once more. A reaper that is gone already is fine."""
    with contextlib.suppress(BrokenPipeError):
        if reaper.stdin is not None:
            reaper.stdin.close()


def dismiss(reaper: subprocess.Popen[bytes], timeout_s: float = TIMEOUT_S) -> int:
    """Let the reaper look, unless it has been released already, and wait for its end; 0 when nothing is left.

    One that has not ended in time is killed; the status is negative then, and somebody else has to look.
    """
    release(reaper)
    try:
        return reaper.wait(timeout_s)
    except subprocess.TimeoutExpired:
        reaper.kill()
        return reaper.wait()


def main(arguments: list[str]) -> int:
    for number in _DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    secrets = _secrets(sys.stdin.buffer.read())
    journal, run_id = arguments
    left = look(Path(journal), run_id, secrets, lambda line: _log(secrets.text(line)))
    for line in left:
        _log(secrets.text(f"left: {line}"))
    return 1 if left else 0


def look(journal: Path, run_id: str, secrets: Secrets, tell: Tell) -> list[str]:
    """Undo what is open, cover the logs, and forget the run once nothing is left; what is, in words. Looking again is fine."""
    left = undo(journal, tell)
    if not left:
        registry.strike_off(run_id)
    return left + _cover(RunFolder(journal.parent).logs, secrets)


def _secrets(told: bytes) -> Secrets:
    """What the harness said, if it lived to say it all."""
    with contextlib.suppress(msgspec.DecodeError):
        return Secrets(frozenset(msgspec.json.decode(told, type=list[str])))
    return Secrets()


def _cover(logs: Path, secrets: Secrets) -> list[str]:
    try:
        if logs.is_dir() and not logs.is_symlink():
            scrub(logs, secrets)
    except EnvironmentFault as broken:
        return [f"logs as the services wrote them, with whatever secrets: {broken}"]
    return []


def _log(line: str) -> None:
    """On a full disk the log is what we do without."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
