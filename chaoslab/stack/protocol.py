"""What the engine and the faults require of a runtime: small methods; optional abilities are separate protocols.

Nothing here assumes one host: ask for addresses, never build them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from chaoslab.clock import Deadline
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Address, Flow, Topology

State = Literal["running", "paused", "dead", "absent"]
BlockMode = Literal["refuse", "silent"]
OnProgress = Callable[[str], None]  # one line of progress for people


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
        """The part of a fault's row about it."""
        signals = {} if self.signals_ms is None else {"signals_ms": self.signals_ms}
        return {"skew_ms": self.skew_ms, **signals, "killed": self.targets, "means": self.means}


@dataclass(frozen=True)
class StopReport:
    """How a graceful stop went. `killed`: the replicas that did not end within the grace."""

    targets: int
    took_ms: float
    killed: tuple[str, ...] = ()

    def detail(self) -> dict[str, Any]:
        """The part of a fault's row about it."""
        return {"stopped": self.targets, "took_ms": self.took_ms, "had_to_be_killed": list(self.killed)}


@dataclass(frozen=True)
class Degradation:
    """What a link suffers, one way."""

    latency_ms: int = 0
    jitter_ms: int = 0
    bandwidth_kbps: int | None = None
    loss: float = 0.0


class Links(Protocol):
    """The links between places. Each method is idempotent and verified by reading back."""

    def fence(self, flows: Sequence[Flow], holder: str) -> None:
        """Hold everything that travels these ways, FIN, RST and SYN included, atomically: new connections hang in connect."""

    def lift(self, flows: Sequence[Flow], holder: str) -> Mapping[str, int]:
        """Stop holding these ways, but for those that another holder has fenced, too.

        Connections that are still alive resume. New ones never wait behind a dial that hangs.

        Returns, by proxy, how many connects the fence that ended could not hold: they succeeded, and then hung.
        """

    def fenced(self) -> frozenset[Flow]:
        """What is held now, read back from whatever enforces it."""

    def refuse(self, flows: Sequence[Flow]) -> None:
        """Close the links whose connections are opened this way: established ones end with FIN, new ones are refused."""

    def reset(self, flows: Sequence[Flow]) -> None:
        """Reset established and new connections that are opened this way."""

    def degrade(self, flows: Sequence[Flow], how: Degradation) -> None:
        """Apply latency, jitter, bandwidth and loss to what travels this way."""

    def restore(self, flows: Sequence[Flow]) -> None:
        """Undo refuse, reset and degrade for these flows."""

    def disturbances(self) -> list[str]:
        """What is held, refused, reset, degraded or blocked now, each in words, read back; nothing on untouched links."""

    def epoch(self) -> str:
        """Changes when a relay or Toxiproxy restarted, which silently heals every fault."""


