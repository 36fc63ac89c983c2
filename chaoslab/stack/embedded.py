"""The embedded runtime: the services of a Compose file as processes of this machine, the links between sites as a relay.

A replica is one process (and whatever it starts), the leader of a session of its own, marked in its environment with the
run, its site and its name; that mark, which children inherit, is how all of it is found again to freeze or kill.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chaoslab import process
from chaoslab.clock import SYSTEM, Clock, Deadline, wait_until
from chaoslab.errors import EnvironmentFault, LinkError, NotHealthy, NotReady, StackError
from chaoslab.kill import kill
from chaoslab.links.relay_links import RelayLinks
from chaoslab.spec.compose import ComposeFile
from chaoslab.spec.model import OUTSIDE
from chaoslab.stack.boot_share import HELD_NICENESS, Holds, ProcessMeans, Sessions, process_means
from chaoslab.stack.health import Check, wait_healthy
from chaoslab.stack.interpolate import interpolate
from chaoslab.stack.ports import PortBlock
from chaoslab.stack.protocol import BarMode, Control, KillReport, Links, State, StopReport, Tell
from chaoslab.stack.throttle import Throttles, running_share
from chaoslab.stack.topology import Address, Flow, Replica, Topology
from chaoslab.stack.wiring import LOOPBACK, Wiring, require_replica

RUN, SITE, REPLICA = "CHAOSLAB_RUN", "CHAOSLAB_SITE", "CHAOSLAB_REPLICA"
_KILL_TIMEOUT_S = 5.0
_STOP_POLL_S = 0.02
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "DYLD_LIBRARY_PATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Launch:
    """Everything needed to start a replica, or to run its health check."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


