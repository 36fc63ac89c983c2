"""The process that cleans up when the harness cannot: `python -m chaoslab.cleanup.reaper JOURNAL RUN`.

It runs in its own session and waits for the end of its standard input, which the harness holds open for as long as it runs,
however it ends. Then it undoes what the journal still has open, and once nothing is left removes the run from the
registry. Last, when no process writes to them any more, it redacts the secrets of the run in its logs. Through its standard
input the harness sends lines of JSON: the secrets of the run, then those of each further trial on its stack with its own logs.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from chaoslab.cleanup import active_runs
from chaoslab.cleanup.journal import OnProgress, undo
from chaoslab.errors import EnvironmentFault
from chaoslab.history.folder import RunFolder
from chaoslab.history.redact_logs import redact_logs
from chaoslab.process import spawn
from chaoslab.redact import Secrets

TIMEOUT_S = 30.0  # above what removing a whole stack mostly takes; the caller of `dismiss` looks again after that
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Sent(msgspec.Struct, frozen=True):
    """One line from the harness: secrets, and a folder of logs to redact beside the run's own."""

    secrets: list[str]
    logs: str | None = None


def start(journal: Path, run_id: str, secrets: Secrets) -> subprocess.Popen[bytes]:
    """Start the reaper of a run. Keep the returned process: it looks once its standard input is closed."""
    command = [sys.executable, "-m", "chaoslab.cleanup.reaper", str(journal), run_id]
    reaper = spawn(command, log=journal.with_name("reaper.log"), stdin=subprocess.PIPE)
    _send(reaper, Sent(sorted(secrets.values)))
    return reaper


def redact_too(reaper: subprocess.Popen[bytes], logs: Path, secrets: Secrets) -> None:
    """Have the reaper redact these logs too in the end, as well as the run's own."""
    _send(reaper, Sent(sorted(secrets.values), str(logs)))


def _send(reaper: subprocess.Popen[bytes], sent: Sent) -> None:
    with contextlib.suppress(BrokenPipeError):  # it is gone already, which `dismiss` finds out
        if reaper.stdin is not None:
            reaper.stdin.write(msgspec.json.encode(sent) + b"\n")
            reaper.stdin.flush()


def release(reaper: subprocess.Popen[bytes]) -> None:
    """Let the reaper look once more. A reaper that is gone already is fine."""
    with contextlib.suppress(BrokenPipeError):
        if reaper.stdin is not None:
            reaper.stdin.close()


def dismiss(reaper: subprocess.Popen[bytes], timeout_s: float = TIMEOUT_S) -> int:
    """Let the reaper look, unless it has been released already, and wait for its end; 0 when nothing is left.

    One that has not ended in time is killed; the status is negative then, and the caller has to look.
    """
    release(reaper)
    try:
        return reaper.wait(timeout_s)
    except subprocess.TimeoutExpired:
        reaper.kill()
        return reaper.wait()


def main(arguments: list[str]) -> int:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    sent: list[Sent] = []
    for line in sys.stdin.buffer.read().splitlines():
        with contextlib.suppress(msgspec.DecodeError):  # the harness was killed before it had sent them all
            sent.append(msgspec.json.decode(line, type=Sent))
    secrets = Secrets(frozenset(value for each in sent for value in each.secrets))
    journal, run_id = arguments
    logs = [Path(each.logs) for each in sent if each.logs]
    left = look(Path(journal), run_id, secrets, lambda line: _log(secrets.text(line)), logs)
    for line in left:
        _log(secrets.text(f"left: {line}"))
    return 1 if left else 0


def look(journal: Path, run_id: str, secrets: Secrets, on_progress: OnProgress, more_logs: Sequence[Path] = ()) -> list[str]:
    """Undo what is open, redact the run's logs and `more_logs`, and remove the run from the registry once nothing is left.

    Returns what is left, in words. A second look does no harm.
    """
    left = undo(journal, on_progress)
    if not left:
        active_runs.forget(run_id, even_alive=True)
    for logs in (RunFolder(journal.parent).logs, *more_logs):
        try:
            if logs.is_dir() and not logs.is_symlink():
                redact_logs(logs, secrets)
        except EnvironmentFault as broken:
            left.append(f"logs that are not redacted, with any secrets that the services wrote: {broken}")
    return left


def _log(line: str) -> None:
    """A full disk costs the line, nothing else."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
