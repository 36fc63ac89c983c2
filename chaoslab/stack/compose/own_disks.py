"""Volumes whose power can be cut: each is an ext4 file system in a file, on a loop device that the engine mounts.

The keeper is a container that may use loop devices: it makes the file systems in a volume of the run and keeps them attached.
Each volume has a watch, a container that mounts it beside the replicas: without it the engine would unmount, and thereby flush,
a volume when its last replica dies. The watch cuts the power, and is started anew when the power is back.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from chaoslab.clock import NS_PER_MS, SYSTEM, Clock, Deadline
from chaoslab.errors import ChaoslabError, EnvironmentFault, SpecError, StackError
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.engine import connect, engine_errors
from chaoslab.stack.compose.images import WAN
from chaoslab.stack.compose.project import DISK_TARGET, watch_name
from chaoslab.stack.compose.shells import Program
from chaoslab.stack.loop_disk import EMPTY, MAKE, SIZE
from chaoslab.stack.protocol import CutReport

KEEPER = "chaoslab-disks"
FILES = "/disks"  # in the keeper
_ANSWER_S = 10.0

Volumes = Mapping[str, tuple[str, ...]]  # the replicas that use each volume, by its key in the project


def why_no_cut() -> str | None:
    """Why the engine cannot cut the power of volumes; None where it can, or cannot be asked."""
    try:
        engine = connect()
        with engine_errors("asking the engine for its options"):
            options = engine.client.info().get("SecurityOptions") or []
    except ChaoslabError:
        return None
    lacking = {"rootless": "without root", "userns": "with user namespaces"}
    found = [words for name, words in lacking.items() if any(f"name={name}" in str(option) for option in options)]
    return f"the Docker engine runs {found[0]}, and cannot mount file systems on loop devices" if found else None


def with_own_volumes(
    config: Mapping[str, Any], replicas: Collection[str], image_volumes: Mapping[str, Iterable[str]], *, use_binds: bool = False
) -> tuple[dict[str, Any], Volumes]:
    """The project in which each volume of these replicas has a name, and which these are. Pure.

    `image_volumes`: where the image of each service declares volumes. Single files are left as they are.
    Raises SpecError for a volume that is not the run's own; with `use_binds` the user's folders are none.
    """
    changed = copy.deepcopy(dict(config))
    volumes: dict[str, Any] = dict(changed.get("volumes") or {})
    users: dict[str, list[str]] = {}
    for name in sorted(replicas):
        mounts = changed["services"][name].setdefault("volumes", [])
        taken = {str(mount["target"]).rstrip("/") for mount in mounts}
        declared = [target for target in image_volumes.get(name, ()) if target.rstrip("/") not in taken]
        mounts += [{"type": "volume", "target": target} for target in declared]
        for number, mount in enumerate(mounts):
            if use_binds and mount["type"] == "bind" and not mount.get("read_only"):
                raise SpecError(f"{mount['source']} of {name} is yours (--use-binds), so its power cannot be cut")
            if mount["type"] == "volume" and not mount.get("read_only"):
                key = str(mount.setdefault("source", f"{name}-volume-{number}"))
                volumes.setdefault(key, {})
                users.setdefault(key, []).append(name)
    for key in users:
        volume = volumes[key] or {}
        if volume.get("external") or volume.get("driver_opts") or volume.get("driver", "local") != "local":
            why = "is external" if volume.get("external") else "has a driver or options of its own"
            raise SpecError(
                f"volume {key} {why}, so its power cannot be cut", cure="change it in an overlay, or use disks: keep"
            )
    changed["volumes"] = volumes
    return changed, {key: tuple(names) for key, names in users.items()}


class OwnDisks:
    """The file systems of one run. See the module."""

    def __init__(self, containers: Containers, project: str, volumes: Volumes, clock: Clock = SYSTEM) -> None:
        self._containers = containers
        self._project = project
        self._volumes = volumes
        self._clock = clock
        self._program = (resources.files("chaoslab.stack") / "loop_disk.py").read_text()
        self._keeper = ""
        self._held: Program | None = None
        self._devices: dict[str, str] = {}
        self._watches: dict[str, Program] = {}
        self._cut: set[str] = set()

    @property
    def names(self) -> frozenset[str]:
        """The volumes as the engine names them."""
        return frozenset(f"{self._project}_{key}" for key in self._volumes)

    def make(self) -> Mapping[str, str]:
        """Make the file systems; returns the device of each volume, by its key. Raises EnvironmentFault when that fails."""
        keys = list(self._volumes)
        try:
            self._keeper = self._containers.start_keeper(WAN, self._project, KEEPER, FILES)
            self._containers.at_once(lambda key: self._format(self._file(key), SIZE), keys)
            self._held = self._start(KEEPER, "hold", *(self._file(key) for key in keys))
            said = self._held.line(self._deadline())
        except StackError as failed:
            raise EnvironmentFault(f"volumes whose power can be cut cannot be made: {failed}") from failed
        devices = said.split()
        if len(devices) != len(keys):
            raise EnvironmentFault(f"volumes whose power can be cut cannot be attached: {said}")
        self._devices = dict(zip(keys, devices, strict=True))
        return self._devices

    def _file(self, key: str) -> str:
        return f"{FILES}/{self._project}_{key}.img"

    def _format(self, target: str, *size: str) -> None:
        self._containers.execute_in(self._keeper, [*MAKE, target, *size])
        self._containers.execute_in(self._keeper, [*EMPTY, target])

    def _start(self, container: str, *arguments: str) -> Program:
        return Program(self._containers.attach(container, ["python3", "-c", self._program, *arguments]))

    def _deadline(self) -> Deadline:
        return Deadline.after(_ANSWER_S, self._clock)

    def watch(self, keys: Iterable[str] | None = None) -> None:
        """Have a program ready in each watch, which runs, and see that its volume takes changes. Raises StackError."""

        def begin(key: str) -> None:
            if key in self._watches:
                self._watches.pop(key).close()
            self._watches[key] = self._start(watch_name(key), "watch", DISK_TARGET, self._file(key).rpartition("/")[2])
            state = self._watches[key].line(self._deadline(), "look")
            if state != "open":
                raise StackError(f"volume {key} takes no changes after it was mounted: {state}")

        self._containers.at_once(begin, list(self._volumes if keys is None else keys))

    def cut(self, replicas: Sequence[str]) -> CutReport:
        """Cut the power of the volumes of these replicas. Raises StackError, before anything is cut, while one of them runs."""
        keys = self._of(replicas)
        alive = sorted({one.replica for one in self._containers.of(replicas) if one.state != "dead"})
        if alive:
            raise StackError(f"the power of the disks of {', '.join(alive)} cannot be cut while they run")
        began_ns = self._clock.now_ns()
        self._cut |= set(keys)
        states = self._containers.at_once(lambda key: self._watches[key].line(self._deadline(), "cut"), keys)
        took_ms = (self._clock.now_ns() - began_ns) / NS_PER_MS
        if uncut := [f"{key} ({state})" for key, state in zip(keys, states, strict=True) if state != "cut"]:
            raise StackError(f"volumes still take changes after the cut of their power: {', '.join(uncut)}")
        return CutReport(tuple(keys), took_ms)

    def _of(self, replicas: Iterable[str]) -> list[str]:
        wanted = set(replicas)
        return [key for key, users in self._volumes.items() if not wanted.isdisjoint(users)]

    def bring_back(self, replicas: Iterable[str]) -> None:
        """Have the volumes of these that were cut mounted again, which replays their journals. Raises StackError."""
        keys = [key for key in self._of(replicas) if key in self._cut]
        if keys:
            self._end_watches(keys)
            self._start_watches(keys)
            self._cut -= set(keys)

    def renew(self, replicas: Iterable[str]) -> None:
        """Make the file systems of these, which must be dead, anew, and empty."""
        keys = self._of(replicas)
        if keys:
            self._end_watches(keys)
            self._containers.at_once(lambda key: self._format(self._devices[key]), keys)
            self._start_watches(keys)
            self._cut -= set(keys)

    def _end_watches(self, keys: Sequence[str]) -> None:
        """The last that mounts a volume: the engine unmounts it."""
        watches = self._containers.of([watch_name(key) for key in keys])
        self._containers.at_once(self._containers.kill, [one.id for one in watches])

    def _start_watches(self, keys: Sequence[str]) -> None:
        watches = self._containers.of([watch_name(key) for key in keys])
        self._containers.at_once(self._containers.start, [one.id for one in watches])
        self.watch(keys)

    def close(self) -> None:
        """End the programs; the devices detach once nothing mounts them."""
        for program in (*self._watches.values(), self._held):
            if program is not None:
                program.close()