class EmbeddedStack:
    """A stack of processes on 127.0.0.1. See `protocol.Stack`."""

    def __init__(self, compose: ComposeFile, run_id: str, data: Path, logs: Path, clock: Clock = SYSTEM) -> None:
        self._compose = compose
        self._topology = compose.topology()
        self._run_id = run_id
        self._data = data
        self._logs = logs
        self._clock = clock
        self._ports = PortBlock()
        self._wiring = Wiring(self._topology, self._ports.take)
        self._launches: dict[str, Launch] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._holds: Holds[ProcessMeans] = Holds()
        self._throttles = Throttles(self._own_environment("throttle"), REPLICA, logs / "throttle.log")
        self._relay: subprocess.Popen[bytes] | None = None
        self._control: subprocess.Popen[bytes] | None = None
        self._links: RelayLinks | None = None
        self._asking = threading.Lock()
        self._connected: set[str] = set()  # proxies and fronts that the relay has
        self._vacant: set[str] = set()  # places, as the relay knows it
        self._down = False
        self._starting = threading.Lock()  # nothing starts behind the back of whoever takes the stack down

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

    def relay_neighbours(self, services: Collection[str]) -> None:
        """Callers of these services reach them through the relay, from their own place too. To be said before `up`."""
        self._wiring.relayed = frozenset(services)

    def up(self, deadline: Deadline, tell: Tell) -> None:
        """Start everything and wait until it is healthy. Raises NotReady with the last log lines of what is not."""
        if self._links is None:
            self._plan()
            self._start_relay(deadline)
        tell(f"relay carries {len(self._wiring.proxies)} links")
        for wave in waves(self._topology.replicas):
            self._check_wanted()
            tell(f"starting {', '.join(wave)}")
            self.start(wave, deadline)

    def _plan(self) -> None:
        """Settle how each replica is started, and where it is reached from outside."""
        for replica in self._topology.replicas:
            self._launches[replica.name] = self._launch_of(replica)
            for port in replica.ports:
                self._wiring.seen_from(OUTSIDE, replica.name, port)

    def down(self) -> list[str]:
        """Kill everything that carries the run's mark. Its data is not needed any more."""
        with self._starting:
            self._down = True
        left = self._end_processes()
        self._ports.release()
        return left

    def _end_processes(self) -> list[str]:
        deadline = Deadline.after(_KILL_TIMEOUT_S, self._clock)
        while pids := [found.pid for found in process.marked(RUN, self._run_id)]:
            kill(pids, Deadline.after(1.0, self._clock))
            if deadline.passed:
                return [f"process {pid}" for pid in pids]
        self._throttles.lift_all()
        for child in filter(None, (*self._children.values(), self._relay, self._control)):
            child.wait()
        return []

    def _check_wanted(self) -> None:
        if self._down:
            raise StackError("the stack was taken down while it was starting")

    def _start_relay(self, deadline: Deadline) -> None:
        api = Address(LOOPBACK, self._ports.take())
        command = [sys.executable, "-m", "chaoslab.links.relay", "--api", str(api), "--run", self._run_id]
        with self._starting:
            self._check_wanted()
            self._relay = process.spawn(command, log=self._logs / "relay.log", env=self._own_environment("relay"))
        links = RelayLinks(str(api))
        wait_until("the relay", lambda: self._relay_answers(links), deadline, poll_s=0.02, explain=self._relay_log)
        self._connect(links)
        self._links = links

    def _own_environment(self, name: str) -> dict[str, str]:
        """Of what the runtime itself starts."""
        return {**_base_environment(), RUN: self._run_id, SITE: OUTSIDE, REPLICA: f"{self._run_id}/{name}"}

    def _relay_answers(self, links: RelayLinks) -> tuple[bool, str]:
        self._check_wanted()
        if self._relay is not None and self._relay.poll() is not None:
            raise EnvironmentFault(f"the relay ended with status {self._relay.returncode}:\n{self._relay_log()}")
        try:
            return True, links.epoch()
        except LinkError as silent:
            return False, str(silent)

    def _relay_log(self) -> str:
        return "\n".join(f"  | {line}" for line in self.logs("relay"))

    def _connect(self, links: RelayLinks) -> None:
        """Tell the relay of every link that was asked for since the last time."""
        for proxy in self._wiring.proxies:
            if proxy.name not in self._connected:
                links.add_proxy(proxy.name, proxy.flow, proxy.listen, proxy.upstream, proxy.replica)
                self._connected.add(proxy.name)
        for front in self._wiring.fronts:
            if front.name not in self._connected:
                links.add_front(front.name, listen=front.listen, upstream=front.upstream, routes=front.routes)
                self._connected.add(front.name)

    @property
    def members(self) -> Path | None:
        return None

    def host_control(self, deadline: Deadline) -> Control:
        """A process that writes beside the volumes of the replicas."""
        address = Address(LOOPBACK, self._ports.take())
        command = [sys.executable, "-m", "chaoslab.machine.control", LOOPBACK, str(address.port), str(self._data / "control")]
        with self._starting:
            self._check_wanted()
            self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
            log, env = self._log("control"), self._own_environment("control")
            self._control = process.spawn(command, log=log, env=env)
        wait_until("the control", lambda: (answers(address, 0.3), self.logs("control", 5)), deadline, poll_s=0.02)
        return Control(address, "a process, on the file system of the stack's volumes")

    # --- one replica ------------------------------------------------------------------------------------------

    def _launch_of(self, replica: Replica) -> Launch:
        raw = self._compose.services[replica.name]
        override = self._topology.spec.processes.get(replica.name)
        environment = {**_as_mapping(raw.get("environment")), **(override.environment if override else {})}
        command = (override and override.command) or [*_as_list(raw.get("entrypoint")), *_as_list(raw.get("command"))]
        if not command:
            raise StackError(
                f"{replica.name}: nothing says how to run it as a process",
                cure=f"give it a `command:`, or x-chaoslab.processes.{replica.name}.command",
            )
        env = {
            **_base_environment(),
            **{key: self._fill(replica, value) for key, value in environment.items() if value is not None},
            RUN: self._run_id,
            SITE: replica.site,
            REPLICA: f"{self._run_id}/{replica.name}",
        }
        words = [self._fill(replica, word) for word in command]
        cwd = (override and override.cwd) or self._cwd(raw)
        return Launch((*_unprivileged(raw), *_program(words, env)), env, cwd)

    def _cwd(self, raw: Mapping[str, object]) -> Path:
        build = raw.get("build")
        context = build.get("context", ".") if isinstance(build, dict) else build or "."
        return (self._compose.project_dir / str(context)).resolve()

    def _fill(self, replica: Replica, text: object) -> str:
        def resolve(default: str) -> str | None:
            return self._wiring.given_to(replica, default) or self._folder(replica, default)

        return interpolate(str(text), resolve, os.environ)

    def _folder(self, replica: Replica, default: str) -> str | None:
        """The run's path for one that lies on a volume of the replica; only the volume itself is made."""
        for source, target in _volumes(self._compose.services[replica.name].get("volumes")):
            if default == target or default.startswith(target.rstrip("/") + "/"):
                (self._data / source).mkdir(parents=True, exist_ok=True, mode=0o700)
                return str(self._data / source / default[len(target) :].lstrip("/"))
        return None

    # --- what the engine and the faults ask -------------------------------------------------------------------

    def address(self, replica: str, port: int, *, seen_from: str = OUTSIDE) -> Address:
        require_replica(self._topology, replica)
        with self._asking:  # witnesses ask all at once, and a link must be made once
            address = self._wiring.seen_from(seen_from, replica, port)
            if self._links is not None:
                self._connect(self._links)
        return address

    def reaches(self, replica: str, port: int, *, seen_from: str = OUTSIDE, timeout_s: float = 0.3) -> bool:
        return answers(self.address(replica, port, seen_from=seen_from), timeout_s)

    def states(self) -> Mapping[str, State]:
        return {replica.name: self._state(replica.name) for replica in self._topology.replicas}

    def _state(self, name: str) -> State:
        child = self._children.get(name)
        if child is None:
            return "absent"
        if process.is_dead(child):
            return "dead"
        return "paused" if process.is_stopped(child.pid) else "running"

    def trouble(self) -> str | None:
        if self._relay is None or self._relay.poll() is None:
            return self._throttles.trouble()
        return f"the relay ended by itself with status {self._relay.returncode}, and every link with it:\n{self._relay_log()}"

    def logs(self, replica: str, lines: int = 20) -> list[str]:
        path = self._log(replica)
        return path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []

    def kill(self, replicas: Sequence[str]) -> KillReport:
        """SIGKILL every process of these replicas at once, then again whatever was being born meanwhile."""
        killed = kill(self._pids(replicas), Deadline.after(_KILL_TIMEOUT_S, self._clock))
        while late := self._pids(replicas):
            again = kill(late, Deadline.after(_KILL_TIMEOUT_S, self._clock))
            if not again.deaths_ns:
                raise StackError(f"processes {late} of {', '.join(replicas)} survive SIGKILL")
            killed = killed.and_then(again)
        with self._starting:
            self._tell_vacant()
        return KillReport(len(killed.deaths_ns), killed.skew_ms, means="pids", signals_ms=killed.signals_ms)

    def stop(self, replicas: Sequence[str], grace_s: float) -> StopReport:
        """Send each replica's own process its `stop_signal`, and kill what is left once that has ended or the grace is over.

        So does Docker: a container lives as long as its first process.
        """
        began_ns, grace = self._clock.now_ns(), Deadline.after(grace_s, self._clock)
        running = [name for name in replicas if self._state(name) in ("running", "paused")]
        for name in running:
            process.send([self._children[name].pid], _stop_signal(self._compose.services[name]))
        late = running
        while (late := [name for name in late if self._children[name].poll() is None]) and not grace.passed:
            self._clock.sleep(_STOP_POLL_S)
        took_ms = (self._clock.now_ns() - began_ns) / 1e6
        self.kill(running)
        return StopReport(targets=len(running), took_ms=took_ms, killed=tuple(late))

    def start(self, replicas: Sequence[str], deadline: Deadline) -> None:
        for name in replicas:
            if self._state(name) in ("dead", "absent"):
                self._spawn(name)
        try:
            wait_healthy({name: self._check(name) for name in replicas}, deadline, self.logs)
        except NotReady:
            self._check_wanted()
            raise

    def pause(self, replicas: Sequence[str]) -> None:
        """Freeze every process of these. A signal takes effect a moment later, which is waited for."""
        process.send(self._pids(replicas), signal.SIGSTOP)
        deadline = Deadline.after(_KILL_TIMEOUT_S, self._clock)
        wait_until(f"{', '.join(replicas)} to freeze", lambda: self._none_runs(replicas), deadline, poll_s=0.01)

    def _none_runs(self, replicas: Sequence[str]) -> tuple[bool, list[str]]:
        running = [name for name in replicas if self._state(name) == "running"]
        return not running, running

    def resume(self, replicas: Sequence[str]) -> None:
        process.send(self._pids(replicas), signal.SIGCONT)

    def throttle(self, replicas: Sequence[str], share: float) -> None:
        for name in replicas:
            self._throttles.set(f"{self._run_id}/{name}", share)

    def unthrottle(self, replicas: Sequence[str]) -> None:
        self.resume([name for name in replicas if self._throttles.lift(f"{self._run_id}/{name}")])

    def observed_share(self, replica: str) -> float:
        """The share of a second for which the replica's own process is seen unfrozen."""
        return running_share(self._children[replica].pid)

    def hold_back(self, replicas: Sequence[str], at_most_s: float) -> None:
        self._holds.hold(replicas, process_means(lambda: self._pids(replicas)), at_most_s)

    def let_go(self, replicas: Sequence[str]) -> dict[str, Any]:
        return self._holds.let_go(replicas)

    def bar(self, replicas: Sequence[str], mode: BarMode, *, spare: Collection[Flow] = ()) -> None:
        self._relay_links.bar(replicas, mode, spare=spare)

    def unbar(self, replicas: Sequence[str]) -> None:
        self._relay_links.unbar(replicas)

    def volume(self, replica: str, target: str) -> Path:
        """The folder that stands for a volume of a replica. Raises StackError when it has no such volume."""
        for source, mounted in _volumes(self._compose.services[replica].get("volumes")):
            if mounted == target:
                return self._data / source
        raise StackError(f"{replica} has no volume at {target}")

    def destroy_disks(self, replicas: Sequence[str]) -> None:
        """Remove what is on the volumes of these replicas; the folders stay, empty. Raises StackError for one that runs."""
        if alive := [name for name in replicas if self._state(name) in ("running", "paused")]:
            raise StackError(f"the disks of {', '.join(alive)} cannot be destroyed while they run")
        for name in replicas:
            for source, _ in _volumes(self._compose.services[name].get("volumes")):
                shutil.rmtree(self._data / source, ignore_errors=True)
                (self._data / source).mkdir(parents=True, mode=0o700)
            self._launches[name] = self._launch_of(require_replica(self._topology, name))

    def _pids(self, replicas: Iterable[str]) -> list[int]:
        wanted = {f"{self._run_id}/{name}" for name in replicas}
        return [pid for pid, mark in process.tagged(REPLICA, f"{self._run_id}/").items() if mark in wanted]

    def _spawn(self, name: str) -> None:
        launch = self._launches[name]
        with self._starting:
            self._check_wanted()
            if self._state(name) not in ("dead", "absent"):
                return  # somebody else starts it at this very moment
            self._tell_vacant(but=self._topology.replica(name).site)
            held = self._holds.means_of(name)
            self._children[name] = process.spawn(
                launch.command,
                log=self._log(name),
                env=launch.env,
                cwd=launch.cwd,
                session_niceness=HELD_NICENESS if isinstance(held, Sessions) else None,
            )
            if held is not None:
                held.adopt(self._children[name].pid)

    def _tell_vacant(self, but: str | None = None) -> None:
        """Tell the relay in which places everybody is dead, and nobody is about to start."""
        states = self.states()
        living = {replica.site for replica in self._topology.replicas if states[replica.name] != "dead"}
        vacant = {place for place in self._topology.places if place not in {*living, OUTSIDE, but}}
        if vacant != self._vacant:
            self._relay_links.vacate(vacant)
            self._vacant = vacant

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _check(self, name: str) -> Check:
        replica = self._topology.replica(name)

        def check() -> str | None:
            child = self._children[name]
            if self._down:
                return None
            if child.poll() is not None:
                tail = "\n".join(f"  | {line}" for line in self.logs(name))
                raise NotHealthy(f"{name} exited with status {child.returncode} instead of getting healthy\n{tail}")
            if replica.healthcheck is None:
                return None
            launch = self._launches[name]
            words = _program([self._fill(replica, word) for word in replica.healthcheck.test], launch.env)
            try:
                done = process.run(words, timeout_s=replica.healthcheck.timeout_s, env=launch.env, cwd=launch.cwd)
            except EnvironmentFault as failed:
                return str(failed)
            said = (done.stderr or done.stdout).strip().splitlines()
            return None if done.returncode == 0 else f"health check said {said[-1] if said else done.returncode}"

        return check


