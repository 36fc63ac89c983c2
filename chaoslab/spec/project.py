"""The project: the folder in which names of experiments and suites are looked up, and below which runs are stored.

    chaoslab.yaml              what the Compose file beside it does not say: an overlay with the x-chaoslab section
    experiments/               one file for each experiment
    experiments/gameday/       suites
    experiments/runbooks/      runbooks, which experiments name by their paths
    runs/                      what runs left behind

It is the nearest folder, at or above the working folder, with a `chaoslab.yaml` or with YAML files in `experiments/`; where
there is none, the working folder itself. The search ends at the top of the Git work tree that the working folder is in. Of
the folders above the working folder, the home folder, `/`, and those that belong to another user or that everybody may write
to are never the project: what lies there would be run.

Paths on the command line count from the working folder; a path that does not exist there is tried from the project.
Whether the commands of a spec may run is a matter of the repository, not of this folder: see `spec/repository`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from chaoslab.spec.yaml.problems import printable

OVERLAY = "chaoslab.yaml"
EXPERIMENTS = "experiments"
SUITES = Path(EXPERIMENTS) / "gameday"
RUNBOOKS = Path(EXPERIMENTS) / "runbooks"
SUFFIXES = (".yaml", ".yml")
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")  # in Compose's own order


def find_project(here: Path) -> Path | None:
    """The project that a folder is in, as above; None where it is in none."""
    here = here.resolve()
    for folder in (here, *here.parents):
        marked = (folder / OVERLAY).is_file() or experiment_files(folder)
        if marked and (folder == here or may_be_trusted(folder)):
            return folder
        if (folder / ".git").exists():
            break
    return None


def may_be_trusted(folder: Path) -> bool:
    """Whether what lies in a folder is this user's: it belongs to them, not everybody may write to it, and it is no home."""
    found = folder.stat()
    is_ours = found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH
    return is_ours and folder not in (Path(folder.anchor), Path.home().resolve())


def experiment_files(project: Path) -> list[Path]:
    """The files of its experiments, by name."""
    folder = project / EXPERIMENTS
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES) if folder.is_dir() else []


def name_of(file: Path) -> str:
    """The name of an experiment or a suite: that of its file, as text that can be printed."""
    return printable(file.stem)


def own_stack(project: Path) -> tuple[Path, ...]:
    """The stack that needs no experiment to name it: the files that Compose takes there, and the overlay. Else empty."""
    overlay = project / OVERLAY
    if not overlay.is_file():
        return ()
    base = [file for file in (project / name for name in COMPOSE_FILES) if file.is_file()][:1]
    over = [file.with_name(f"{file.stem}.override{suffix}") for file in base for suffix in SUFFIXES]
    return (*base, *(file for file in over if file.is_file()), overlay)
