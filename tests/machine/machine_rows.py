"""Rows of a machine, made by hand: second `n` ends at `n` seconds."""

from __future__ import annotations

from typing import Any

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Machine

QUIET_BUSY = {"east": 0.3, "west": 0.3, "outside": 0.1, "load": 0.1, "harness": 0.1, "others": 0.05, "stolen": 0.0}
QUIET_WRITES = {"east": 0.5, "west": 0.5, "harness": 0.1, "others": 0.1}
IN_TIME = {"read": 2.0, "fsync": 9.0}


def second(n: float, *, lasts_s: float = 1.0, late: tuple[str, ...] = (), **fields: Any) -> Machine:
    """One row; without more words a quiet one. `busy` and `writes_mb` change what they name."""
    fields["busy"] = QUIET_BUSY | fields.get("busy", {})
    fields["writes_mb"] = QUIET_WRITES | fields.get("writes_mb", {})
    fields["control_ms"] = IN_TIME | fields.get("control_ms", {})
    end_ns = round(n * NS_PER_S)
    begin_ns = end_ns - round(lasts_s * NS_PER_S)
    return Machine(t_ns=end_ns, begin_ns=begin_ns, starved=bool(late), late=list(late), **fields)


def seconds(begin: int, end: int, **fields: Any) -> list[Machine]:
    """Rows of all seconds from `begin` to `end`."""
    return [second(n, **fields) for n in range(begin + 1, end + 1)]
