"""The Compose runtime: the services of a Compose file as containers, the links as Toxiproxies and packet rules.

The WAN is the containers that join the networks of two places each, a gate is a SOCKS server by which the harness calls from
within a place, and shells are `docker exec` processes that stay open in both.
"""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaoslab.background import in_thread
from chaoslab.clock import NS_PER_MS, SYSTEM, Clock, Deadline, wait_until
from chaoslab.errors import ChaoslabError, NotReady, StackError
from chaoslab.history.rows import HARNESS
from chaoslab.spec.stackfile.compose import ComposeFile
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Address, Flow, Topology
from chaoslab.stack.boot_share import BootShares
from chaoslab.stack.compose import boot, disks, own_disks
from chaoslab.stack.compose.asks import WanAsks
from chaoslab.stack.compose.bring_up import StartRules, bring_up
from chaoslab.stack.compose.cli import ComposeCommand, read_config
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.engine import Engine, connect, require_compose
from chaoslab.stack.compose.images import WAN
from chaoslab.stack.compose.isolation import require_isolation
from chaoslab.stack.compose.links import Crossing, DockerLinks
from chaoslab.stack.compose.own_data import copy_all, remove_files
from chaoslab.stack.compose.project import CONTROL, CONTROL_PORT, SOCKS_PORT, gate_name
from chaoslab.stack.compose.share import CpuShares
from chaoslab.stack.compose.shells import Shells
from chaoslab.stack.compose.socks import call_through, connect_through
from chaoslab.stack.ports import PortBlock
from chaoslab.stack.protocol import (
    BlockMode,
    Control,
    CutReport,
    Ended,
    KillReport,
    Life,
    Links,
    OnProgress,
    State,
    StopReport,
    Unanswered,
)
from chaoslab.stack.reach import RUN_VARIABLE, answers, require_replica
from chaoslab.stack.restarts import Restarts, policies_of

_DEATHS_S = 5.0
_LINKS_S = 10.0
_KILLED = 128 + 9
_CPU_PERIOD_US, _NO_QUOTA = 100_000, -1
_STACK_NAME_MAX = 30
_ORDER: tuple[State, ...] = (
    "running",
    "paused",
    "dead",
)  # of several containers of one replica, the first of these states counts


