"""A stack in memory that keeps the Stack contract, for tests that need no process: see tests/stack/test_stack_contract.py."""

from __future__ import annotations

import socket
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from chaoslab.clock import Deadline
from chaoslab.errors import LinkError, NotHealthy, StackError
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Address, Flow, Topology
from chaoslab.stack.holds import Holds
from chaoslab.stack.protocol import BlockMode, CutReport, Degradation, Ended, KillReport, Life, OnProgress, State, StopReport
from chaoslab.stack.reach import require_replica

Outcome = Literal["answered", "silent", "refused", "ended"]
_FIRST_PORT = 20_000


@dataclass(eq=False)
class FakeLine:
    """An established connection from a place to a replica."""

    stack: FakeStack
    place: str
    replica: str
    life: int  # of the replica, when the connection was made
    over: bool = False

    def hear(self) -> Outcome:
        """What is heard after something was said."""
        self.settle()
        return "ended" if self.over else self.stack.outcome(self.place, self.replica)

    def settle(self) -> None:
        """An end is seen once nothing holds it back, and is for good."""
        outcome = self.stack.outcome(self.place, self.replica)
        if outcome != "silent" and (outcome != "answered" or self.life != self.stack.lives[self.replica]):
            self.over = True


@dataclass
class FakeLinks:
    """The links of a fake stack."""

    stack: FakeStack
    held: set[Flow] = field(default_factory=set)
    holds: Holds = field(default_factory=Holds)
    refused: set[Flow] = field(default_factory=set)
    resetting: set[Flow] = field(default_factory=set)
    slow: dict[Flow, Degradation] = field(default_factory=dict)

    def fence(self, flows: Sequence[Flow], holder: str) -> None:
        self.holds.take(flows, holder)
        self.held |= set(flows)

    def lift(self, flows: Sequence[Flow], holder: str) -> Mapping[str, int]:
        self.held -= self.holds.release(flows, holder)
        self.stack.settle()
        return {}

    def fenced(self) -> frozenset[Flow]:
        return frozenset(self.held)

    def refuse(self, flows: Sequence[Flow]) -> None:
        self.refused |= set(flows)
        self.stack.settle()

    def reset(self, flows: Sequence[Flow]) -> None:
        self.resetting |= set(flows)

    def degrade(self, flows: Sequence[Flow], how: Degradation) -> None:
        self.slow |= dict.fromkeys(flows, how)

    def restore(self, flows: Sequence[Flow]) -> None:
        self.refused -= set(flows)
        self.resetting -= set(flows)
        for flow in flows:
            self.slow.pop(flow, None)

    def disturbances(self) -> list[str]:
        closed = [*(f"the link {flow} is cut" for flow in self.held), *(f"the link {flow} is closed" for flow in self.refused)]
        toxic = [f"the link {flow} has a toxic" for flow in (*self.resetting, *self.slow)]
        return [*closed, *toxic, *(f"{name} is blocked" for name in self.stack.bars)]

    def epoch(self) -> str:
        if self.stack.trouble():
            raise LinkError("the relay does not answer")
        return str(self.stack.relay_life)


