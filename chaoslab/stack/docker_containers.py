"""The containers of one run, found by its label: the only place that asks the engine about them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from chaoslab.clock import Clock
from chaoslab.errors import StackError
from chaoslab.files import open_to_append
from chaoslab.stack.docker_engine import LOOPBACK, Engine, engine_errors
from chaoslab.stack.docker_kill import kill_all
from chaoslab.stack.docker_project import REPLICA, ROLE, RUN
from chaoslab.stack.protocol import KillReport, State
from chaoslab.stack.topology import Address

_AT_ONCE = 16
_LOG_LINES_MAX = 50_000  # of one container
_GONE = (404, 409)  # not there any more, or not running any more
_STATES: Mapping[str, State] = {"running": "running", "paused": "paused", "restarting": "running"}


@dataclass(frozen=True)
class Seen:
    """A container as the engine lists it. `replica` is its name in the project; `status` is in Docker's words."""

    id: str
    replica: str
    role: str
    state: State
    status: str

    @property
    def finished(self) -> bool:
        """Ended by itself and well, as a job does."""
        return self.status.startswith("Exited (0)")


class Containers:
    """What belongs to a run on an engine. Every method raises StackError or EnvironmentFault, never the SDK's own errors."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self._engine = engine
        self._run_id = run_id
        self._api: Any = engine.client.api  # untyped in the SDK
        self._ids: dict[str, str] = {}  # of the harness's own containers, which are never made anew

    # --- looking

    def seen(self) -> list[Seen]:
        """Every container of the run, in whatever state."""
        with engine_errors("listing containers"):
            found = self._api.containers(all=True, filters=self._ours())
        return [_seen(one) for one in found]

    def of(self, replicas: Iterable[str]) -> list[Seen]:
        wanted = set(replicas)
        return [one for one in self.seen() if one.replica in wanted]

    def inspect(self, container: str) -> dict[str, Any]:
        with engine_errors(f"inspecting {container}"):
            found: dict[str, Any] = self._api.inspect_container(container)
        return found

    def began(self, containers: Iterable[str]) -> Mapping[str, str]:
        """Identity and start of each container that runs now, by its name in the project."""
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
        """Where the machine publishes a container's ports."""
        found: dict[int, Address] = {}
        for one in self.of([replica]):
            for port, places in (self.inspect(one.id)["NetworkSettings"]["Ports"] or {}).items():
                number, _, protocol = port.partition("/")
                if places and protocol == "tcp":
                    found[int(number)] = Address(LOOPBACK, int(places[0]["HostPort"]))
        return found

    def logs(self, replica: str, lines: int) -> list[str]:
        """The last lines that a replica wrote."""
        with engine_errors(f"reading the log of {replica}"):
            texts = [self._api.logs(one.id, tail=lines).decode(errors="replace") for one in self.of([replica])]
        return [line for text in texts for line in text.splitlines()][-lines:]

    def save_logs(self, folder: Path) -> None:
        """Write what each container of the run has said to `<name>.log`, before it is removed."""
        folder.mkdir(parents=True, exist_ok=True)

        def save(one: Seen) -> None:
            with os.fdopen(open_to_append(folder / f"{one.replica}.log"), "ab") as file:
                file.write(self._api.logs(one.id, timestamps=True, tail=_LOG_LINES_MAX))

        with engine_errors("saving logs"):
            self.at_once(save, self.seen())

    # --- doing

    def execute_in(self, container: str, command: Sequence[str]) -> str:
        """Run a command in a container, named by its id; returns what it said. Raises StackError when it fails."""
        with engine_errors(f"running {command[0]} in {container[:12]}"):
            job = self._api.exec_create(container, list(command))["Id"]
            said: str = self._api.exec_start(job).decode(errors="replace")
            status = self._api.exec_inspect(job)["ExitCode"]
        if status:
            raise StackError(f"{' '.join(command)}: exit status {status}: {said.strip()[-500:]}")
        return said

    def attach(self, container: str, command: Sequence[str]) -> Any:
        """Start a command in a container of the run; returns the SDK's socket to its input and outputs."""
        with engine_errors(f"running {command[0]} in {container}"):
            job = self._api.exec_create(self._id(container), list(command), stdin=True)["Id"]
            return self._api.exec_start(job, socket=True)

    def _id(self, name: str) -> str:
        if name not in self._ids:
            self._ids |= {one.replica: one.id for one in self.seen() if one.role != "replica"}
        if name not in self._ids:
            raise StackError(f"{name} is gone")
        return self._ids[name]

    def kill_at_once(self, replicas: Iterable[str], clock: Clock) -> KillReport:
        """SIGKILL everything in these, by the fastest means that there is. Raises StackError when one survives."""
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
        """Give a container so much processor time in each period; -1 for all it wants."""
        with engine_errors(f"limiting the processor time of {container}"):
            self._api.update_container(container, cpu_quota=quota_us, cpu_period=period_us)

    def set_shares(self, container: str, shares: int) -> None:
        """What a container gets of the processors beside the others, when all want them; the usual is 1024."""
        with engine_errors(f"setting the CPU shares of {container}"):
            self._api.update_container(container, cpu_shares=shares)

    def shares(self, container: str) -> int:
        """As the engine has it; 0 where nobody said anything."""
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
        """Do something to several containers at the same time; the first error is raised when all are through."""
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            return list(pool.map(do, what))

    # --- networks, volumes, everything

    def create_network(self, name: str, place: str) -> dict[str, Any]:
        """A bridge network of the run; returns what the engine says of it."""
        with engine_errors(f"creating network {name}"):
            made = self._api.create_network(name, driver="bridge", labels={RUN: self._run_id, "chaoslab.site": place})
            found: dict[str, Any] = self._api.inspect_network(made["Id"])
        return found

    def remove_volume(self, name: str) -> None:
        """Remove a volume; one that is gone is fine."""
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
        """Take what runs in several networks out of all but one of them, the engine's first.

        When such a container dies, the engine moves its published ports from network to network, and looks each time through
        every connection that the machine knows of. What the engine refuses here only costs time.
        """
        leave = self._api.disconnect_container_from_network
        with engine_errors("taking containers out of networks"):
            found = self._api.containers(filters=self._ours())
            others = [(one["Id"], name) for one in found for name in sorted(one["NetworkSettings"]["Networks"])[1:]]
            self.at_once(_unless_refused, [partial(leave, container, network) for container, network in others])

    def _called_from_outside(self) -> list[str]:
        """Containers, without the WAN's, that publish a port: with them go most of the connections that the machine knows of.

        For each end of a container the engine looks through them all.
        """
        with engine_errors("listing containers"):
            found = self._api.containers(filters=self._ours())
        publishing = [one for one in found if any("PublicPort" in port for port in one["Ports"] or ())]
        return [one["Id"] for one in publishing if one["Labels"].get(ROLE) != "wan"]

    def end_all(self, clock: Clock) -> None:
        """SIGKILL everything, so that removing it has the machine to itself. Raises StackError when something survives."""
        self.at_once(self.remove, self._called_from_outside())
        everyone = self.seen()
        self.kill_at_once([one.replica for one in everyone if one.role != "wan"], clock)
        self.keep_one_network()  # of the WAN, while the engine is busy with the ends of the others
        self.kill_at_once([one.replica for one in everyone], clock)

    def sweep(self) -> list[str]:
        """Remove everything that carries the run's label; what is left, in words."""
        self.at_once(self.remove, [one.id for one in self.seen()])
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
        return [*(f"container {one.replica} ({one.id[:12]})" for one in self.seen()), *networks, *volumes]

    def _ours(self) -> dict[str, str]:
        return {"label": f"{RUN}={self._run_id}"}


def _seen(one: Mapping[str, Any]) -> Seen:
    labels = one.get("Labels") or {}
    state = _STATES.get(str(one.get("State")), "dead")
    return Seen(one["Id"], labels.get(REPLICA, one["Id"][:12]), labels.get(ROLE, ""), state, str(one.get("Status", "")))


def _unless_refused(do: Callable[[], object]) -> None:
    with contextlib.suppress(APIError):  # in use, or gone: what is left is told at the end
        do()
