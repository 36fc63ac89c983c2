"""The row of one second: the sample, how long the control kept its caller waiting, and whether that was too long."""

from __future__ import annotations

from typing import Any, Protocol

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Machine
from chaoslab.judge.starvation import FSYNC, READ, SLEEP, TICK

PERIOD_S = 1.0
TICK_LATE_S = 1.0


class SamplerLike(Protocol):
    """What happened to the machine since the last call, as fields of a row."""

    def next(self) -> dict[str, Any]: ...


class ControlProbeLike(Protocol):
    """The control's longest waits (ms) since the last call, by name, and why it did not answer, where it did not."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def longest_waits(self, now_ns: int) -> tuple[dict[str, float | None], list[str]]: ...


class MachineRows:
    """Makes the row of each second."""

    def __init__(self, sampler: SamplerLike, late_s: float, now_ns: int) -> None:
        """`late_s`: above this an answer of the control is late."""
        self._sampler = sampler
        self._late_s = late_s
        self._begin_ns = now_ns
        self._control: ControlProbeLike | None = None

    def use_control(self, control: ControlProbeLike) -> None:
        """Probe this control from now on, and no other."""
        self.stop()
        self._control = control
        control.start()

    def stop(self) -> None:
        """Stop probing the control. Idempotent."""
        if self._control is not None:
            self._control.stop()

    def next_row(self, now_ns: int) -> Machine:
        """The row from the last one to now (monotonic). A second is starved when something was late in it."""
        begin_ns, self._begin_ns = self._begin_ns, now_ns
        seen = self._sampler.next()
        waits_ms, failures = self._control.longest_waits(now_ns) if self._control else ({}, [])
        late: dict[str, str] = {}  # what was late, and in words how late
        if slept_s := seen.get("slept_s", 0.0):
            late[SLEEP] = f"the machine was suspended for {slept_s:.1f} s"
        if (still_s := (now_ns - begin_ns) / NS_PER_S - PERIOD_S) > TICK_LATE_S:
            late[TICK] = f"the whole machine stalled for {still_s:.1f} s"
        for name in (READ, FSYNC):
            wait_s = (waits_ms.get(name) or 0.0) / 1000
            if wait_s > self._late_s:
                late[name] = f"the control's {name} was {wait_s:.2f} s late (limit {self._late_s:.2f} s)"
        why = "; ".join([*late.values(), *failures])
        return Machine(t_ns=now_ns, begin_ns=begin_ns, control_ms=waits_ms, starved=bool(late), late=[*late], why=why, **seen)
