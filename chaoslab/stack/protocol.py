"""What the engine and the faults ask of a runtime: small verbs; abilities that not every runtime has are separate.

Nothing here assumes one host: ask for addresses, never build them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from chaoslab.clock import Deadline
from chaoslab.spec.model import OUTSIDE
from chaoslab.stack.topology import Address, Flow, Topology

State = Literal["running", "paused", "dead", "absent"]
CutMode = Literal["silent", "refuse", "reset"]
BarMode = Literal["refuse", "silent"]
Tell = Callable[[str], None]  # one line of progress for people


@dataclass(frozen=True)
class KillReport:
    """How a kill went. `means`: pids, or the engine's API.

    `skew_ms`: from the first death seen to the last. `signals_ms`, where it is known: from the first SIGKILL to the last; a
    process that has one pending runs no instruction of its own any more, though its memory is still being released.
    """

    targets: int
    skew_ms: float
    means: str
    signals_ms: float | None = None

    def detail(self) -> dict[str, Any]:
        """What a fault's row says of it."""
        signals = {} if self.signals_ms is None else {"signals_ms": self.signals_ms}
        return {"skew_ms": self.skew_ms, **signals, "killed": self.targets, "means": self.means}


@dataclass(frozen=True)
class StopReport:
    """How a graceful stop went. `killed`: the replicas that did not end by themselves in time."""

    targets: int
    took_ms: float
    killed: tuple[str, ...] = ()

    def detail(self) -> dict[str, Any]:
        """What a fault's row says of it."""
        return {"stopped": self.targets, "took_ms": self.took_ms, "had_to_be_killed": list(self.killed)}


@dataclass(frozen=True)
class Degradation:
    """What a link suffers, one way."""

    latency_ms: int = 0
    jitter_ms: int = 0
    bandwidth_kbps: int | None = None
    loss: float = 0.0


class Links(Protocol):
    """The links between places. Each verb is idempotent and verified by reading back."""

    def fence(self, flows: Sequence[Flow]) -> None:
        """Hold everything that travels these ways, FIN, RST and SYN included, atomically: new connections hang in connect."""

    def lift(self, flows: Sequence[Flow]) -> Mapping[str, int]:
        """Let these ways go again; what is still alive resumes. Proxies whose upstream was unreachable are recycled.

        Returns, by link's end, how many connects the fence that ended could not hide: they succeeded, and then hung.
        """

    def fenced(self) -> frozenset[Flow]:
        """What is held now, read back from whatever enforces it."""

    def refuse(self, flows: Sequence[Flow]) -> None:
        """Close the links whose connections are opened this way: established end with FIN, new ones are refused."""

    def reset(self, flows: Sequence[Flow]) -> None:
        """Reset established and new connections that are opened this way."""

    def degrade(self, flows: Sequence[Flow], how: Degradation) -> None:
        """Apply latency, jitter, bandwidth and loss to what travels this way."""

    def restore(self, flows: Sequence[Flow]) -> None:
        """Undo refuse, reset and degrade for these flows."""

    def epoch(self) -> str:
        """Changes when a relay or Toxiproxy restarted, which silently heals every fault."""


