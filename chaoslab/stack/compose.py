"""The Compose runtime: the services of a Compose file as containers, the links as Toxiproxies and packet rules."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaoslab.clock import SYSTEM, Clock, Deadline, wait_until
from chaoslab.errors import ChaoslabError, NotReady, StackError
from chaoslab.events import HARNESS
from chaoslab.links.docker_links import Crossing, DockerLinks
from chaoslab.spec.compose import ComposeFile
from chaoslab.spec.model import OUTSIDE
from chaoslab.stack import docker_boot as boot
from chaoslab.stack import docker_disks as disks
from chaoslab.stack.boot_share import Holds
from chaoslab.stack.docker_cli import ComposeCommand, read_config
from chaoslab.stack.docker_containers import Containers
from chaoslab.stack.docker_engine import connect, require_compose
from chaoslab.stack.docker_isolation import require_isolation
from chaoslab.stack.docker_project import CONTROL, CONTROL_PORT, SOCKS_PORT, gate_name
from chaoslab.stack.docker_share import CpuShares
from chaoslab.stack.docker_shells import Shells
from chaoslab.stack.docker_watch import Customs, Watch
from chaoslab.stack.embedded import RUN, answers
from chaoslab.stack.ports import PortBlock
from chaoslab.stack.protocol import BarMode, Control, KillReport, Links, State, StopReport, Tell
from chaoslab.stack.socks import call_through
from chaoslab.stack.topology import Address, Flow, Topology
from chaoslab.stack.wiring import require_replica

_DEATHS_S = 5.0
_LINKS_S = 10.0
_KILLED = 128 + 9
_CPU_PERIOD_US, _NO_QUOTA = 100_000, -1
_STACK_NAME_MAX = 30
_ORDER: tuple[State, ...] = ("running", "paused", "dead")  # of several containers of one replica, the liveliest counts


class ComposeStack:
    """A stack of containers. See `protocol.Stack`."""

    def __init__(
        self,
        compose: ComposeFile,
        run_id: str,
        data: Path,
        logs: Path,
        clock: Clock = SYSTEM,
    ) -> None:
        topology = compose.topology()
        self._topology = dataclasses.replace(topology, project=project_name(topology.project, run_id))
        self._files = compose.files
        self._run_id = run_id
        self._data = data
        self._logs = logs
        self._project_file = data / "project.json"
        self._clock = clock
        self._ports = PortBlock()
        self._starting = ComposeCommand([self._project_file], logs / "compose.log", self._topology.project, {RUN: run_id})
        self._building = ComposeCommand(self._files, logs / "build.log", env={RUN: run_id})
        self._known: Containers | None = None
        self._config: dict[str, Any] = {}
        self._customs = Customs({}, {}, frozenset())
        self._addresses: dict[tuple[str, int], Address] = {}
        self._gates: dict[str, Address] = {}
        self._shells: Shells | None = None
        self._links: DockerLinks | None = None
        self._equipment: tuple[str, ...] = ()  # the WAN's containers, which must never end
        self._holds: Holds[CpuShares] = Holds()
        self._quotas: dict[str, tuple[int, int]] = {}  # of containers that are throttled: CPU quota and period before
        self._down = False

    @property
    def topology(self) -> Topology:
        return self._topology

    @property
    def links(self) -> Links:
        return self._docker_links

    @property
    def _docker_links(self) -> DockerLinks:
        if self._links is None:
            raise StackError("the links of this stack are not up yet")
        return self._links

    @property
    def _containers(self) -> Containers:
        if self._known is None:
            raise StackError("this stack is not up")
        return self._known

    # --- up and down ------------------------------------------------------------------------------------------

    def up(self, deadline: Deadline, tell: Tell) -> None:
        """Start everything and wait until it is healthy.

        Raises NotReady with the last log lines of what is not, EnvironmentFault where the machine lacks something,
        SpecError when Compose does not take the file or the file goes around the WAN.
        """
        if self._links is None:
            self._make(deadline, tell)
        self._watch.start(self._topology.replicas, deadline)
        self._find_entries()
        require_isolation(self._containers, self._topology, self._docker_links.reach, self._gates)

    def _make(self, deadline: Deadline, tell: Tell) -> None:
        """Create everything, and start the WAN."""
        engine, version = connect(), require_compose()
        tell(f"Docker {engine.version}, Compose {version}")
        self._config = read_config(self._files)
        boot.check_config(self._config, self._topology.replicas)
        boot.have_images(engine, self._config, self._topology, self._building, tell, deadline)
        self._check_wanted()
        self._known = Containers(engine, self._run_id)
        self._data.mkdir(parents=True, exist_ok=True)
        plan = boot.make_project(
            engine, self._known, self._config, self._topology, self._run_id, self._ports, self._project_file
        )
        self._topology = boot.with_ports(self._topology, plan.reach)
        self._customs = boot.customs_of(engine, self._config)
        tell(f"starting {len(self._topology.replicas)} containers, and {len(plan.wans)} Toxiproxies between them")
        self._starting.run("create", "--no-build", deadline=deadline)
        equipment = [one.id for one in self._known.seen() if one.role != "replica"]
        self._known.at_once(self._known.start, equipment)
        self._write_members()
        self._connect(plan)

    def _write_members(self) -> None:
        """Whose each container is, for whoever watches the machine."""
        sites = {replica.name: replica.site for replica in self._topology.replicas}
        owners = {one.id: sites.get(one.replica, HARNESS) for one in self._containers.seen()}
        self.members.write_text(json.dumps(owners))

    @property
    def members(self) -> Path:
        return self._data / "members.json"

    def host_control(self, deadline: Deadline) -> Control:
        """A container of the project, which runs since `up`."""
        ports = self._containers.published(CONTROL)
        address = self._must_be_published(ports, CONTROL_PORT, CONTROL)
        wait_until("the control", lambda: (answers(address, 0.3), address), deadline)
        return Control(address, "a container of the project, on a volume of the engine")

    def _connect(self, plan: boot.Plan) -> None:
        """Learn where everything is published, and drive the WAN."""
        crossings = []
        for wan in plan.wans:
            ports = self._containers.published(wan.name)
            crossings.append(Crossing(wan, str(self._must_be_published(ports, plan.reach.api_port, wan.name))))
            self._addresses |= {(replica, port): ports[own] for replica, port, own in wan.published}
        for place in self._topology.places:
            if place != OUTSIDE:
                ports = self._containers.published(gate_name(place))
                self._gates[place] = self._must_be_published(ports, SOCKS_PORT, gate_name(place))
        gates = [gate_name(place) for place in self._gates]
        self._shells = Shells(self._containers, self._clock)
        links = DockerLinks(crossings, plan.reach, self._containers, self._shells, gates)
        wait_until("the WAN's proxies", lambda: _none_missing(links), Deadline.after(_LINKS_S, self._clock))
        self._equipment = (*(wan.name for wan in plan.wans), *gates)
        self._shells.open(self._equipment)
        self._links = links

    def _find_entries(self) -> None:
        """Learn where the replicas outside are published, which is known once they run."""
        for replica in self._topology.in_site(OUTSIDE):
            ports = self._containers.published(replica.name)
            self._addresses |= {(replica.name, port): address for port, address in ports.items()}

    def _must_be_published(self, ports: Mapping[int, Address], port: int, name: str) -> Address:
        if port not in ports:
            said = "\n".join(f"  | {line}" for line in self._containers.logs(name, 5))
            raise NotReady(f"{name} did not come up:\n{said}")
        return ports[port]

    def down(self) -> list[str]:
        """Remove every container, network and volume that carries the run's label; what is left is returned in words."""
        self._down = True
        self._starting.end()
        self._building.end()
        if self._shells is not None:
            self._shells.close()
        try:
            return self._sweep(self._known) if self._known is not None else []
        except ChaoslabError as failed:
            return [f"containers, networks and volumes labelled chaoslab.run={self._run_id}: {failed}"]
        finally:
            self._ports.release()

    def _sweep(self, containers: Containers) -> list[str]:
        containers.save_logs(self._logs)  # while all still run: an engine that is busy with their ends answers late
        containers.end_all(self._clock)
        return containers.sweep()

    def _check_wanted(self) -> None:
        if self._down:
            raise StackError("the stack was taken down while it was starting")

    # --- where and how ------------------------------------------------------------------------------------------

    def address(self, replica: str, port: int, *, seen_from: str = OUTSIDE) -> Address:
        """Where a replica's port is reached from a place. Inside a site that is its name there, as its neighbours call it."""
        require_replica(self._topology, replica)
        if seen_from != OUTSIDE:
            return Address(replica, port)
        if (replica, port) not in self._addresses:
            known = ", ".join(str(known) for name, known in self._addresses if name == replica) or "none"
            raise StackError(f"{replica} has no port {port} that is known; it has {known}; name it under `expose`")
        return self._addresses[replica, port]

    def reaches(self, replica: str, port: int, *, seen_from: str = OUTSIDE, timeout_s: float = 0.3) -> bool:
        """Whether a caller in that place is answered by the replica's port now: connect, say something, read a byte."""
        if seen_from == OUTSIDE:
            return answers(self.address(replica, port), timeout_s)
        return call_through(self._gates[seen_from], self.address(replica, port, seen_from=seen_from), timeout_s) == "answered"

    def states(self) -> Mapping[str, State]:
        found: dict[str, State] = {replica.name: "absent" for replica in self._topology.replicas}
        for one in self._containers.seen():
            before = found.get(one.replica)
            if before is not None and (before == "absent" or _ORDER.index(one.state) < _ORDER.index(before)):
                found[one.replica] = one.state
        return found

    def trouble(self) -> str | None:
        """Which part of the WAN ended, once it was up. Raises EnvironmentFault when the engine is gone."""
        if self._links is None or self._down:
            return None
        up = {one.replica for one in self._containers.seen() if one.state == "running"}
        ended = [name for name in self._equipment if name not in up]
        return f"{', '.join(ended)} ended: its faults are healed without a word" if ended else None

    def logs(self, replica: str, lines: int = 20) -> list[str]:
        require_replica(self._topology, replica)
        return self._containers.logs(replica, lines)

    # --- life and death -------------------------------------------------------------------------------------------

    def kill(self, replicas: Sequence[str]) -> KillReport:
        """SIGKILL everything in these replicas at once. Raises StackError when something survives."""
        report = self._containers.kill_at_once(self._named(replicas), self._clock)
        deadline = Deadline.after(_DEATHS_S, self._clock)
        wait_until("the engine to see them dead", lambda: _none_alive(self._containers.pids(replicas)), deadline, poll_s=0.02)
        return report

    def start(self, replicas: Sequence[str], deadline: Deadline) -> None:
        """Start what is dead of these and wait until all are healthy; health checks run inside each container.

        Calls that were made while they were dead end then: nobody refused them, so they would wait for their next SYN.
        """
        self._watch.start([self._topology.replica(name) for name in self._named(replicas)], deadline)
        self._docker_links.redial()

    def pause(self, replicas: Sequence[str]) -> None:
        """Freeze every process of these replicas."""
        running = [one.id for one in self._containers.of(self._named(replicas)) if one.state == "running"]
        self._containers.at_once(self._containers.pause, running)

    def resume(self, replicas: Sequence[str]) -> None:
        frozen = [one.id for one in self._containers.of(self._named(replicas)) if one.state == "paused"]
        self._containers.at_once(self._containers.resume, frozen)

    def destroy_disks(self, replicas: Sequence[str]) -> None:
        """Lose the volumes of these replicas, which must be dead; they start with empty ones.

        Raises StackError when a volume is not this run's own, or when a replica elsewhere uses it.
        """
        disks.destroy(self._containers, self._named(replicas))
        self._starting.run("create", "--no-build", *replicas, deadline=Deadline.after(30.0, self._clock))
        self._write_members()

    def stop(self, replicas: Sequence[str], grace_s: float) -> StopReport:
        """`docker stop`, with the stop signal of each container. Who ended with status 137 counts as killed."""
        began_ns = self._clock.now_ns()
        running = [one for one in self._containers.of(self._named(replicas)) if one.state in ("running", "paused")]
        self._containers.at_once(lambda one: self._containers.stop(one.id, grace_s), running)
        took_ms = (self._clock.now_ns() - began_ns) / 1e6
        killed = (one.replica for one in running if self._containers.inspect(one.id)["State"]["ExitCode"] == _KILLED)
        return StopReport(targets=len(running), took_ms=took_ms, killed=tuple(dict.fromkeys(killed)))

    def throttle(self, replicas: Sequence[str], share: float) -> None:
        """A CPU quota: this share of one processor. Raises StackError for a container whose file gives it `cpus` of its own."""
        for one in self._containers.of(self._named(replicas)):
            limits = self._containers.inspect(one.id)["HostConfig"]
            self._quotas.setdefault(one.id, (limits["CpuQuota"], limits["CpuPeriod"]))
            self._containers.set_quota(one.id, round(share * _CPU_PERIOD_US), _CPU_PERIOD_US)

    def unthrottle(self, replicas: Sequence[str]) -> None:
        for one in self._containers.of(self._named(replicas)):
            quota, period = self._quotas.pop(one.id, (None, None))
            if quota is not None:
                self._containers.set_quota(one.id, quota or _NO_QUOTA, period or _CPU_PERIOD_US)

    def observed_share(self, replica: str) -> float:
        """The quota as the engine has it, in processors; 1 where there is none."""
        limits = [self._containers.inspect(one.id)["HostConfig"] for one in self._containers.of(self._named([replica]))]
        return max(
            (one["CpuQuota"] / (one["CpuPeriod"] or _CPU_PERIOD_US) for one in limits if one["CpuQuota"] > 0), default=1.0
        )

    def hold_back(self, replicas: Sequence[str], at_most_s: float) -> None:
        self._holds.hold(replicas, CpuShares(self._containers, self._named(replicas)), at_most_s)

    def let_go(self, replicas: Sequence[str]) -> dict[str, Any]:
        return self._holds.let_go(replicas)

    def bar(self, replicas: Sequence[str], mode: BarMode, *, spare: Collection[Flow] = ()) -> None:
        self._docker_links.bar(replicas, mode, spare=spare)

    def unbar(self, replicas: Sequence[str]) -> None:
        self._docker_links.unbar(replicas)

    def _named(self, replicas: Sequence[str]) -> list[str]:
        return [require_replica(self._topology, name).name for name in replicas]

    @property
    def _watch(self) -> Watch:
        return Watch(self._containers, self._customs, self._check_wanted)


def project_name(stack: str, run_id: str) -> str:
    """A name that Compose takes, and that no other run has."""
    return f"chaoslab-{re.sub(r'[^a-z0-9_-]', '', stack.lower())[:_STACK_NAME_MAX]}-{run_id.lower()}"


def _none_missing(links: DockerLinks) -> tuple[bool, list[str]]:
    try:
        missing = links.missing()
    except ChaoslabError as not_yet:
        return False, [str(not_yet)]
    return not missing, missing


def _none_alive(pids: Mapping[str, int]) -> tuple[bool, list[str]]:
    return not pids, sorted(pids)
