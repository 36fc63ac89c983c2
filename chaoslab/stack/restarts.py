"""Restart policies while a stack runs, as Docker would keep them, except for what a fault has down.

No engine keeps them here: it would undo a kill. The ends of replicas are followed, and what a policy covers is started again
after a delay that doubles each time, up to a minute, as Docker does it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from chaoslab.background import in_thread
from chaoslab.clock import NS_PER_S, SYSTEM, Clock
from chaoslab.errors import ChaoslabError

_FIRST_DELAY_S, _DELAY_MAX_S = 0.1, 60.0
_STEADY_S = 10.0  # what has run for so long begins again with the first delay


@dataclass(frozen=True)
class Death:
    """A part of a replica ended, with an exit status: one of its containers, or its process."""

    replica: str
    part: str
    status: int


class Deaths(Protocol):
    """The deaths of parts of replicas as they happen; iterating ends after `close`."""

    def __iter__(self) -> Iterator[Death]: ...

    def close(self) -> None: ...


class Parts(Protocol):
    """What can follow the deaths of its parts, and start one again without waiting until it is healthy."""

    def deaths(self) -> Deaths: ...

    def start(self, part: str, /) -> None: ...


@dataclass(frozen=True)
class Policy:
    """When what ended is started again. `at_most`: so many times in a row; None for any number."""

    after_success: bool
    at_most: int | None = None

    def covers(self, status: int, done: int) -> bool:
        """Whether it starts again what ended with a status, and was started again `done` times."""
        return (self.after_success or status != 0) and (self.at_most is None or done < self.at_most)


def policies_of(services: Mapping[str, Mapping[str, Any]]) -> dict[str, Policy]:
    """The policy of each service that has one: of `restart`, or else of `deploy.restart_policy`."""
    found = {}
    for name, service in services.items():
        deployed = (service.get("deploy") or {}).get("restart_policy") or {}
        kind, _, most = str(service.get("restart") or "").partition(":")
        if not kind and deployed:
            kind, most = str(deployed.get("condition") or "any"), str(deployed.get("max_attempts") or "")
        if kind in ("always", "unless-stopped", "any"):
            found[name] = Policy(after_success=True, at_most=int(most) if most.isdigit() else None)
        elif kind == "on-failure":
            found[name] = Policy(after_success=False, at_most=int(most) if most.isdigit() else None)
    return found


@dataclass
class _Record:
    """Of one part: how often it was started again in a row, and when last."""

    times: int = 0
    at_ns: int = 0


@dataclass
class Restarts:
    """Follows the deaths of a run's replicas from `begin` to `end`. `notes`: what was started again, in words."""

    parts: Parts
    policies: Mapping[str, Policy]
    clock: Clock = SYSTEM
    _held: set[str] = field(default_factory=set)
    _records: dict[str, _Record] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _deaths: Deaths | None = None
    _ended: bool = False

    def begin(self) -> None:
        """Follow deaths from now on, in a thread; once."""
        if self._deaths is None and self.policies:
            self._deaths = self.parts.deaths()
            in_thread(partial(self._follow, self._deaths), "restart policies")

    def end(self) -> None:
        """Start nothing any more."""
        with self._lock:
            self._ended = True
        if self._deaths is not None:
            with contextlib.suppress(Exception):  # the engine may be gone
                self._deaths.close()

    def hold(self, replicas: Iterable[str]) -> None:
        """Leave these down from now on: a fault is about to end them."""
        with self._lock:
            self._held |= set(replicas)

    def release(self, replicas: Iterable[str]) -> None:
        with self._lock:
            self._held -= set(replicas)

    def notes(self) -> list[str]:
        """What was started again since the last call, each as a sentence."""
        with self._lock:
            notes, self._notes = self._notes, []
        return notes

    def _follow(self, deaths: Deaths) -> None:
        for death in deaths:
            if death.replica in self.policies and death.replica not in self._held and not self._ended:
                in_thread(partial(self.died, death), f"restart of {death.replica}")

    def died(self, death: Death) -> None:
        """Start again what ended by itself, where its policy says so. Waits for the delay."""
        record = self._records.setdefault(death.part, _Record())
        if (self.clock.now_ns() - record.at_ns) / NS_PER_S >= _STEADY_S:
            record.times = 0
        if not self.policies[death.replica].covers(death.status, record.times):
            return
        self.clock.sleep(min(_FIRST_DELAY_S * 2**record.times, _DELAY_MAX_S))
        with self._lock:  # so that a fault that holds it comes either before the start, or after it and ends it
            if self._ended or death.replica in self._held:
                return
            how = f"{death.replica} ended by itself with status {death.status}"
            try:
                self.parts.start(death.part)
            except ChaoslabError as failed:
                self._notes.append(f"{how}, and its restart policy could not start it again: {failed}")
                return
            record.times, record.at_ns = record.times + 1, self.clock.now_ns()
            again = f" (for the {record.times}th time in a row)" if record.times > 3 else ""
            self._notes.append(f"{how}, and its restart policy started it again{again}")
