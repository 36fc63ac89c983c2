"""Lose the volumes of replicas: only those that the run itself made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chaoslab.errors import StackError
from chaoslab.stack.docker_containers import Containers, Seen


def destroy(containers: Containers, replicas: Sequence[str]) -> None:
    """Remove the containers of these replicas and every volume that they mount; who starts them next makes new ones.

    Raises StackError, before anything is removed, when one still runs, when a volume or folder is not the run's own, or when
    a replica that is not among these uses it.
    """
    everyone = containers.seen()
    doomed = [one for one in everyone if one.replica in replicas]
    alive = [one.replica for one in doomed if one.state != "dead"]
    if alive:
        raise StackError(f"the disks of {', '.join(alive)} cannot be destroyed while they run")
    volumes = _volumes(containers, doomed)
    shared = volumes & _volumes(containers, [one for one in everyone if one.role == "replica" and one not in doomed])
    foreign = volumes - containers.own_volumes()
    if shared or foreign:
        why = "is used by other replicas too" if shared else "was not made by this run"
        raise StackError(f"volume {', '.join(sorted(shared or foreign))} {why}: it is not destroyed")
    containers.at_once(containers.remove, [one.id for one in doomed])
    containers.at_once(containers.remove_volume, sorted(volumes))


def _volumes(containers: Containers, seen: Iterable[Seen]) -> set[str]:
    """Named volumes and folders of the machine; anonymous ones go with their container."""
    mounts = [mount for one in seen for mount in containers.inspect(one.id)["Mounts"] if mount.get("RW", True)]
    named = {str(mount["Name"]) for mount in mounts if mount["Type"] == "volume" and not _is_anonymous(str(mount["Name"]))}
    return named | {str(mount["Source"]) for mount in mounts if mount["Type"] == "bind"}


def _is_anonymous(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")
