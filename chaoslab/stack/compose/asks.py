"""Who connects to whom and gets no answer, as the WAN sees it: what Toxiproxy could not connect, and SYNs behind a fence."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from chaoslab.background import in_thread
from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import ChaoslabError
from chaoslab.stack.compose.wan import Wan
from chaoslab.stack.protocol import Unanswered

SYNS = Path(__file__).parent / "wan_image" / "syns.py"
_NOT_CONNECTED = "Unable to open connection to upstream"
_LOOK_UP_EVERY_S = 1.0

Edge = tuple[str, str, int, Literal["refused", "silent"]]


class Containers(Protocol):
    """What is asked of the engine, by the names of containers in the project."""

    def follow_logs(self, name: str) -> Iterable[str]:
        """The lines that it logs from now on."""

    def follow(self, name: str, command: Sequence[str]) -> Iterable[str]:
        """The lines that a command writes in it, until it ends."""

    def addresses(self) -> Mapping[str, str]:
        """The replica of each address of the run's networks."""


class _Line(msgspec.Struct):
    """A line of Toxiproxy's log."""

    message: str = ""
    client: str = ""
    name: str = ""


class WanAsks:
    """Follows each direction of the WAN from `begin` on, in threads that end with its containers.

    `held`: whether a direction is fenced now; only then does a SYN without an answer count as failed.
    """

    def __init__(self, containers: Containers, wans: Sequence[Wan], held: Callable[[Wan], bool], clock: Clock = SYSTEM) -> None:
        self._containers = containers
        self._wans = wans
        self._held = held
        self._clock = clock
        self._counts: Counter[Edge] = Counter()
        self._replicas: Mapping[str, str] = {}
        self._look_up_again = Deadline.after(0.0, clock)
        self._lock = threading.Lock()

    def begin(self) -> None:
        for wan in self._wans:
            in_thread(partial(self._read_log, wan), f"asks in the log of {wan.name}")
            in_thread(partial(self._read_syns, wan), f"asks of {wan.name}")

    def _read_log(self, wan: Wan) -> None:
        with contextlib.suppress(ChaoslabError):  # it is gone; where it ended by itself, others say so
            for line in self._containers.follow_logs(wan.name):
                self.see_log(wan, line)

    def _read_syns(self, wan: Wan) -> None:
        with contextlib.suppress(ChaoslabError):
            for line in self._containers.follow(wan.name, ["python3", "-u", "-c", SYNS.read_text()]):
                self.see_syn(wan, line)

    def take(self) -> list[Unanswered]:
        """What was counted since the last call."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return [Unanswered(*edge, times) for edge, times in sorted(counts.items())]

    def see_log(self, wan: Wan, text: str) -> None:
        """A line of Toxiproxy: of a client whose upstream could not be connected."""
        try:
            line = msgspec.json.decode(text, type=_Line)
        except msgspec.MsgspecError:
            return
        proxy = next((one for one in wan.proxies if one.name == line.name), None)
        if line.message == _NOT_CONNECTED and proxy is not None:
            self._count(line.client.rpartition(":")[0].strip("[]"), proxy.replica, proxy.port, "refused")

    def see_syn(self, wan: Wan, text: str) -> None:
        """`source port destination port` of a SYN that arrived at the WAN."""
        source, _, target, port = text.split()
        listens = (f"{target}:{port}", f"[::]:{port}")
        proxy = next((one for listen in listens for one in wan.proxies if one.listen == listen), None)
        if proxy is not None and self._held(wan):
            self._count(source, proxy.replica, proxy.port, "silent")

    def _count(self, address: str, target: str, port: int, how: Literal["refused", "silent"]) -> None:
        """Only what replicas ask: the harness itself has its gates."""
        address = address.removeprefix("::ffff:")
        with self._lock:
            if self._look_up_again.passed:  # containers that were started again may have each other's addresses
                self._replicas = self._containers.addresses()
                self._look_up_again = Deadline.after(_LOOK_UP_EVERY_S, self._clock)
            if (client := self._replicas.get(address)) is not None:
                self._counts[client, target, port, how] += 1
