"""The containers of one run, found by its label: the only module that queries the engine about them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound
from docker.types import Mount

from chaoslab.clock import Clock
from chaoslab.errors import StackError
from chaoslab.files import open_to_append
from chaoslab.spec.stackfile.topology import Address
from chaoslab.stack.compose.engine import Engine, engine_errors
from chaoslab.stack.compose.kill import kill_all
from chaoslab.stack.compose.project import REPLICA_LABEL, ROLE_LABEL, RUN_LABEL
from chaoslab.stack.loop_disk import attached
from chaoslab.stack.ports import LOOPBACK
from chaoslab.stack.protocol import Ended, KillReport, State
from chaoslab.stack.restarts import Death

_AT_ONCE = 16
_LOOP_DEVICES = ["b 7:* rmw", "c 10:237 rmw"]  # each loop device, and the one by which they are made
_LOG_LINES_MAX = 50_000  # of one container
_GONE = (404, 409)  # not there any more, or not running any more
_STATES: Mapping[str, State] = {"running": "running", "paused": "paused", "restarting": "running"}


@dataclass(frozen=True)
class ContainerInfo:
    """A container as the engine lists it. `replica`: its name in the project; `status`: as Docker writes it."""

    id: str
    replica: str
    role: str
    state: State
    status: str

    @property
    def finished(self) -> bool:
        """Whether it ended with status 0, as a job does."""
        return self.status.startswith("Exited (0)")


class ContainerDeaths:
    """The deaths of replicas as they happen; iterating ends after `close`, or when the engine is gone."""

    def __init__(self, events: Any) -> None:
        self._events = events

    def __iter__(self) -> Iterator[Death]:
        with contextlib.suppress(Exception):  # of the connection, which `close` breaks
            for event in self._events:
                about = event["Actor"]
                said = about["Attributes"]
                if said.get(ROLE_LABEL) == "replica":
                    yield Death(said[REPLICA_LABEL], about["ID"], int(said.get("exitCode", 0)))

    def close(self) -> None:
        self._events.close()


class Containers:
    """What belongs to a run on an engine. Every method raises StackError or EnvironmentFault, never the SDK's own errors."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self._run_id = run_id
        self._api: Any = engine.client.api  # untyped in the SDK
        self._ids: dict[str, str] = {}  # of the harness's own containers, which are never made anew

    # --- queries

    def all(self) -> list[ContainerInfo]:
        """Every container of the run, in whatever state."""
        with engine_errors("listing containers"):
            found = self._api.containers(all=True, filters=self._ours())
        return [
            ContainerInfo(
                id=one["Id"],
                replica=one["Labels"].get(REPLICA_LABEL, one["Id"][:12]),
                role=one["Labels"].get(ROLE_LABEL, ""),
                state=_STATES.get(str(one.get("State")), "dead"),
                status=str(one.get("Status", "")),
            )
            for one in found
        ]

    def of(self, replicas: Iterable[str]) -> list[ContainerInfo]:
        """The containers of these replicas."""
        wanted = set(replicas)
        return [one for one in self.all() if one.replica in wanted]

    def inspect(self, container: str) -> dict[str, Any]:
        with engine_errors(f"inspecting {container}"):
            found: dict[str, Any] = self._api.inspect_container(container)
        return found

    def began(self, containers: Iterable[str]) -> Mapping[str, str]:
        """Identity and time of start of each container that runs now, by its name in the project."""
        running = [one for one in self.of(containers) if one.state == "running"]
        starts = self.at_once(lambda one: str(self.inspect(one.id)["State"]["StartedAt"]), running)
        return {one.replica: f"{one.id[:12]}@{start}" for one, start in zip(running, starts, strict=True)}

    def pids(self, replicas: Iterable[str]) -> dict[str, int]:
        """The first process of each running or paused container of these replicas, as the engine numbers it."""
        alive = [one.id for one in self.of(replicas) if one.state in ("running", "paused")]
        states = self.at_once(self.inspect, alive)
        numbers = {id_: int(state["State"]["Pid"]) for id_, state in zip(alive, states, strict=True)}
        return {id_: pid for id_, pid in numbers.items() if pid}  # 0: ended since it was listed

    def published(self, replica: str) -> dict[int, Address]:
        """Where this machine publishes a container's TCP ports."""
        found: dict[int, Address] = {}
        for one in self.of([replica]):
            for port, places in (self.inspect(one.id)["NetworkSettings"]["Ports"] or {}).items():
                number, _, protocol = port.partition("/")
                if places and protocol == "tcp":
                    found[int(number)] = Address(LOOPBACK, int(places[0]["HostPort"]))
        return found

    def logs(self, replica: str, lines: int) -> list[str]:
        """The last lines that a replica logged."""
        with engine_errors(f"reading the log of {replica}"):
            texts = [self._api.logs(one.id, tail=lines).decode(errors="replace") for one in self.of([replica])]
        return [line for text in texts for line in text.splitlines()][-lines:]

    def follow_logs(self, name: str) -> Iterator[str]:
        """The lines that one of the harness's own containers logs from now on, until it ends."""
        with engine_errors(f"following the log of {name}"):
            yield from _lines(self._api.logs(self._own(name), stream=True, follow=True, tail=0))

    def follow(self, name: str, command: Sequence[str]) -> Iterator[str]:
        """The lines that a command writes in one of the harness's own containers, until either ends."""
        with engine_errors(f"running {command[0]} in {name}"):
            job = self._api.exec_create(self._own(name), list(command))["Id"]
            yield from _lines(self._api.exec_start(job, stream=True))

    def addresses(self) -> Mapping[str, str]:
        """The replica of each address that a running one has in the run's networks."""
        with engine_errors("listing containers"):
            found = self._api.containers(filters=self._ours())
        return {
            str(network["IPAddress"]): one["Labels"][REPLICA_LABEL]
            for one in found
            if one["Labels"].get(ROLE_LABEL) == "replica"
            for network in one["NetworkSettings"]["Networks"].values()
        }

    def save_logs(self, folder: Path) -> None:
        """Write the log of each container of the run to `<name>.log`, before it is removed."""
        folder.mkdir(parents=True, exist_ok=True)

        def save(one: ContainerInfo) -> None:
            with os.fdopen(open_to_append(folder / f"{one.replica}.log"), "ab") as file:
                file.write(self._api.logs(one.id, timestamps=True, tail=_LOG_LINES_MAX))

        with engine_errors("saving logs"):
            self.at_once(save, self.all())

    def deaths(self) -> ContainerDeaths:
        """Follow the deaths of the run's replicas from now on."""
        with engine_errors("following events"):
            filters = {"type": "container", "event": "die", **self._ours()}
            return ContainerDeaths(self._api.events(filters=filters, decode=True))

    # --- changes

    def execute_in(self, container: str, command: Sequence[str]) -> str:
        """Run a command in a container, named by its id; returns its output. Raises StackError when it fails."""
        with engine_errors(f"running {command[0]} in {container[:12]}"):
            job = self._api.exec_create(container, list(command))["Id"]
            output: str = self._api.exec_start(job).decode(errors="replace")
            status = self._api.exec_inspect(job)["ExitCode"]
        if status:
            raise StackError(f"{' '.join(command)}: exit status {status}: {output.strip()[-500:]}")
        return output

    def execute(self, container: str, command: Sequence[str]) -> Ended:
        """Run a command in a container, named by its id, as its own programs run. Raises StackError when it cannot."""
        with engine_errors(f"running {command[0]} in {container[:12]}"):
            job = self._api.exec_create(container, list(command))["Id"]
            output, said = self._api.exec_start(job, demux=True)
            status = self._api.exec_inspect(job)["ExitCode"]
        return Ended(status, (output or b"").decode(errors="replace"), (said or b"").decode(errors="replace"))

    def attach(self, name: str, command: Sequence[str]) -> Any:
        """Start a command in one of the harness's own containers; returns the SDK's socket to its input and output.

        Raises StackError when that container is gone.
        """
        id_ = self._own(name)
        with engine_errors(f"running {command[0]} in {name}"):
            job = self._api.exec_create(id_, list(command), stdin=True)["Id"]
            return self._api.exec_start(job, socket=True)

    def _own(self, name: str) -> str:
        """The id of one of the harness's own containers. Raises StackError when it is gone."""
        if name not in self._ids:
            self._ids |= {one.replica: one.id for one in self.all() if one.role != "replica"}
        if name not in self._ids:
            raise StackError(f"{name} is gone")
        return self._ids[name]

    def kill_at_once(self, replicas: Iterable[str], clock: Clock) -> KillReport:
        """SIGKILL everything in these, by the fastest means that there is. Raises StackError when a process survives."""
        frozen = [one.id for one in self.of(replicas) if one.state == "paused"]
        thaw = partial(self.at_once, self.resume, frozen) if frozen else None
        return kill_all(self.pids(replicas), self.kill, clock, thaw)

    def kill(self, container: str) -> None:
        """SIGKILL through the API; a container that is dead already stays so."""
        self._tolerant(lambda: self._api.kill(container, signal="SIGKILL"), f"killing {container}")

    def stop(self, container: str, grace_s: float) -> None:
        """Ask a container to end; the engine kills it after the grace, rounded up to whole seconds."""
        self._tolerant(lambda: self._api.stop(container, timeout=math.ceil(grace_s)), f"stopping {container}")

    def set_quota(self, container: str, quota_us: int, period_us: int) -> None:
        """Give a container so much processor time in each period; -1 sets no limit."""
        with engine_errors(f"limiting the processor time of {container}"):
            self._api.update_container(container, cpu_quota=quota_us, cpu_period=period_us)

    def set_shares(self, container: str, shares: int) -> None:
        """Set a container's weight when several compete for the processors; the usual is 1024."""
        with engine_errors(f"setting the CPU shares of {container}"):
            self._api.update_container(container, cpu_shares=shares)

    def shares(self, container: str) -> int:
        """A container's CPU shares according to the engine; 0 where none were set."""
        return int(self.inspect(container)["HostConfig"]["CpuShares"])

    def start(self, container: str) -> None:
        with engine_errors(f"starting {container}"):
            self._api.start(container)

    def pause(self, container: str) -> None:
        with engine_errors(f"pausing {container}"):
            self._api.pause(container)

    def resume(self, container: str) -> None:
        with engine_errors(f"resuming {container}"):
            self._api.unpause(container)

    def remove(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes."""
        self._tolerant(lambda: self._api.remove_container(container, force=True, v=True), f"removing {container}")

    def _tolerant(self, do: Callable[[], object], what: str) -> None:
        with engine_errors(what):
            try:
                do()
            except APIError as refused:
                if refused.status_code not in _GONE:
                    raise

    def at_once(self, do: Callable[[Any], Any], what: Sequence[Any]) -> list[Any]:
        """Do something to several containers at the same time; the first error is raised when all are done."""
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            return list(pool.map(do, what))

    # --- networks, volumes, everything

    def create_network(self, name: str, place: str) -> dict[str, Any]:
        """Create a bridge network of the run; returns the engine's description of it."""
        with engine_errors(f"creating network {name}"):
            made = self._api.create_network(name, driver="bridge", labels={RUN_LABEL: self._run_id, "chaoslab.site": place})
            found: dict[str, Any] = self._api.inspect_network(made["Id"])
        return found

    def copy_into_volume(self, source: str, volume: str, image: str, timeout_s: float) -> str | None:
        """Copy a folder or a volume into a volume of the run, by a container that only reads it; what went wrong, in words."""
        with engine_errors(f"copying {source}"):
            mounts = [
                Mount("/from", source, type="bind" if source.startswith("/") else "volume", read_only=True),
                Mount("/to", volume, type="volume"),
            ]
            made = self._api.create_container(
                image,
                entrypoint=["cp", "-a", "/from/.", "/to/"],
                host_config=self._api.create_host_config(mounts=mounts, network_mode="none"),
                labels={RUN_LABEL: self._run_id, ROLE_LABEL: "copy"},
            )["Id"]
            try:
                self._api.start(made)
                status = self._api.wait(made, timeout=timeout_s)["StatusCode"]
                said = self._api.logs(made, tail=3).decode(errors="replace").strip()
            finally:
                self.remove(made)
        return None if status == 0 else said or f"cp ended with status {status}"

    def start_keeper(self, image: str, project: str, name: str, folder: str) -> str:
        """Start a container that may use the machine's loop devices, with a volume of the run at a folder; returns its id."""
        labels = {RUN_LABEL: self._run_id, REPLICA_LABEL: name, ROLE_LABEL: "keeper"}
        volume = f"{project}_{name}"
        with engine_errors(f"starting {name}"):
            self._api.create_volume(volume, labels={RUN_LABEL: self._run_id})
            mounts = [Mount(folder, volume, type="volume"), Mount("/dev", "/dev", type="bind")]
            made = self._api.create_container(
                image,
                name=f"{project}-{name}",
                entrypoint=["sleep", "infinity"],
                host_config=self._api.create_host_config(
                    mounts=mounts, network_mode="none", cap_add=["SYS_ADMIN"], device_cgroup_rules=_LOOP_DEVICES
                ),
                labels=labels,
            )["Id"]
            self._api.start(made)
        return str(made)

    def remove_volume(self, name: str) -> None:
        """Remove a volume, if it is there."""
        with engine_errors(f"removing volume {name}"):
            try:
                self._api.remove_volume(name)
            except NotFound:
                return

    def own_volumes(self) -> set[str]:
        """The volumes that the run made."""
        with engine_errors("listing volumes"):
            return {str(one["Name"]) for one in self._api.volumes(filters=self._ours())["Volumes"] or []}

    def keep_one_network(self) -> None:
        """Disconnect containers that run in several networks from all but one of them, the engine's first.

        When such a container dies, the engine moves its published ports from network to network, and looks each time through
        every connection that the machine tracks. What the engine refuses here only costs time.
        """
        leave = self._api.disconnect_container_from_network
        with engine_errors("taking containers out of networks"):
            found = self._api.containers(filters=self._ours())
            others = [(one["Id"], name) for one in found for name in sorted(one["NetworkSettings"]["Networks"])[1:]]
            self.at_once(_unless_refused, [partial(leave, container, network) for container, network in others])

    def end_all(self, clock: Clock) -> None:
        """SIGKILL everything, so that the removal has the machine to itself. Raises StackError when one survives.

        Containers that publish a port are removed first, except the WAN's: most tracked connections go with them, and the
        engine looks through all of these for each network that a container leaves.
        """
        with engine_errors("listing containers"):
            found = self._api.containers(filters=self._ours())
        publishing = [one for one in found if any("PublicPort" in port for port in one["Ports"] or ())]
        self.at_once(self.remove, [one["Id"] for one in publishing if one["Labels"].get(ROLE_LABEL) != "wan"])
        left = self.all()
        self.kill_at_once([one.replica for one in left if one.role != "wan"], clock)
        self.keep_one_network()  # of the WAN, while the engine is busy with the networks of the others
        self.kill_at_once([one.replica for one in left], clock)

    def sweep(self) -> list[str]:
        """Remove everything that carries the run's label; returns what is left, in words."""
        self.at_once(self.remove, [one.id for one in self.all()])
        with engine_errors("removing networks and volumes"):
            networks = [partial(self._api.remove_network, one["Id"]) for one in self._api.networks(filters=self._ours())]
            volumes = [partial(self._api.remove_volume, name) for name in self.own_volumes()]
            self.at_once(_unless_refused, [*networks, *volumes])
        return self.left()

    def left(self) -> list[str]:
        """Everything that still carries the run's label, in words."""
        with engine_errors("looking for what is left"):
            networks = [f"network {one['Name']}" for one in self._api.networks(filters=self._ours())]
        volumes = [f"volume {name}" for name in sorted(self.own_volumes())]
        devices = [f"loop device {name}" for name in attached(f"-{self._run_id}_")]  # where the engine is on this machine
        return [*(f"container {one.replica} ({one.id[:12]})" for one in self.all()), *networks, *volumes, *devices]

    def _ours(self) -> dict[str, str]:
        return {"label": f"{RUN_LABEL}={self._run_id}"}


def _unless_refused(do: Callable[[], object]) -> None:
    with contextlib.suppress(APIError):  # in use, or gone: what is left is listed at the end
        do()


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Whole lines of an output that comes in pieces."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
