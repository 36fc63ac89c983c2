"""What is left to the `docker compose` command: reading a project as Compose understands it, building, pulling, starting."""

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
from chaoslab.stack.docker_engine import cure_of, last_lines

_CONFIG_TIMEOUT_S = 30.0
_PREFIX = ("docker", "compose", "--ansi", "never", "--progress", "plain")
_POLL_S = 0.1


def read_config(files: Sequence[Path]) -> dict[str, Any]:
    """The project as Compose understands it. Raises SpecError with Compose's own words when it does not."""
    done = process.run([*_PREFIX, *_files(files), "config", "--format", "json"], timeout_s=_CONFIG_TIMEOUT_S)
    if done.returncode:
        raise SpecError(f"Compose does not take {', '.join(map(str, files))}:\n{last_lines(done.stderr, 6)}")
    config: dict[str, Any] = json.loads(done.stdout)
    return config


def _files(files: Sequence[Path]) -> list[str]:
    return [part for file in files for part in ("-f", str(file))]


@dataclass
class ComposeCommand:
    """Runs `docker compose` on one project, one command at a time; `end` stops the one that runs."""

    files: Sequence[Path]
    log: Path
    project: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)  # besides our own: by it the reaper finds the command
    _running: subprocess.Popen[bytes] | None = None
    _ended: bool = False

    def run(self, *arguments: str, deadline: Deadline) -> None:
        """Run to the end. Raises EnvironmentFault with the last lines when it fails or is not through by the deadline."""
        if self._ended:
            raise StackError("the stack was taken down while it was starting")
        named = ["-p", self.project] if self.project else []
        began = self.log.stat().st_size if self.log.exists() else 0
        command = [*_PREFIX, *named, *_files(self.files), *arguments]
        self._running = process.spawn(command, log=self.log, env={**os.environ, **self.env})
        status = self._wait(self._running, deadline)
        said = last_lines(self.log.read_bytes()[began:].decode(errors="replace"), 12)
        if status is None:
            raise EnvironmentFault(f"docker compose {arguments[0]}: no end within {deadline.timeout_s:.0f} s:\n{said}")
        if status:
            raise EnvironmentFault(f"docker compose {arguments[0]} failed:\n{said}", cure=cure_of(said))

    def _wait(self, running: subprocess.Popen[bytes], deadline: Deadline) -> int | None:
        while running.poll() is None:
            if deadline.passed:
                process.end_group(running)
                return None
            deadline.clock.sleep(_POLL_S)
        return running.returncode

    def end(self) -> None:
        """End what runs, and let nothing start any more."""
        self._ended = True
        if self._running is not None:
            process.end_group(self._running)
