"""The user's own data: folders, files and external volumes that a stack may write. A run works on copies of them.

What is mounted to be read alone is mounted as it is. Sockets, devices and the system's own folders cannot be copied; they are
mounted to be read alone.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaoslab.errors import EnvironmentFault
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.protocol import OnProgress

_SYSTEM = ("/proc", "/sys", "/dev", "/run", "/var/run", "/var/lib/docker")
_COPY_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Copied:
    """`source`: a path of this machine or an external volume; `volume`: the key of the run's own volume for it."""

    source: str
    volume: str


def with_copies(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], tuple[Copied, ...]]:
    """The project with the run's own volumes in place of the user's data, and what is to be copied into them.

    Single files are copied at once, into `folder`. Raises EnvironmentFault for a file that cannot be read.
    """
    changed = copy.deepcopy(dict(config))
    external = {key for key, volume in (config.get("volumes") or {}).items() if (volume or {}).get("external")}
    mounts = [
        mount
        for service in changed["services"].values()
        for mount in service.get("volumes") or []
        if mount.get("type") == "bind" or (mount.get("type") == "volume" and mount.get("source") in external)
    ]
    written = dict.fromkeys((str(mount["type"]), str(mount["source"])) for mount in mounts if not mount.get("read_only"))
    copies: list[Copied] = []
    for number, (kind, source) in enumerate(written, 1):
        name = f"own-data-{number}"
        users = [mount for mount in mounts if (mount["type"], str(mount["source"])) == (kind, source)]
        path = Path(source)
        is_special = path == Path("/") or (path.exists() and not path.is_file() and not path.is_dir())
        if kind == "bind" and (is_special or any(map(path.is_relative_to, _SYSTEM))):
            replacement: dict[str, Any] = {"read_only": True}
        elif kind == "bind" and path.is_file():
            replacement = {"source": str(_copied_file(path, folder / name))}
        else:
            replacement = {"type": "volume", "source": name, "volume": {"nocopy": True}}
            changed["volumes"] = {**(changed.get("volumes") or {}), name: {}}
            if kind == "volume" or path.is_dir():  # else Docker would make an empty folder there
                real = str(config["volumes"][source].get("name") or source) if kind == "volume" else source
                copies.append(Copied(real, name))
        for mount in users:
            if replacement.get("type") == "volume":
                mount.pop("bind", None)
            mount.update(replacement)
    return changed, tuple(copies)


def copy_all(containers: Containers, copies: tuple[Copied, ...], project: str, image: str, on_progress: OnProgress) -> None:
    """Fill the run's volumes, owners and modes included. Raises EnvironmentFault, with what cp said, for one that fails."""
    for one in copies:
        on_progress(f"copying {one.source}, which is yours and stays as it is (--use-binds shares it instead)")
        said = containers.copy_into_volume(one.source, f"{project}_{one.volume}", image, _COPY_TIMEOUT_S)
        if said is not None:
            raise EnvironmentFault(
                f"{one.source} cannot be copied for the run: {said}",
                cure="mount it to be read alone (:ro), take the mount away in an overlay, or share it: --use-binds",
            )


def remove_files(folder: Path) -> None:
    """Remove the copies of single files once no container uses them; they may hold what is private."""
    for copied in folder.glob("own-data-*"):
        shutil.rmtree(copied, ignore_errors=True)


def _copied_file(source: Path, folder: Path) -> Path:
    target = folder / source.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        if os.geteuid() == 0:
            found = source.stat()
            os.chown(target, found.st_uid, found.st_gid)
    except OSError as refused:
        cure = "mount it to be read alone (:ro), or share it: --use-binds"
        raise EnvironmentFault(f"{source} cannot be copied for the run: {refused.strerror}", cure=cure) from refused
    return target