class Stack(Protocol):
    """A stack brought up by a runtime. `up` and `down` are idempotent; `down` never raises for what is gone already."""

    @property
    def topology(self) -> Topology: ...

    @property
    def links(self) -> Links: ...

    def up(self, deadline: Deadline, on_progress: OnProgress) -> None:
        """Start everything and wait until it is healthy. Raises NotReady with the last log lines of what is not."""

    def down(self) -> list[str]:
        """End everything that was started; what could not be ended is returned in words. The run's folder is left alone."""

    def address(self, replica: str, port: int, *, seen_from: str = OUTSIDE) -> Address:
        """Where a replica's port is reached from a place; across sites that is the proxy of the link."""

    def reaches(self, replica: str, port: int, *, seen_from: str = OUTSIDE, timeout_s: float = 0.3) -> bool:
        """Whether a client in that place gets an answer from the replica's port now: connect, send a request, read a byte."""

    def states(self) -> Mapping[str, State]:
        """The state of every replica, observed now from outside the replica."""

    def trouble(self) -> str | None:
        """Why no fault can be relied on any more, such as a relay that died; None while all is well. Cheap.

        Raises EnvironmentFault when the runtime itself is gone.
        """

    def logs(self, replica: str, lines: int = 20) -> list[str]: ...

    def kill(self, replicas: Sequence[str]) -> KillReport:
        """SIGKILL everything in these replicas at once. Raises StackError when something survives."""

    def start(self, replicas: Sequence[str], deadline: Deadline) -> None:
        """Start what is dead of these and wait until all are healthy *inside* their site (through no link).

        Raises NotHealthy, naming those that are not. Calling it again only waits.
        """

    def pause(self, replicas: Sequence[str]) -> None: ...

    def resume(self, replicas: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Life:
    """What the engine or the kernel says of a replica. `began`: which process or container runs, since when; None for none."""

    state: State
    word: str
    began: str | None = None


@runtime_checkable
class CanTestify(Protocol):
    """A runtime that knows of replicas that nobody can ask, such as workers without a port."""

    def testimony(self, replicas: Sequence[str]) -> Mapping[str, Life]:
        """The life of each of these now, by replica."""


@runtime_checkable
class CanPrepare(Protocol):
    """A runtime that needs things before a boot which take a time of their own, such as images that are built."""

    def prepare(self, deadline: Deadline, on_progress: OnProgress) -> None:
        """Have them; `up` does so too, where nobody did. Raises EnvironmentFault where one cannot be had."""


@runtime_checkable
class CanRestart(Protocol):
    """A runtime that starts replicas again which ended by themselves, as their restart policies say."""

    def restarts(self) -> Sequence[str]:
        """What was started again since the last call, each as a sentence. Never waits."""


@runtime_checkable
class CanConnect(Protocol):
    """A runtime in which the harness itself can be a client in any place, also in one that is cut off."""

    def connect(self, replica: str, port: int, *, seen_from: str, timeout_s: float) -> socket.socket:
        """A connection to a replica's port, opened in that place. Raises OSError; StackError where there is no such port."""


@dataclass(frozen=True)
class Unanswered:
    """Connections of one replica to a port of another that got no answer: refused, or silence."""

    client: str
    target: str
    port: int
    how: Literal["refused", "silent"]
    times: int


@runtime_checkable
class CanTellAsks(Protocol):
    """A runtime that knows which connections between replicas failed, if that is requested before `up`."""

    def watch_asks(self) -> None:
        """From now on count what gets no answer."""

    def unanswered(self) -> Sequence[Unanswered]:
        """What got no answer since the last call. Raises LinkError when nobody can be asked."""


@runtime_checkable
class CanDestroyDisks(Protocol):
    """A runtime that can lose the volumes of a replica."""

    def destroy_disks(self, replicas: Sequence[str]) -> None:
        """Lose all that is on them: they start with empty ones. Raises StackError, and loses nothing, while one runs."""


@dataclass(frozen=True)
class CutReport:
    """How the power of volumes was cut. `volumes`: their names; `took_ms`: from the first cut to the last."""

    volumes: tuple[str, ...]
    took_ms: float

    def detail(self) -> dict[str, Any]:
        """The part of a fault's row about it."""
        return {"volumes_cut": list(self.volumes), "cut_ms": self.took_ms}


@runtime_checkable
class CanCutDisks(Protocol):
    """A runtime that can cut the power of volumes: what was synced is kept, what was not is lost.

    It has to be requested before `up`, since each of these volumes is then a file system of its own.
    """

    @classmethod
    def why_no_cut(cls) -> str | None:
        """Why this machine does not allow that, in words; None where nothing is known against it. Changes nothing."""

    def ready_to_cut(self, replicas: Collection[str]) -> None:
        """Have a file system of its own for each volume of these replicas. Call it before `up`."""

    def cut_disks(self, replicas: Sequence[str]) -> CutReport:
        """Lose what was written to the volumes of these replicas and never synced. `start` makes the volumes usable again.

        Raises StackError, and loses nothing, while one runs; and where a volume is not a file system of its own.
        """


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and what it wrote to its standard output; `said`: to its standard error."""

    status: int
    output: str
    said: str = ""


@runtime_checkable
class CanExecute(Protocol):
    """A runtime that can run a command where a replica runs."""

    def execute(self, replica: str, command: Sequence[str], timeout_s: float) -> Ended:
        """Run an argument list to its end, as the replica's own programs run. Raises StackError when it cannot, or is late."""


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
        """Let these have the processor all the time again. Idempotent."""

    def observed_share(self, replica: str) -> float:
        """The share that a replica has now, observed from outside it; 1 when nothing limits it."""


@runtime_checkable
class CanHoldBack(Protocol):
    """A runtime that can keep the boot of replicas from taking the processors of the others. Neither method fails."""

    def hold_back(self, replicas: Sequence[str], at_most_s: float) -> None:
        """Give these replicas, which are about to start, a small share of the processors, for this long at most."""

    def let_go(self, replicas: Sequence[str]) -> dict[str, Any]:
        """Give them back the share that they had; returns what was used, for the report. Idempotent."""


@runtime_checkable
class CanBlock(Protocol):
    """A runtime that can make single replicas unreachable from other places."""

    def block(self, replicas: Sequence[str], mode: BlockMode, *, except_flows: Collection[Flow] = ()) -> None:
        """Block all that leads to these replicas, except what travels `except_flows`.

        refuse: connections end, new ones are refused; silent: connections are accepted and never answered.
        """

    def unblock(self, replicas: Sequence[str]) -> None:
        """Make them reachable again. Idempotent."""


@dataclass(frozen=True)
class Control:
    """An idle server at the stack's priority, in no site. `where`: in words, what it is and on what it writes."""

    address: Address
    where: str


@runtime_checkable
class CanBeWatched(Protocol):
    """A runtime that has a control, and shows which site the processes of its replicas belong to."""

    @property
    def members(self) -> Path | None:
        """The file with the owner of each container by its id, or of processes by `pid@start` where they may hide their site.

        An owner is a site, or "harness"; `start` is in ticks since the machine started. None where no such file is needed.
        """

    def host_control(self, deadline: Deadline) -> Control:
        """Start the control and wait until it answers; once, after `up`. Raises NotReady or StackError when it does not."""


@runtime_checkable
class CanBlockWithinSite(Protocol):
    """A runtime that can also block connections within a site, when that is requested before `up`."""

    def relay_within_site(self, services: Collection[str]) -> None:
        """From now on these services are reached through the relay from within their own site too."""
