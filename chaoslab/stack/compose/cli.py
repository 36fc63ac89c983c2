"""Calls of the `docker compose` command: reading a project as Compose does, building and creating it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaoslab import process
from chaoslab.clock import Deadline
from chaoslab.errors import EnvironmentFault, SpecError, StackError
from chaoslab.files import last_lines
from chaoslab.stack.compose.engine import cure_of

_CONFIG_TIMEOUT_S = 30.0
_PREFIX = ("docker", "compose", "--ansi", "never", "--progress", "plain")
_POLL_S = 0.1


def read_config(files: Sequence[Path]) -> dict[str, Any]:
    """The project as Compose understands it. Raises SpecError with Compose's own reason, which is the last that it says."""
    done = process.run([*_PREFIX, *_file_options(files), "config", "--format", "json"], timeout_s=_CONFIG_TIMEOUT_S)
    if done.returncode:
        *before, reason = last_lines(done.stderr, 6).splitlines() or [f"exit status {done.returncode}"]
        raise SpecError("\n".join([f"Compose does not take {', '.join(map(str, files))}: {reason}", *before]))
    config: dict[str, Any] = json.loads(done.stdout)
    return config


def _file_options(files: Sequence[Path]) -> list[str]:
    return [part for file in files for part in ("-f", str(file))]


@dataclass
class ComposeCommand:
    """Runs `docker compose` on one project, one command at a time; `end` stops the command that runs."""

    files: Sequence[Path]
    log: Path
    project: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)  # added to our own: the reaper finds the command by it
    _running: subprocess.Popen[bytes] | None = None
    _ended: bool = False

    def run(self, *arguments: str, deadline: Deadline) -> None:
        """Run to the end. Raises EnvironmentFault with the last lines when it fails or does not end by the deadline."""
        if self._ended:
            raise StackError("the stack was taken down while it was starting")
        named = ["-p", self.project] if self.project else []
        began = self.log.stat().st_size if self.log.exists() else 0
        command = [*_PREFIX, *named, *_file_options(self.files), *arguments]
        running = self._running = process.spawn(command, log=self.log, env={**os.environ, **self.env})
        while running.poll() is None and not deadline.passed:
            deadline.clock.sleep(_POLL_S)
        late = running.poll() is None
        if late:
            process.end_group(running)
        output = last_lines(self.log.read_bytes()[began:].decode(errors="replace"), 12)
        if late:
            raise EnvironmentFault(f"docker compose {arguments[0]}: no end within {deadline.timeout_s:.0f} s:\n{output}")
        if running.returncode:
            raise EnvironmentFault(f"docker compose {arguments[0]} failed:\n{output}", cure=cure_of(output))

    def end(self) -> None:
        """End the command that runs, and start none any more."""
        self._ended = True
        if self._running is not None:
            process.end_group(self._running)