class FakeStack:
    """Every replica is a state, every link a few sets of flows. `deaf`: replicas that do not end when they are asked to."""

    def __init__(self, topology: Topology, deaf: Collection[str] = ()) -> None:
        self.topology = topology
        self.links = FakeLinks(self)
        self.lives = dict.fromkeys((replica.name for replica in topology.replicas), 0)
        self.disks: dict[str, set[str]] = {name: set() for name in self.lives}
        self.files: dict[str, dict[str, str]] = {name: {} for name in self.lives}  # as they are read
        self.synced: dict[str, dict[str, str]] = {name: {} for name in self.lives}  # as they are on the disk
        self.cuttable: frozenset[str] = frozenset()
        self.relay_life = 0
        self.relay_runs = True
        self._deaf = frozenset(deaf)
        self._states: dict[str, State] = dict.fromkeys(self.lives, "absent")
        self._shares: dict[str, float] = {}
        self.bars: dict[str, tuple[BlockMode, frozenset[Flow]]] = {}
        self._addresses: dict[tuple[str, int, str], Address] = {}
        self._lines: list[FakeLine] = []
        self._served: list[socket.socket] = []  # the servers' ends of connections
        self._lock = threading.Lock()

    # --- what the contract asks

    def up(self, deadline: Deadline, on_progress: OnProgress) -> None:
        self.start(list(self.lives), deadline)

    def down(self) -> list[str]:
        self._states = dict.fromkeys(self.lives, "absent")
        self._addresses.clear()
        while self._served:
            self._served.pop().close()
        return []

    def address(self, replica: str, port: int, *, seen_from: str = OUTSIDE) -> Address:
        require_replica(self.topology, replica)
        with self._lock:
            return self._addresses.setdefault(
                (replica, port, seen_from), Address("127.0.0.1", _FIRST_PORT + len(self._addresses))
            )

    def reaches(self, replica: str, port: int, *, seen_from: str = OUTSIDE, timeout_s: float = 0.3) -> bool:
        self.address(replica, port, seen_from=seen_from)
        there, back = self._ways(seen_from, replica)
        delay_ms = sum(self.links.slow[flow].latency_ms for flow in (there, back) if flow in self.links.slow)
        return self.outcome(seen_from, replica) == "answered" and delay_ms < timeout_s * 1000

    def connect(self, replica: str, port: int, *, seen_from: str, timeout_s: float) -> socket.socket:
        """To a server that says nothing but that all is well."""
        outcome = self.outcome(seen_from, require_replica(self.topology, replica).name)
        if outcome != "answered":
            raise ConnectionRefusedError(replica) if outcome == "refused" else TimeoutError(replica)
        here, there = socket.socketpair()
        there.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
        self._served.append(there)
        here.settimeout(timeout_s)
        return here

    def states(self) -> Mapping[str, State]:
        return dict(self._states)

    def testimony(self, replicas: Sequence[str]) -> Mapping[str, Life]:
        alive = ("running", "paused")
        return {
            name: Life(self._states[name], self._states[name], str(self.lives[name]) if self._states[name] in alive else None)
            for name in replicas
        }

    def trouble(self) -> str | None:
        return None if self.relay_runs else "the relay ended by itself"

    def logs(self, replica: str, lines: int = 20) -> list[str]:
        return []

    def kill(self, replicas: Sequence[str]) -> KillReport:
        alive = [name for name in self._named(replicas) if self._states[name] in ("running", "paused")]
        self._set(alive, "dead")
        return KillReport(len(alive), 0.0, means="pids")

    def start(self, replicas: Sequence[str], deadline: Deadline) -> None:
        names = self._named(replicas)
        if late := [name for name in names if self._states[name] != "running"] if deadline.passed else []:
            raise NotHealthy(f"not healthy after {deadline.timeout_s:.1f} s: {', '.join(late)}")
        for name in names:
            if self._states[name] in ("dead", "absent"):
                self.lives[name] += 1
                self._states[name] = "running"
        self.settle()

    def pause(self, replicas: Sequence[str]) -> None:
        self._set([name for name in self._named(replicas) if self._states[name] == "running"], "paused")

    def resume(self, replicas: Sequence[str]) -> None:
        self._set([name for name in self._named(replicas) if self._states[name] == "paused"], "running")

    def stop(self, replicas: Sequence[str], grace_s: float) -> StopReport:
        alive = [name for name in self._named(replicas) if self._states[name] in ("running", "paused")]
        deaf = tuple(name for name in alive if name in self._deaf or self._states[name] == "paused")
        self._set(alive, "dead")
        return StopReport(len(alive), grace_s * 1000 if deaf else 0.0, deaf)

    def execute(self, replica: str, command: Sequence[str], timeout_s: float) -> Ended:
        """It knows two programs."""
        if self.states()[require_replica(self.topology, replica).name] != "running":
            raise StackError(f"{replica} is not running")
        return Ended(0, " ".join(command[1:]) + "\n") if command[0] == "echo" else Ended(1, "", "it failed")

    def throttle(self, replicas: Sequence[str], share: float) -> None:
        self._shares |= dict.fromkeys(self._named(replicas), share)

    def unthrottle(self, replicas: Sequence[str]) -> None:
        for name in self._named(replicas):
            self._shares.pop(name, None)

    def observed_share(self, replica: str) -> float:
        return self._shares.get(replica, 1.0)

    def block(self, replicas: Sequence[str], mode: BlockMode, *, except_flows: Collection[Flow] = ()) -> None:
        self.bars |= dict.fromkeys(self._named(replicas), (mode, frozenset(except_flows)))
        self.settle()

    def unblock(self, replicas: Sequence[str]) -> None:
        for name in self._named(replicas):
            self.bars.pop(name, None)

    def destroy_disks(self, replicas: Sequence[str]) -> None:
        if alive := [name for name in self._named(replicas) if self._states[name] in ("running", "paused")]:
            raise StackError(f"the disks of {', '.join(alive)} cannot be destroyed while they run")
        for name in replicas:
            self.disks[name].clear()

    @classmethod
    def why_no_cut(cls) -> str | None:
        return None

    def ready_to_cut(self, replicas: Collection[str]) -> None:
        """All of its disks can be cut, whatever was requested."""
        self.cuttable = frozenset(replicas)

    def cut_disks(self, replicas: Sequence[str]) -> CutReport:
        if alive := [name for name in self._named(replicas) if self._states[name] in ("running", "paused")]:
            raise StackError(f"the power of the disks of {', '.join(alive)} cannot be cut while they run")
        for name in replicas:
            self.files[name] = dict(self.synced[name])
        return CutReport(tuple(replicas), 0.0)

    def write(self, replica: str, file: str, text: str, synced: bool) -> None:
        """Append to a file of a replica."""
        self.files[replica][file] = self.files[replica].get(file, "") + text
        if synced:
            self.synced[replica][file] = self.files[replica][file]

    # --- what happens to connections

    def dial(self, place: str, replica: str) -> FakeLine:
        """Open a connection. Raises what a socket would."""
        outcome = self.outcome(place, replica)
        if outcome == "refused":
            raise ConnectionRefusedError(replica)
        if outcome == "silent" and self._ways(place, replica)[0] in self.links.held:
            raise TimeoutError(replica)
        self._lines.append(FakeLine(self, place, replica, self.lives[replica]))
        return self._lines[-1]

    def outcome(self, place: str, replica: str) -> Outcome:
        """What somebody in that place gets who speaks to a replica now."""
        there, back = self._ways(place, replica)
        mode, spared = self.bars.get(replica, (None, frozenset()))
        barred = mode if there not in spared and there != back else None
        if {there, back} & self.links.held or barred == "silent":
            return "silent"
        if there in self.links.refused or barred == "refuse" or self._states[replica] in ("dead", "absent"):
            return "refused"
        if there in self.links.resetting:
            return "ended"
        return "silent" if self._states[replica] == "paused" else "answered"

    def settle(self) -> None:
        """Let every connection see what became of it; one that a reset threatens lives on until it speaks."""
        for line in self._lines:
            if self._ways(line.place, line.replica)[0] not in self.links.resetting:
                line.settle()

    def _ways(self, place: str, replica: str) -> tuple[Flow, Flow]:
        site = self.topology.replica(replica).site
        return Flow(place, site), Flow(site, place)

    def _named(self, replicas: Sequence[str]) -> list[str]:
        return [require_replica(self.topology, name).name for name in replicas]

    def _set(self, names: Sequence[str], state: State) -> None:
        self._states |= dict.fromkeys(names, state)
        self.settle()
