"""The input of the sampler's process: a plan, then the control's address, as lines of JSON on its standard input. Pure."""

from __future__ import annotations

import msgspec


class MachinePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to sample, from the start on.

    `history`: where rows go. `run_id`: the mark of the run's processes. `harness`: the pid of the harness, whose descendants
    without a mark are its own. `sites`: the stack's. `outside`: names of the replicas in no site. `late_s`: above this an
    answer of the control is late. `members`: a file with the owner of each container by its id, or process by `pid@start`.
    """

    history: str
    run_id: str
    harness: int
    sites: list[str]
    outside: list[str]
    late_s: float
    members: str | None = None


class ControlAt(msgspec.Struct, frozen=True):
    """Where the control answers; sent once it does."""

    url: str