def waves(replicas: Sequence[Replica]) -> list[list[str]]:
    """Replicas in the order of `depends_on`: each wave needs only earlier ones. Raises StackError on a cycle."""
    left = {replica.name: set(replica.depends_on) for replica in replicas}
    ordered: list[list[str]] = []
    while left:
        ready = [name for name, needs in left.items() if not needs & left.keys()]
        if not ready:
            raise StackError(f"depends_on goes in a circle: {', '.join(left)}")
        ordered.append(ready)
        left = {name: needs for name, needs in left.items() if name not in ready}
    return ordered


def answers(address: Address, timeout_s: float) -> bool:
    """Whether something behind an address says a byte when it is spoken to."""
    try:
        with socket.create_connection(address, timeout=timeout_s) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(connection.recv(1))
    except OSError:
        return False


def _base_environment() -> dict[str, str]:
    inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    bin_folder = str(Path(sys.executable).parent)
    return {**inherited, "PATH": f"{bin_folder}:{inherited.get('PATH', os.defpath)}", "PYTHONUNBUFFERED": "1"}


def _program(words: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """The command with its program resolved: `python` is this interpreter, all else is looked up on the PATH."""
    name = words[0]
    found = sys.executable if name in ("python", "python3") else shutil.which(name, path=env["PATH"])
    if found is None:
        raise EnvironmentFault(f"{name} is not on this machine", cure="make setup, or pip install 'chaoslab[two-site]'")
    return (found, *words[1:])


def _unprivileged(raw: Mapping[str, object]) -> tuple[str, ...]:
    """Run as the `user:` of the Compose file, in a user namespace of its own: PostgreSQL refuses to run as root.

    With an IPC namespace beside it, the shared memory that a killed server leaves behind goes when its last process goes.
    Where there are no such namespaces an ordinary user does without; root gets them or the program's own complaint.
    """
    user, _, group = str(raw.get("user", "")).partition(":")
    if user in ("", "0", "root"):
        return ()
    wrapper = ("unshare", "--user", f"--map-user={user}", f"--map-group={group or user}", "--ipc", "--")
    return wrapper if os.geteuid() == 0 or _works(wrapper) else ()


@cache
def _works(wrapper: tuple[str, ...]) -> bool:
    try:
        return process.run([*wrapper, "true"], timeout_s=5.0).returncode == 0
    except EnvironmentFault:
        return False


def _stop_signal(raw: Mapping[str, object]) -> signal.Signals:
    """As Compose has it: SIGUSR1, USR1 or 10; SIGTERM when nothing is said. Raises StackError when there is no such signal."""
    said = str(raw.get("stop_signal") or "SIGTERM")
    try:
        return signal.Signals(int(said)) if said.isdigit() else signal.Signals[f"SIG{said.removeprefix('SIG')}"]
    except (KeyError, ValueError):
        raise StackError(f"stop_signal {said!r} is no signal of this machine") from None


def _as_list(value: object) -> list[str]:
    if value is None:
        return []
    return shlex.split(value) if isinstance(value, str) else [str(word) for word in value]  # type: ignore[attr-defined]


def _as_mapping(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return dict(str(item).partition("=")[::2] for item in value) if isinstance(value, Sequence) else {}


def _volumes(value: object) -> list[tuple[str, str]]:
    """(source, target) of each volume; the source's name is only a folder's name here."""
    entries = value if isinstance(value, list) else []
    pairs = [
        (str(e.get("source", e["target"])), str(e["target"])) if isinstance(e, dict) else [*e.split(":"), e][:2]
        for e in entries
    ]
    return [(source.strip("/.").replace("/", "_"), target) for source, target in pairs]
