"""Whose spec is it? Commands of a spec's own (`exec` faults) run only for the project that one stands in, or when allowed.

The project is the nearest folder, at or above the working folder, with a `.git`; where there is none, the nearest one with a
`pyproject.toml` or a `Makefile`. It must be ours and not writable by everybody; the home folder and `/` are never a project.
A spec is the project's own when its file, links followed, lies below that folder.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from chaoslab.errors import SpecError
from chaoslab.spec.load import Loaded
from chaoslab.spec.model import Exec

_MARKS = ((".git",), ("pyproject.toml", "Makefile"))
_OPTION = "--allow-exec"


def project_of(folder: Path) -> Path | None:
    """The project that a folder belongs to, as above; None when it belongs to none."""
    here = folder.resolve()
    for marks in _MARKS:
        for candidate in (here, *here.parents):
            if any((candidate / mark).exists() for mark in marks):
                return candidate if _may_be_project(candidate) else None
    return None


def _may_be_project(folder: Path) -> bool:
    found = folder.stat()
    ours = found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH
    return ours and folder not in (Path(folder.anchor), Path.home().resolve())


def is_own(file: Path, working_folder: Path) -> bool:
    """Whether a file belongs to the project that `working_folder` is part of."""
    project = project_of(working_folder)
    return project is not None and file.resolve().is_relative_to(project)


def foreign_commands(loaded: Loaded, working_folder: Path) -> str | None:
    """Why the `exec` faults of this experiment need permission, in words; None when it has none or they are our own."""
    named = [fault.id for fault in loaded.experiment.timeline if isinstance(fault, Exec)]
    if not named or is_own(loaded.file, working_folder):
        return None
    project = project_of(working_folder)
    where = f"lies outside this project ({project})" if project else "belongs to no project: this folder is part of none"
    return f"{loaded.file} {where}, and runs commands of its own as you: exec {', '.join(named)}"


def require_permission(loaded: Loaded, working_folder: Path, *, allowed: bool) -> None:
    """Raises SpecError where commands of somebody else's spec would run without permission."""
    why = None if allowed else foreign_commands(loaded, working_folder)
    if why is not None:
        raise SpecError(why, cure=f"read what they do, then: chaoslab run … {_OPTION}")
