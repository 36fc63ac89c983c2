"""The secrets of a run covered in the logs that its processes wrote."""

from __future__ import annotations

from pathlib import Path

from chaoslab.errors import EnvironmentFault
from chaoslab.masking import Secrets
from chaoslab.store import private_writer


def scrub(folder: Path, secrets: Secrets) -> None:
    """Cover the secrets in every file of a folder, line by line; nobody may write to them any more.

    Raises EnvironmentFault in the end, naming each that could not be covered.
    """
    failed = []
    for path in sorted(folder.iterdir()):
        try:
            if path.is_file() and not path.is_symlink():
                _scrub_file(path, secrets)
        except (EnvironmentFault, OSError) as broken:
            failed.append(str(broken))
    if failed:
        raise EnvironmentFault("; ".join(failed))


def _scrub_file(path: Path, secrets: Secrets) -> None:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as source, private_writer(path) as sink:
        for line in source:
            sink.write(secrets.text(line).encode("utf-8", "surrogateescape"))
