"""Limit the processor time of replicas by freezing all their processes for a part of each tenth of a second.

`python -m chaoslab.stack.embedded.throttle SHARE KEY VALUE ROSTER` does it to every process whose environment carries
KEY=VALUE, or did as the roster has it (see `process.remember`), until its standard input is closed: however its parent ends,
the processes then run unthrottled.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from chaoslab import process
from chaoslab.clock import SYSTEM, Deadline

PERIOD_S = 0.1
_LOOK_EVERY_S = 1.0  # for processes that are new
_END_S = 5.0
_SAMPLES, _SAMPLE_S = 100, 0.01  # ten periods, ten looks at each


class Throttles:
    """The throttles of a run, a helper process for each replica. `env`: of the helpers; `key`: what marks the replicas.

    `roster`: where their marks are written down.
    """

    def __init__(self, env: Mapping[str, str], key: str, roster: Path, log: Path) -> None:
        self._env, self._key, self._roster, self._log = env, key, roster, log
        self._helpers: dict[str, subprocess.Popen[bytes]] = {}

    def set(self, mark: str, share: float) -> None:
        """Let the processes with this mark run for this share of the time."""
        self.lift(mark)
        what = [str(share), self._key, mark, str(self._roster)]
        command = [sys.executable, "-m", "chaoslab.stack.embedded.throttle", *what]
        self._helpers[mark] = process.spawn(command, log=self._log, env=self._env, stdin=subprocess.PIPE)

    def lift(self, mark: str) -> bool:
        """End a throttle; returns whether there was one. Processes whose helper died may be left frozen."""
        helper = self._helpers.pop(mark, None)
        if helper is None:
            return False
        if helper.stdin is not None:
            helper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            helper.wait(_END_S)
        helper.kill()
        helper.wait()
        return True

    def lift_all(self) -> None:
        for mark in [*self._helpers]:
            self.lift(mark)

    def trouble(self) -> str | None:
        """Which throttle ended early, in words."""
        helpers = [*self._helpers.items()]
        ended = [f"{mark} (status {helper.returncode})" for mark, helper in helpers if helper.poll() is not None]
        return f"the throttle of {', '.join(ended)} ended unexpectedly; see {self._log}" if ended else None


def running_share(pid: int) -> float:
    """The share of a second for which a process is seen unfrozen."""
    frozen = 0
    for _ in range(_SAMPLES):
        frozen += process.is_stopped(pid)
        SYSTEM.sleep(_SAMPLE_S)
    return 1 - frozen / _SAMPLES


def main(arguments: list[str]) -> int:
    share, key, value, roster = float(arguments[0]), arguments[1], arguments[2], Path(arguments[3])
    targets: list[psutil.Process] = []
    look = Deadline.after(0.0)
    try:
        while True:
            period = Deadline.after(PERIOD_S)
            if _stdin_closed(share * PERIOD_S):
                return 0
            _signal(targets, freeze=True)
            if look.passed:
                targets, look = _found(key, value, roster), Deadline.after(_LOOK_EVERY_S)
                _signal(targets, freeze=True)
            if _stdin_closed(period.left_s):
                return 0
            _signal(targets, freeze=False)
    finally:
        _signal(_found(key, value, roster), freeze=False)


def _found(key: str, value: str, roster: Path) -> list[psutil.Process]:
    found = []
    for pid, mark in process.tagged(key, value, roster).items():
        with contextlib.suppress(psutil.NoSuchProcess):
            if mark == value:
                found.append(psutil.Process(pid))
    return found


def _signal(targets: Iterable[psutil.Process], *, freeze: bool) -> None:
    """Freeze or resume these. psutil signals a process only while its pid is still its own."""
    for target in targets:
        with contextlib.suppress(psutil.Error):
            target.suspend() if freeze else target.resume()


def _stdin_closed(within_s: float) -> bool:
    return bool(select.select([sys.stdin], [], [], within_s)[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
