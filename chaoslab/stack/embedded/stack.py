"""The embedded runtime: the services of a Compose file as processes of this machine, the links between sites as a relay.

A replica is one process and all that it starts, the leader of a session of its own. Its environment carries the run, its site
and its name; children inherit that mark, by which all of it is found again to be frozen or killed. What the mark of a first
process was is also written down: programs that show a title, such as Redis, write it over their environment.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaoslab import process
from chaoslab.clock import NS_PER_MS, SYSTEM, Clock, Deadline, wait_until
from chaoslab.errors import EnvironmentFault, LinkError, NotHealthy, NotReady, StackError
from chaoslab.files import log_tail
from chaoslab.kill import kill
from chaoslab.spec.stackfile.compose import ComposeFile
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Address, Flow, Topology
from chaoslab.stack.boot_share import HELD_NICENESS, BootShares, ProcessMeans, Sessions, process_means
from chaoslab.stack.embedded import disks
from chaoslab.stack.embedded.ends import Processes, status_of
from chaoslab.stack.embedded.health import Check, wait_healthy
from chaoslab.stack.embedded.launch import Launch, Launcher, jobs_of, policies_in, start_order, stop_signal
from chaoslab.stack.embedded.relay_links import RelayLinks
from chaoslab.stack.embedded.throttle import Throttles, running_share
from chaoslab.stack.embedded.wiring import Wiring
from chaoslab.stack.ports import LOOPBACK, PortBlock
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
from chaoslab.stack.reach import REPLICA_VARIABLE, RUN_VARIABLE, SITE_VARIABLE, answers, require_replica, roster_in
from chaoslab.stack.restarts import Restarts

_KILL_TIMEOUT_S = 5.0
_STOP_POLL_S = 0.02


class EmbeddedStack:
    """A stack of processes on the loopback. See `protocol.Stack`, whose order the methods have."""

    def __init__(self, compose: ComposeFile, run_id: str, data: Path, logs: Path, clock: Clock = SYSTEM) -> None:
        self._compose = compose
        self._topology = compose.topology()
        self._run_id = run_id
        self._data = data
        self._logs = logs
        self._clock = clock
        self._ports = PortBlock()
        self._wiring = Wiring(self._topology, self._ports.take)
        self._launcher = Launcher(compose, run_id, data, self._wiring)
        self._launches: dict[str, Launch] = {}
        self._disks = disks.Disks(data, self._launcher.own_environment("disks"), clock)
        self._cuttable: frozenset[str] = frozenset()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._must_end, self._may_end = jobs_of(compose)
        self._policies = policies_in(compose)
        self._restarts = Restarts(Processes(self._children, self._start_again, clock), self._policies, clock)
        self._boot_shares: BootShares[ProcessMeans] = BootShares()
        self._roster = roster_in(data)
        env = self._launcher.own_environment("throttle")
        self._throttles = Throttles(env, REPLICA_VARIABLE, self._roster, logs / "throttle.log")
        self._relay: subprocess.Popen[bytes] | None = None
        self._control: subprocess.Popen[bytes] | None = None
        self._watches_asks = False
        self._links: RelayLinks | None = None
        self._wiring_lock = threading.Lock()
        self._connected: set[str] = set()  # proxies and routers that the relay has
        self._owners: dict[str, str] = {}  # sites of the processes that were started, for the watch of the machine
        self._vacant: set[str] = set()  # places without a living process, as the relay knows them
        self._down = False
        self._starting = threading.Lock()  # `down` and the start of a process exclude each other

    @property
    def topology(self) -> Topology:
        return self._topology

    @property
    def links(self) -> Links:
        return self._relay_links

    @property
    def _relay_links(self) -> RelayLinks:
        if self._links is None:
            raise StackError("the links of this stack are not up yet")
        return self._links

    # --- up and down ------------------------------------------------------------------------------------------

    def relay_within_site(self, services: Collection[str]) -> None:
        """Have these services reached through the relay from within their own site too. Call it before `up`."""
        self._wiring.relayed |= frozenset(services)

    def watch_asks(self) -> None:
        """Count what gets no answer. Only the relay knows, so everything goes through it. Call it before `up`."""
        self._watches_asks = True
        self.relay_within_site([replica.service for replica in self._topology.replicas])

    def unanswered(self) -> Sequence[Unanswered]:
        """As the relay counted it; of replicas of the same service beside each other it knows nothing."""
        ends = {proxy.name: (proxy.replica, proxy.port) for proxy in self._wiring.proxies}
        ends |= {router.name: (router.replica, router.port) for router in self._wiring.routers}
        return [Unanswered(one.client, *ends[one.proxy], one.how, one.times) for one in self._relay_links.asks()]

    def up(self, deadline: Deadline, on_progress: OnProgress) -> None:
        """Start everything and wait until it is healthy. Raises NotReady with the last log lines of what is not."""
        if self._links is None:
            with self._starting:
                self._check_wanted()
                self._disks.make(self._volumes(self._cuttable))
            for replica in self._topology.replicas:
                self._launches[replica.name] = self._launcher.launch(replica)
                for port in replica.ports:
                    self._wiring.seen_from(OUTSIDE, replica.name, port)
            self._start_relay(deadline)
        on_progress(f"relay carries {len(self._wiring.proxies)} links")
        for group in start_order(self._topology.replicas):
            self._check_wanted()
            on_progress(f"starting {', '.join(group)}")
            self.start(group, deadline)
        self._may_end &= {name for name, state in self.states().items() if state == "dead"}  # another that ends was ended
        self._restarts.begin()

    def _start_relay(self, deadline: Deadline) -> None:
        api = Address(LOOPBACK, self._ports.take())
        command = [sys.executable, "-m", "chaoslab.stack.relay", "--api", str(api), "--run", self._run_id]
        command += ["--watch-asks"] if self._watches_asks else []
        with self._starting:
            self._check_wanted()
            env = self._launcher.own_environment("relay")
            relay = self._relay = process.spawn(command, log=self._log("relay"), env=env)
        links = RelayLinks(str(api))

        def is_up() -> tuple[bool, str]:
            self._check_wanted()
            if relay.poll() is not None:
                raise EnvironmentFault(f"the relay ended with status {relay.returncode}:\n{self._quoted_log('relay')}")
            try:
                return True, links.epoch()
            except LinkError as silent:
                return False, str(silent)

        wait_until("the relay", is_up, deadline, poll_s=0.02, explain=lambda: self._quoted_log("relay"))
        self._connect(links)
        self._links = links

    def _check_wanted(self) -> None:
        if self._down:
            raise StackError("the stack was taken down while it was starting")

    def _connect(self, links: RelayLinks) -> None:
        """Create in the relay every proxy and router that was asked for since the last time."""
        for proxy in self._wiring.proxies:
            if proxy.name not in self._connected:
                links.add_proxy(proxy.name, proxy.flow, proxy.listen, proxy.upstream, proxy.replica)
                self._connected.add(proxy.name)
        for router in self._wiring.routers:
            if router.name not in self._connected:
                links.add_router(router.name, listen=router.listen, upstream=router.upstream, routes=router.routes)
                self._connected.add(router.name)

    def down(self) -> list[str]:
        """Kill every process that carries the run's mark; what survives is returned in words."""
        self._restarts.end()
        with self._starting:
            self._down = True
        deadline = Deadline.after(_KILL_TIMEOUT_S, self._clock)
        left: list[str] = []
        while pids := [found.pid for found in process.marked(RUN_VARIABLE, self._run_id, self._roster)]:
            kill(pids, Deadline.after(1.0, self._clock))
            if deadline.passed:
                left = [f"process {pid}" for pid in pids]
                break
        else:
            self._throttles.lift_all()
            for child in filter(None, (*self._children.values(), self._relay, self._control)):
                child.wait()
        left += self._disks.release()
        self._ports.release()
        return left

    # --- where replicas are, and how they are ---------------------------------------------------------------------

    def address(self, replica: str, port: int, *, seen_from: str = OUTSIDE) -> Address:
        require_replica(self._topology, replica)
        with self._wiring_lock:  # several threads ask at once, and a link must be created once
            address = self._wiring.seen_from(seen_from, replica, port)
            if self._links is not None:
                self._connect(self._links)
        return address

    def reaches(self, replica: str, port: int, *, seen_from: str = OUTSIDE, timeout_s: float = 0.3) -> bool:
        return answers(self.address(replica, port, seen_from=seen_from), timeout_s)

    def connect(self, replica: str, port: int, *, seen_from: str, timeout_s: float) -> socket.socket:
        return socket.create_connection(self.address(replica, port, seen_from=seen_from), timeout=timeout_s)

    def states(self) -> Mapping[str, State]:
        return {replica.name: self._state(replica.name) for replica in self._topology.replicas}

    def _state(self, name: str) -> State:
        child = self._children.get(name)
        if child is None:
            return "absent"
        if process.is_dead(child):
            return "dead"
        return "paused" if process.is_stopped(child.pid) else "running"

    def testimony(self, replicas: Sequence[str]) -> Mapping[str, Life]:
        """By the kernel's word."""
        found = {}
        for name in replicas:
            child = self._children.get(require_replica(self._topology, name).name)
            word, began = ("never started", None) if child is None else process.life_of(child)
            found[name] = Life(self._state(name), word, began)
        return found

    def trouble(self) -> str | None:
        if self._relay is None or self._relay.poll() is None:
            return self._throttles.trouble()
        status = self._relay.returncode
        return f"the relay ended unexpectedly with status {status}, and took down every link:\n{self._quoted_log('relay')}"

    def logs(self, replica: str, lines: int = 20) -> list[str]:
        return log_tail(self._log(replica), lines)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _quoted_log(self, name: str) -> str:
        return "\n".join(f"  | {line}" for line in self.logs(name))

    # --- kill and start -------------------------------------------------------------------------------------------

    def kill(self, replicas: Sequence[str]) -> KillReport:
        """SIGKILL every process of these replicas at once, then again all that were forked meanwhile."""
        self._restarts.hold(replicas)
        killed = kill(self._pids(replicas), Deadline.after(_KILL_TIMEOUT_S, self._clock))
        while late := self._pids(replicas):
            again = kill(late, Deadline.after(_KILL_TIMEOUT_S, self._clock))
            if not again.deaths_ns:
                raise StackError(f"processes {late} of {', '.join(replicas)} survived SIGKILL")
            killed = killed.and_then(again)
        with self._starting:
            self._update_vacant()
        return KillReport(len(killed.deaths_ns), killed.skew_ms, means="pids", signals_ms=killed.signals_ms)

    def _pids(self, replicas: Iterable[str]) -> list[int]:
        wanted = {f"{self._run_id}/{name}" for name in replicas}
        found = process.tagged(REPLICA_VARIABLE, f"{self._run_id}/", self._roster)
        return [pid for pid, mark in found.items() if mark in wanted]

    def start(self, replicas: Sequence[str], deadline: Deadline) -> None:
        dark = [name for name in replicas if self._state(name) in ("dead", "absent") and not self._is_done(name)]
        if dark:
            with self._starting:
                self._check_wanted()
                self._disks.bring_back(self._volumes(dark))
        for name in dark:
            self._spawn(name)
        try:
            wait_healthy({name: self._check(name) for name in replicas}, deadline, self.logs)
        except NotReady:
            self._check_wanted()
            raise
        self._restarts.release(replicas)

    def restarts(self) -> Sequence[str]:
        """By the restart policies of the Compose file; of what a fault has down nothing is started."""
        return self._restarts.notes()

    def _is_done(self, name: str) -> bool:
        """Whether a job has ended as it should."""
        child = self._children.get(name)
        return child is not None and child.poll() == 0 and name in self._must_end | self._may_end

    def _start_again(self, name: str) -> None:
        """Start a replica whose first process has ended; what is left of it ends first, as in a container."""
        kill(self._pids([name]), Deadline.after(_KILL_TIMEOUT_S, self._clock))
        self._spawn(name)

    def _spawn(self, name: str) -> None:
        launch = self._launches[name]
        with self._starting:
            self._check_wanted()
            if self._state(name) not in ("dead", "absent"):
                return  # another thread has started it meanwhile
            self._update_vacant(starting_in=self._topology.replica(name).site)
            means = self._boot_shares.means_of(name)
            child = process.spawn(
                launch.command,
                log=self._log(name),
                env=launch.env,
                cwd=launch.cwd,
                session_niceness=HELD_NICENESS if isinstance(means, Sessions) else None,
            )
            try:
                marks = {key: launch.env[key] for key in (RUN_VARIABLE, SITE_VARIABLE, REPLICA_VARIABLE)}
                process.remember(child.pid, marks, self._roster)
            except EnvironmentFault:
                process.end_group(child, grace_s=0)
                raise
            self._children[name] = child
            self._owners[f"{child.pid}@{process.began(child.pid) or 0:.0f}"] = launch.env[SITE_VARIABLE]
            with contextlib.suppress(OSError):  # a full disk; the watch then takes it for the harness's
                self.members.write_text(json.dumps(self._owners))
            if means is not None:
                means.adopt(child.pid)

    def _update_vacant(self, starting_in: str | None = None) -> None:
        """Report to the relay the places in which every replica is dead and none is about to start."""
        states = self.states()
        living = {replica.site for replica in self._topology.replicas if states[replica.name] != "dead"}
        vacant = {place for place in self._topology.places if place not in {*living, OUTSIDE, starting_in}}
        if vacant != self._vacant:
            self._relay_links.vacate(vacant)
            self._vacant = vacant

    def _check(self, name: str) -> Check:
        """The check raises NotHealthy for a replica that ended while it was started, and has no restart policy for that."""
        replica = self._topology.replica(name)

        def check() -> str | None:
            child = self._children[name]
            status = child.poll()
            if self._down or (status is not None and self._is_done(name)):
                return None
            if status is not None:
                ended = f"{name} exited with status {status} before it was healthy"
                if (policy := self._policies.get(name)) is None or not policy.covers(status_of(child), 0):
                    raise NotHealthy(f"{ended}\n{self._quoted_log(name)}")
                self._start_again(name)
                return f"{ended}, and its restart policy started it again"
            if name in self._must_end:
                return "it has not ended yet"
            if replica.healthcheck is None:
                return None
            launch = self._launches[name]
            command = self._launcher.command(replica, replica.healthcheck.test, launch.env)
            try:
                done = process.run(command, timeout_s=replica.healthcheck.timeout_s, env=launch.env, cwd=launch.cwd)
            except EnvironmentFault as failed:
                return str(failed)
            output = (done.stderr or done.stdout).strip().splitlines()
            return None if done.returncode == 0 else f"health check failed: {output[-1] if output else done.returncode}"

        return check

    # --- freeze, stop, throttle -----------------------------------------------------------------------------------

    def pause(self, replicas: Sequence[str]) -> None:
        """Freeze every process of these. A signal takes effect a moment later, which is waited for."""
        process.send(self._pids(replicas), signal.SIGSTOP)

        def is_frozen() -> tuple[bool, list[str]]:
            running = [name for name in replicas if self._state(name) == "running"]
            return not running, running

        wait_until(f"{', '.join(replicas)} to freeze", is_frozen, Deadline.after(_KILL_TIMEOUT_S, self._clock), poll_s=0.01)

    def resume(self, replicas: Sequence[str]) -> None:
        process.send(self._pids(replicas), signal.SIGCONT)

    def stop(self, replicas: Sequence[str], grace_s: float) -> StopReport:
        """Send each replica's own process its `stop_signal`; kill what is left once that has ended or the grace is over.

        So does Docker: a container lives as long as its first process.
        """
        began_ns, grace = self._clock.now_ns(), Deadline.after(grace_s, self._clock)
        running = [name for name in replicas if self._state(name) in ("running", "paused")]
        for name in running:
            process.send([self._children[name].pid], stop_signal(self._compose.services[name]))
        late = running
        while (late := [name for name in late if self._children[name].poll() is None]) and not grace.passed:
            self._clock.sleep(_STOP_POLL_S)
        took_ms = (self._clock.now_ns() - began_ns) / NS_PER_MS
        self.kill(running)
        return StopReport(targets=len(running), took_ms=took_ms, killed=tuple(late))

    def throttle(self, replicas: Sequence[str], share: float) -> None:
        for name in replicas:
            self._throttles.set(f"{self._run_id}/{name}", share)

    def unthrottle(self, replicas: Sequence[str]) -> None:
        self.resume([name for name in replicas if self._throttles.lift(f"{self._run_id}/{name}")])

    def observed_share(self, replica: str) -> float:
        """The share of a second for which the replica's own process is seen unfrozen."""
        return running_share(self._children[replica].pid)

    def hold_back(self, replicas: Sequence[str], at_most_s: float) -> None:
        self._boot_shares.hold_back(replicas, process_means(lambda: self._pids(replicas)), at_most_s)

    def let_go(self, replicas: Sequence[str]) -> dict[str, Any]:
        return self._boot_shares.let_go(replicas)

    # --- unreachable, without disks -------------------------------------------------------------------------------

    def block(self, replicas: Sequence[str], mode: BlockMode, *, except_flows: Collection[Flow] = ()) -> None:
        self._relay_links.block(replicas, mode, except_flows=except_flows)

    def unblock(self, replicas: Sequence[str]) -> None:
        self._relay_links.unblock(replicas)

    def volume(self, replica: str, target: str) -> Path:
        """The folder that stands for a volume of a replica. Raises StackError when it has no such volume."""
        volumes = self._launcher.volumes(replica)
        if target not in volumes:
            raise StackError(f"{replica} has no volume at {target}")
        return volumes[target]

    def destroy_disks(self, replicas: Sequence[str]) -> None:
        """Remove what is on the volumes of these replicas; the folders stay, empty. Raises StackError for one that runs."""
        self._require_dead(replicas, "the disks of {} cannot be destroyed while they run")
        self._disks.bring_back(self._volumes(replicas))
        for name in replicas:
            for folder in self._launcher.volumes(name).values():
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # it stays: a file system may be mounted there
                for entry in folder.iterdir():
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry, ignore_errors=True)
                    else:
                        entry.unlink()
            self._launches[name] = self._launcher.launch(require_replica(self._topology, name))

    @classmethod
    def why_no_cut(cls) -> str | None:
        return disks.why_no_cut()

    def ready_to_cut(self, replicas: Collection[str]) -> None:
        """Each of their volumes is a file system in a file of the run's folder."""
        self._cuttable = frozenset(require_replica(self._topology, name).name for name in replicas)

    def cut_disks(self, replicas: Sequence[str]) -> CutReport:
        self._require_dead(replicas, "the power of the disks of {} cannot be cut while they run")
        return self._disks.cut(self._volumes(replicas))

    def _volumes(self, replicas: Iterable[str]) -> list[Path]:
        """The folders of their volumes, each once."""
        return list(dict.fromkeys(folder for name in replicas for folder in self._launcher.volumes(name).values()))

    def _require_dead(self, replicas: Iterable[str], otherwise: str) -> None:
        if alive := [name for name in replicas if self._state(name) in ("running", "paused")]:
            raise StackError(otherwise.format(", ".join(alive)))

    # --- in a replica ---------------------------------------------------------------------------------------------

    def execute(self, replica: str, command: Sequence[str], timeout_s: float) -> Ended:
        """A process beside the replica, with its environment, its working folder, and its program for `python`."""
        found, state = require_replica(self._topology, replica), self._state(replica)
        if state != "running":
            raise StackError(f"{replica} is {state}: no command can run in it")
        launch = self._launches[replica]
        try:
            words = self._launcher.command(found, command, launch.env)
            done = process.run(words, timeout_s=timeout_s, env=launch.env, cwd=launch.cwd)
        except EnvironmentFault as failed:
            raise StackError(f"{replica}: {failed}") from failed
        return Ended(done.returncode, done.stdout, done.stderr)

    # --- beside the replicas --------------------------------------------------------------------------------------

    @property
    def members(self) -> Path:
        return self._data / ".members.json"

    def host_control(self, deadline: Deadline) -> Control:
        """A process that writes beside the volumes of the replicas."""
        address = Address(LOOPBACK, self._ports.take())
        command = [sys.executable, "-m", "chaoslab.machine.control", LOOPBACK, str(address.port), str(self._data / "control")]
        with self._starting:
            self._check_wanted()
            self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
            env = self._launcher.own_environment("control")
            self._control = process.spawn(command, log=self._log("control"), env=env)
        wait_until("the control", lambda: (answers(address, 0.3), self.logs("control", 5)), deadline, poll_s=0.02)
        return Control(address, "a process, on the file system of the stack's volumes")
