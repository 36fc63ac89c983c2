"""Redacts the secrets of a run in the logs that its processes wrote."""

from __future__ import annotations

from pathlib import Path

from chaoslab.errors import EnvironmentFault
from chaoslab.history.writer import private_writer
from chaoslab.redact import Secrets


def redact_logs(folder: Path, secrets: Secrets) -> None:
    """Cover the secrets in every file of a folder, line by line, once no process writes to them any more.

    Raises EnvironmentFault in the end, naming each that could not be covered.
    """
    failed = []
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as source, private_writer(path) as sink:
                for line in source:
                    sink.write(secrets.text(line).encode("utf-8", "surrogateescape"))
        except (EnvironmentFault, OSError) as broken:
            failed.append(str(broken))
    if failed:
        raise EnvironmentFault("; ".join(failed))