class Stack(Protocol):
    """A stack brought up by a runtime. `up` and `down` are idempotent; `down` never raises for what is gone already."""

    @property
    def topology(self) -> Topology: ...

    @property
    def links(self) -> Links: ...

    def up(self, deadline: Deadline, tell: Tell) -> None:
        """Start everything and wait until it is healthy. Raises NotReady with the last log lines of what is not."""

    def down(self) -> list[str]:
        """End everything that was started; what could not be is returned in words. The run's folder is for whoever made it."""

    def address(self, replica: str, port: int, *, seen_from: str = OUTSIDE) -> Address:
        """Where a replica's port is reached from a place; across sites that is the link's end."""

    def reaches(self, replica: str, port: int, *, seen_from: str = OUTSIDE, timeout_s: float = 0.3) -> bool:
        """Whether a caller in that place is answered by the replica's port now: connect, say something, read a byte."""

    def states(self) -> Mapping[str, State]:
        """The state of every replica, observed now from outside the replica."""

    def trouble(self) -> str | None:
        """Why no fault can be told to hold any more, such as a relay that died; None while all is well. Cheap.

        Raises EnvironmentFault when the runtime itself is gone.
        """

    def logs(self, replica: str, lines: int = 20) -> list[str]: ...

    def kill(self, replicas: Sequence[str]) -> KillReport:
        """SIGKILL everything in these replicas at once. Raises StackError when something survives."""

    def start(self, replicas: Sequence[str], deadline: Deadline) -> None:
        """Start what is dead of these and wait until all are healthy *inside* their site (through no link).

        Raises NotReady, naming those that are not. Calling it again only waits.
        """

    def pause(self, replicas: Sequence[str]) -> None: ...

    def resume(self, replicas: Sequence[str]) -> None: ...


@runtime_checkable
class CanDestroyDisks(Protocol):
    """A runtime that can lose the volumes of a replica."""

    def destroy_disks(self, replicas: Sequence[str]) -> None:
        """Lose all that is on them; who starts next finds them empty. Raises StackError, and loses nothing, while one runs."""


@runtime_checkable
class CanStop(Protocol):
    """A runtime that can ask a replica to end."""

    def stop(self, replicas: Sequence[str], grace_s: float) -> StopReport:
        """Ask all of these to end, wait, and kill what has not ended within the grace. Raises StackError when one survives."""


@runtime_checkable
class CanThrottle(Protocol):
    """A runtime that can keep replicas from the processor."""

    def throttle(self, replicas: Sequence[str], share: float) -> None:
        """Let these have the processor for this share (0 to 1) of the time; it replaces an earlier share."""

    def unthrottle(self, replicas: Sequence[str]) -> None:
        """Let these have all of it again. Idempotent."""

    def observed_share(self, replica: str) -> float:
        """The share that a replica has now, looked at from outside it; 1 when nothing limits it."""


@runtime_checkable
class CanHoldBack(Protocol):
    """A runtime that can keep the boot of replicas from taking the processors of the others. Neither verb fails."""

    def hold_back(self, replicas: Sequence[str], at_most_s: float) -> None:
        """From now on these, which are about to start, have a small share of the processors, for this long at most."""

    def let_go(self, replicas: Sequence[str]) -> dict[str, Any]:
        """Give them back what they had; returns what was used, for the report. Idempotent."""


@runtime_checkable
class CanBar(Protocol):
    """A runtime that can make replicas unreachable for callers in other places, one by one."""

    def bar(self, replicas: Sequence[str], mode: BarMode, *, spare: Collection[Flow] = ()) -> None:
        """Bar every link's end that leads to these, but for these flows.

        refuse: closed and refused; silent: taken and never answered.
        """

    def unbar(self, replicas: Sequence[str]) -> None:
        """Open them again. Idempotent."""


@dataclass(frozen=True)
class Control:
    """An idle server at the stack's priority, in no site. `where`: in words, what it is and on what it writes."""

    address: Address
    where: str


@runtime_checkable
class CanBeWatched(Protocol):
    """A runtime that has a control, and tells whose the processes of its replicas are."""

    @property
    def members(self) -> Path | None:
        """The file with the site of each container, or "harness", by its id; None where processes tell by themselves."""

    def host_control(self, deadline: Deadline) -> Control:
        """Have the control at work; once, after `up`. Raises NotReady or StackError when it does not answer."""


@runtime_checkable
class CanBarNeighbours(Protocol):
    """A runtime that can also bar callers in the same place, when it is told before `up`."""

    def relay_neighbours(self, services: Collection[str]) -> None:
        """Callers of these services reach them through the relay, from their own place too."""