class ComposeStack:
    """A stack of containers. See `protocol.Stack`, whose order the methods have."""

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
        self._use_binds = compose.use_binds
        self._run_id = run_id
        self._data = data
        self._logs = logs
        self._project_file = data / "project.json"
        self._clock = clock
        self._ports = PortBlock()
        mark = {RUN_VARIABLE: run_id}
        self._creating = ComposeCommand([self._project_file], logs / "compose.log", self._topology.project, mark)
        self._building = ComposeCommand(self._files, logs / "build.log", env=mark)
        self._engine: Engine | None = None
        self._known: Containers | None = None
        self._config: dict[str, Any] = {}
        self._start_rules = StartRules({}, {}, frozenset())
        self._addresses: dict[tuple[str, int], Address] = {}
        self._gates: dict[str, Address] = {}
        self._shells: Shells | None = None
        self._restarts: Restarts | None = None
        self._links: DockerLinks | None = None
        self._watches_asks = False
        self._asks: WanAsks | None = None
        self._cuttable: frozenset[str] = frozenset()
        self._own_disks: own_disks.OwnDisks | None = None
        self._equipment: tuple[str, ...] = ()  # the containers of the WAN and the gates, which must never end
        self._boot_shares: BootShares[CpuShares] = BootShares()
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

    def up(self, deadline: Deadline, on_progress: OnProgress) -> None:
        """Start everything and wait until it is healthy.

        Raises NotReady with the last log lines of what is not, EnvironmentFault where the machine lacks something,
        SpecError when Compose does not take the file or the file goes around the WAN.
        """
        if self._links is None:
            if self._engine is None:
                self.prepare(deadline, on_progress)
            self._connect(self._create(deadline, on_progress))
        rules, names = self._start_rules, [replica.name for replica in self._topology.replicas]
        served = {replica.name for replica in self._topology.replicas if replica.ports}
        self._start_rules = dataclasses.replace(rules, ended=frozenset(names) - served - rules.restarted - rules.checks.keys())
        self._bring_up(names, deadline)
        done = frozenset(name for name, state in self.states().items() if state == "dead")
        self._start_rules = dataclasses.replace(rules, ended=done)  # from now on another that ends was ended
        for replica in self._topology.in_site(OUTSIDE):  # their ports are known once they run
            ports = self._containers.published(replica.name)
            self._addresses |= {(replica.name, port): address for port, address in ports.items()}
        require_isolation(self._containers, self._topology, self._docker_links.reach, self._gates)
        if self._restarts is None:
            self._restarts = Restarts(self._containers, policies_of(self._config["services"]), self._clock)
            self._restarts.begin()

    def prepare(self, deadline: Deadline, on_progress: OnProgress) -> None:
        """Have every image, built or pulled. Raises as `up` does, but for NotReady."""
        engine, version = connect(), require_compose()
        on_progress(f"Docker {engine.version}, Compose {version}")
        self._config = read_config(self._files)
        boot.check_config(self._config, self._topology.replicas)
        boot.have_images(engine, self._config, self._topology, self._building, on_progress, deadline)
        self._check_wanted()
        self._engine = engine

    def _create(self, deadline: Deadline, on_progress: OnProgress) -> boot.Plan:
        """Create everything, and start the harness's own containers."""
        if self._engine is None:
            raise StackError("this stack has no images yet")
        engine = self._engine
        self._known = Containers(engine, self._run_id)
        self._data.mkdir(parents=True, exist_ok=True)
        plan = boot.make_project(
            engine,
            self._known,
            self._config,
            self._topology,
            self._run_id,
            self._ports,
            self._project_file,
            use_binds=self._use_binds,
            within=self._watches_asks,
            cut=self._cuttable,
        )
        self._own_disks = plan.disks
        self._topology = boot.with_ports(self._topology, plan.reach)
        self._start_rules = boot.start_rules_of(engine, self._config)
        on_progress(f"starting {len(self._topology.replicas)} containers, and {len(plan.wans)} Toxiproxies between them")
        self._creating.run("create", "--no-build", deadline=deadline)
        copy_all(self._known, plan.copies, self._topology.project, WAN, on_progress)
        self._known.at_once(self._known.start, [one.id for one in self._known.all() if one.role != "replica"])
        if plan.disks is not None:
            plan.disks.watch()
        self._write_members()
        return plan

    def _connect(self, plan: boot.Plan) -> None:
        """Learn where the WAN and the gates are published, and wait until the WAN can be driven."""
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

        def has_all_proxies() -> tuple[bool, list[str]]:
            try:
                missing = links.missing()
            except ChaoslabError as not_yet:
                return False, [str(not_yet)]
            return not missing, missing

        wait_until("the WAN's proxies", has_all_proxies, Deadline.after(_LINKS_S, self._clock))
        self._equipment = (*(wan.name for wan in plan.wans), *gates)
        self._shells.open(self._equipment)
        self._links = links
        if self._watches_asks:
            self._asks = WanAsks(self._containers, plan.wans, links.holds, self._clock)
            self._asks.begin()

    def _must_be_published(self, ports: Mapping[int, Address], port: int, name: str) -> Address:
        if port not in ports:
            tail = "\n".join(f"  | {line}" for line in self._containers.logs(name, 5))
            raise NotReady(f"{name} did not come up:\n{tail}")
        return ports[port]

    def _bring_up(self, names: Sequence[str], deadline: Deadline) -> None:
        bring_up(self._containers, self._start_rules, names, deadline, self._check_wanted)

    def _check_wanted(self) -> None:
        if self._down:
            raise StackError("the stack was taken down while it was starting")

    def down(self) -> list[str]:
        """Remove every container, network and volume that carries the run's label; what is left is returned in words."""
        self._down = True
        if self._restarts is not None:
            self._restarts.end()
        self._creating.end()
        self._building.end()
        if self._shells is not None:
            self._shells.close()
        if self._own_disks is not None:
            self._own_disks.close()
        try:
            if self._known is None:
                return []
            self._known.save_logs(self._logs)  # while all still run: an engine that is busy with their ends answers late
            self._known.end_all(self._clock)
            return self._known.sweep()
        except ChaoslabError as failed:
            return [f"containers, networks and volumes labelled chaoslab.run={self._run_id}: {failed}"]
        finally:
            remove_files(self._data)
            self._ports.release()

    # --- where replicas are, and how they are ---------------------------------------------------------------------

    def address(self, replica: str, port: int, *, seen_from: str = OUTSIDE) -> Address:
        """Where a replica's port is reached from a place; from within the sites that is by the replica's own name."""
        require_replica(self._topology, replica)
        if seen_from != OUTSIDE:
            return Address(replica, port)
        if (replica, port) not in self._addresses:
            known = ", ".join(str(known) for name, known in self._addresses if name == replica) or "none"
            raise StackError(f"{replica} has no known port {port} (known: {known}); add it to `expose`")
        return self._addresses[replica, port]

    def reaches(self, replica: str, port: int, *, seen_from: str = OUTSIDE, timeout_s: float = 0.3) -> bool:
        """Whether a client in that place gets an answer from the replica's port now."""
        if seen_from == OUTSIDE:
            return answers(self.address(replica, port), timeout_s)
        return call_through(self._gates[seen_from], self.address(replica, port, seen_from=seen_from), timeout_s) == "answered"

    def connect(self, replica: str, port: int, *, seen_from: str, timeout_s: float) -> socket.socket:
        """A connection to a replica's port, opened in that place."""
        target = self.address(replica, port, seen_from=seen_from)
        if seen_from == OUTSIDE:
            return socket.create_connection(target, timeout=timeout_s)
        return connect_through(self._gates[seen_from], target, timeout_s)

    def states(self) -> Mapping[str, State]:
        found: dict[str, State] = {replica.name: "absent" for replica in self._topology.replicas}
        for one in self._containers.all():
            before = found.get(one.replica)
            if before is not None and (before == "absent" or _ORDER.index(one.state) < _ORDER.index(before)):
                found[one.replica] = one.state
        return found

    def testimony(self, replicas: Sequence[str]) -> Mapping[str, Life]:
        """By the engine's word: of each container its status, its exit status, and when it started."""
        states, words, starts = self.states(), dict[str, list[str]](), dict[str, list[str]]()
        for one in self._containers.of(self._named(replicas)):
            seen = self._containers.inspect(one.id)["State"]
            alive = bool(seen["Running"])
            how = "" if alive else f", exit status {seen['ExitCode']}"
            words.setdefault(one.replica, []).append(f"{seen['Status']}{how}")
            starts.setdefault(one.replica, []).extend([f"{one.id[:12]}@{seen['StartedAt']}"] if alive else [])
        return {
            name: Life(states[name], "; ".join(words.get(name, ["no container"])), " ".join(starts.get(name, [])) or None)
            for name in replicas
        }

    def watch_asks(self) -> None:
        """Count what gets no answer. Only the WAN knows, so replicas of one place reach each other through it, too."""
        self._watches_asks = True

    def unanswered(self) -> Sequence[Unanswered]:
        """As the WAN saw it; what a replica asks of itself is not seen."""
        return self._asks.take() if self._asks is not None else []

    def trouble(self) -> str | None:
        """Which part of the WAN ended, once it was up. Raises EnvironmentFault when the engine is gone."""
        if self._links is None or self._down:
            return None
        up = {one.replica for one in self._containers.all() if one.state == "running"}
        ended = [name for name in self._equipment if name not in up]
        return f"{', '.join(ended)} ended, which silently healed its faults" if ended else None

    def logs(self, replica: str, lines: int = 20) -> list[str]:
        require_replica(self._topology, replica)
        return self._containers.logs(replica, lines)

    # --- kill and start -------------------------------------------------------------------------------------------

    def kill(self, replicas: Sequence[str]) -> KillReport:
        """SIGKILL everything in these replicas at once. Raises StackError when something survives."""
        self._keep_down(replicas)
        report = self._containers.kill_at_once(self._named(replicas), self._clock)

        def are_dead() -> tuple[bool, list[str]]:
            pids = self._containers.pids(replicas)
            return not pids, sorted(pids)

        wait_until("the engine to report them dead", are_dead, Deadline.after(_DEATHS_S, self._clock), poll_s=0.02)
        return report

    def start(self, replicas: Sequence[str], deadline: Deadline) -> None:
        """Start what is dead of these and wait until all are healthy; health checks run inside each container.

        Dials from the time when they were dead end then: nothing refused them, so they would wait for their next SYN.
        """
        if self._own_disks is not None:
            self._own_disks.bring_back(self._named(replicas))
        self._bring_up(self._named(replicas), deadline)
        if self._restarts is not None:
            self._restarts.release(replicas)
        self._docker_links.redial()

    def restarts(self) -> Sequence[str]:
        """By the restart policies of the Compose file; of what a fault has down nothing is started."""
        return self._restarts.notes() if self._restarts is not None else ()

    def _keep_down(self, replicas: Sequence[str]) -> None:
        """Until they are started, no restart policy holds for these."""
        if self._restarts is not None:
            self._restarts.hold(self._named(replicas))

    def _named(self, replicas: Sequence[str]) -> list[str]:
        """The same names. Raises StackError for one that the stack does not have."""
        return [require_replica(self._topology, name).name for name in replicas]

    # --- freeze, stop, throttle -----------------------------------------------------------------------------------

    def pause(self, replicas: Sequence[str]) -> None:
        """Freeze every process of these replicas."""
        running = [one.id for one in self._containers.of(self._named(replicas)) if one.state == "running"]
        self._containers.at_once(self._containers.pause, running)

    def resume(self, replicas: Sequence[str]) -> None:
        frozen = [one.id for one in self._containers.of(self._named(replicas)) if one.state == "paused"]
        self._containers.at_once(self._containers.resume, frozen)

    def stop(self, replicas: Sequence[str], grace_s: float) -> StopReport:
        """`docker stop`, with the stop signal of each container. A container that ends with status 137 counts as killed."""
        self._keep_down(replicas)
        began_ns = self._clock.now_ns()
        running = [one for one in self._containers.of(self._named(replicas)) if one.state in ("running", "paused")]
        self._containers.at_once(lambda one: self._containers.stop(one.id, grace_s), running)
        took_ms = (self._clock.now_ns() - began_ns) / NS_PER_MS
        killed = (one.replica for one in running if self._containers.inspect(one.id)["State"]["ExitCode"] == _KILLED)
        return StopReport(targets=len(running), took_ms=took_ms, killed=tuple(dict.fromkeys(killed)))

    def execute(self, replica: str, command: Sequence[str], timeout_s: float) -> Ended:
        """`docker exec` in the first running container of a replica. A command that is late is left behind in it."""
        running = [one.id for one in self._containers.of(self._named([replica])) if one.state == "running"]
        if not running:
            raise StackError(f"{replica} is not running: no command can run in it")
        job = in_thread(lambda: self._containers.execute(running[0], command), f"exec in {replica}")
        try:
            return job.result(timeout_s)
        except TimeoutError as late:
            raise StackError(f"{replica}: {' '.join(command)}: no end within {timeout_s:.0f} s") from late

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
        """The quota according to the engine, in processors; 1 where there is none."""
        limits = [self._containers.inspect(one.id)["HostConfig"] for one in self._containers.of(self._named([replica]))]
        return max(
            (one["CpuQuota"] / (one["CpuPeriod"] or _CPU_PERIOD_US) for one in limits if one["CpuQuota"] > 0), default=1.0
        )

    def hold_back(self, replicas: Sequence[str], at_most_s: float) -> None:
        self._boot_shares.hold_back(replicas, CpuShares(self._containers, self._named(replicas)), at_most_s)

    def let_go(self, replicas: Sequence[str]) -> dict[str, Any]:
        return self._boot_shares.let_go(replicas)

    # --- unreachable, without disks -------------------------------------------------------------------------------

    def block(self, replicas: Sequence[str], mode: BlockMode, *, except_flows: Collection[Flow] = ()) -> None:
        self._docker_links.block(replicas, mode, except_flows=except_flows)

    def unblock(self, replicas: Sequence[str]) -> None:
        self._docker_links.unblock(replicas)

    def destroy_disks(self, replicas: Sequence[str]) -> None:
        """Lose the volumes of these replicas, which must be dead; they start with empty ones.

        Copies of the user's single files stay. Raises StackError when a volume is not this run's own, or when another replica
        uses it.
        """
        kept = self._own_disks.names if self._own_disks is not None else ()
        disks.destroy(self._containers, self._named(replicas), self._data, kept)
        if self._own_disks is not None:
            self._own_disks.renew(replicas)
        self._creating.run("create", "--no-build", *replicas, deadline=Deadline.after(30.0, self._clock))
        self._write_members()

    @classmethod
    def why_no_cut(cls) -> str | None:
        return own_disks.why_no_cut()

    def ready_to_cut(self, replicas: Collection[str]) -> None:
        """Each of their volumes is a file system in a file of a volume of the run."""
        self._cuttable = frozenset(self._named(list(replicas)))

    def cut_disks(self, replicas: Sequence[str]) -> CutReport:
        if self._own_disks is None:
            raise StackError(f"the power of {', '.join(replicas)} cannot be cut: that has to be requested before the boot")
        return self._own_disks.cut(self._named(replicas))

    # --- beside the replicas --------------------------------------------------------------------------------------

    @property
    def members(self) -> Path:
        return self._data / "members.json"

    def _write_members(self) -> None:
        """Write the site of each container, or "harness", for the watch of the machine."""
        sites = {replica.name: replica.site for replica in self._topology.replicas}
        owners = {one.id: sites.get(one.replica, HARNESS) for one in self._containers.all()}
        self.members.write_text(json.dumps(owners))

    def host_control(self, deadline: Deadline) -> Control:
        """A container of the project, which runs since `up`."""
        ports = self._containers.published(CONTROL)
        address = self._must_be_published(ports, CONTROL_PORT, CONTROL)
        wait_until("the control", lambda: (answers(address, 0.3), address), deadline)
        return Control(address, "a container of the project, on a volume of the engine")


def project_name(stack: str, run_id: str) -> str:
    """A name that Compose takes, and that no other run has."""
    return f"chaoslab-{re.sub(r'[^a-z0-9_-]', '', stack.lower())[:_STACK_NAME_MAX]}-{run_id.lower()}"
