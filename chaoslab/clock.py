"""The only module that reads time or sleeps.

All instants are monotonic nanoseconds, comparable between processes of one machine. Tests pass a FakeClock
to everything that waits; a test sleeps for real only when it uses a real server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from chaoslab.errors import NotReady

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
T = TypeVar("T")


class Clock(Protocol):
    """Where now comes from, and how to wait."""

    def now_ns(self) -> int: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class FakeClock:
    """A clock that moves only by `sleep`."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        self._now_ns += round(max(0.0, seconds) * NS_PER_S)


SYSTEM = SystemClock()


def since_boot_ns() -> int | None:
    """As the monotonic clock, but it goes on while the machine sleeps; None where there is no such clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else None


def utc_now() -> datetime:
    """Wall-clock time, for anchors and names of folders; never for measuring."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Deadline:
    """An instant after which waiting for something is over. `at_ns` is monotonic."""

    at_ns: int
    timeout_s: float
    clock: Clock

    @classmethod
    def after(cls, timeout_s: float, clock: Clock = SYSTEM) -> Deadline:
        return cls(clock.now_ns() + round(timeout_s * NS_PER_S), timeout_s, clock)

    @property
    def left_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, (self.at_ns - self.clock.now_ns()) / NS_PER_S)

    @property
    def passed(self) -> bool:
        return self.left_s <= 0.0


def wait_until(
    what: str,
    observe: Callable[[], tuple[bool, T]],
    deadline: Deadline,
    *,
    poll_s: float = 0.1,
    explain: Callable[[], str] | None = None,
) -> T:
    """Poll `observe` until its first value is true; its second is the last observation, which the error shows.

    Raises NotReady with what was awaited, how long, the last observation and `explain()` (say, the last log lines).
    """
    while True:
        done, last = observe()
        if done:
            return last
        if deadline.passed:
            tail = f"\n{explain()}" if explain else ""
            raise NotReady(f"waited {deadline.timeout_s:.1f} s for {what}; last seen: {last}{tail}")
        deadline.clock.sleep(min(poll_s, deadline.left_s))
