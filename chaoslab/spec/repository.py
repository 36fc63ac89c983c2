"""The repository that a spec belongs to: where its commands run, and whether they may without being asked.

It is the nearest folder, at or above a folder, with a `.git`; where there is none, the nearest one with a `pyproject.toml` or
a `Makefile`. It must belong to the user and not be writable by everybody; the home folder and `/` are never one. A spec is the
repository's own when its file, links followed, lies below that folder.
"""

from __future__ import annotations

from pathlib import Path

from chaoslab.spec.project import may_be_trusted

_MARKS = ((".git",), ("pyproject.toml", "Makefile"))


def repository_of(folder: Path) -> Path | None:
    """The repository that a folder belongs to, as above; None when it belongs to none."""
    here = folder.resolve()
    for marks in _MARKS:
        for candidate in (here, *here.parents):
            if any((candidate / mark).exists() for mark in marks):
                return candidate if may_be_trusted(candidate) else None
    return None


def folder_for_commands(file: Path) -> Path:
    """Where the commands of a spec run: in the repository of its file, links followed; else in the file's own folder."""
    folder = file.resolve().parent
    return repository_of(folder) or folder


def is_own(file: Path, working_folder: Path) -> bool:
    """Whether a file belongs to the repository that `working_folder` is in."""
    repository = repository_of(working_folder)
    return repository is not None and file.resolve().is_relative_to(repository)
