"""The row of one second: what the sampler saw, how long the control kept its caller waiting, and whether that was too long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from chaoslab.clock import NS_PER_S
from chaoslab.events import Machine
from chaoslab.starvation import FSYNC, READ, SLEEP, TICK

PERIOD_S = 1.0
TICK_LATE_S = 1.0
NOTHING = "the control has not been asked yet"


class Looks(Protocol):
    """What happened to the machine since the last call, as fields of a row."""

    def next(self) -> dict[str, Any]: ...


class Asks(Protocol):
    """The control's longest waits since the last call, and what went wrong besides."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def until(self, now_ns: int) -> tuple[dict[str, float | None], list[str]]: ...


class Rows:
    """Makes a row from each look. `late_s`: from when on an answer of the control is late."""

    def __init__(self, sampler: Looks, late_s: float, now_ns: int) -> None:
        self._sampler = sampler
        self._late_s = late_s
        self._begin_ns = now_ns
        self._control: Asks | None = None

    def ask(self, control: Asks) -> None:
        """From now on this control is asked."""
        self.stop()
        self._control = control
        control.start()

    def stop(self) -> None:
        if self._control is not None:
            self._control.stop()

    def next(self, now_ns: int) -> Machine:
        """The row from the last one to now."""
        begin_ns, self._begin_ns = self._begin_ns, now_ns
        seen = self._sampler.next()
        waits, refused = self._control.until(now_ns) if self._control else ({}, [])
        still_s = (now_ns - begin_ns) / NS_PER_S - PERIOD_S
        late = dict(_late(waits, self._late_s, still_s, seen.get("slept_s", 0.0)))
        why = "; ".join([*late.values(), *refused])
        return Machine(t_ns=now_ns, begin_ns=begin_ns, control_ms=waits, starved=bool(late), late=[*late], why=why, **seen)


def _late(waits: Mapping[str, float | None], late_s: float, still_s: float, slept_s: float) -> Iterator[tuple[str, str]]:
    """What was late, and in words how late."""
    if slept_s:
        yield SLEEP, f"the machine slept for {slept_s:.1f} s"
    if still_s > TICK_LATE_S:
        yield TICK, f"everything stood still for {still_s:.1f} s"
    for name in (READ, FSYNC):
        waited_ms = waits.get(name)
        if waited_ms is not None and waited_ms > late_s * 1000:
            yield name, f"the control's {name} was {waited_ms / 1000:.2f} s late (limit {late_s:.2f} s)"
