"""Destroy the volumes of replicas: only those that the run itself created."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from chaoslab.errors import StackError
from chaoslab.stack.compose.containers import ContainerInfo, Containers

_ANONYMOUS = re.compile("[0-9a-f]{64}")  # the names that the engine gives to volumes without one


def destroy(containers: Containers, replicas: Sequence[str], run_files: Path, kept: Collection[str] = ()) -> None:
    """Remove the containers of these replicas and every volume that they mount; their next start makes new ones.

    Volumes that are `kept`, by the engine's names, are not removed, and copies of single files, which are below `run_files`,
    stay as they are. Raises StackError, before anything is removed, when one of them runs, when a volume or folder is not the
    run's own, or when another replica uses it.
    """
    everyone = containers.all()
    targets = [one for one in everyone if one.replica in replicas]
    alive = [one.replica for one in targets if one.state != "dead"]
    if alive:
        raise StackError(f"the disks of {', '.join(alive)} cannot be destroyed while they run")
    mounted = _volumes(containers, targets) - set(kept)
    volumes = {name for name in mounted if not Path(name).is_relative_to(run_files.absolute())}
    shared = volumes & _volumes(containers, [one for one in everyone if one.role == "replica" and one not in targets])
    not_ours = volumes - containers.own_volumes()
    if shared or not_ours:
        why = "is also used by other replicas" if shared else "was not created by this run"
        raise StackError(f"volume {', '.join(sorted(shared or not_ours))} {why}, so it is not destroyed")
    containers.at_once(containers.remove, [one.id for one in targets])
    containers.at_once(containers.remove_volume, sorted(volumes))


def _volumes(containers: Containers, seen: Iterable[ContainerInfo]) -> set[str]:
    """Named volumes and folders of the machine; anonymous ones go with their container."""
    mounts = [mount for one in seen for mount in containers.inspect(one.id)["Mounts"] if mount.get("RW", True)]
    volumes = {str(mount["Name"]) for mount in mounts if mount["Type"] == "volume"}
    named = {name for name in volumes if not _ANONYMOUS.fullmatch(name)}
    return named | {str(mount["Source"]) for mount in mounts if mount["Type"] == "bind"}
