"""What a run came to: `result.json`, schema chaoslab/result/v1. Pure data; made by `verdict.py`, written by `store.py`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from chaoslab.spec.model import Verdict

SCHEMA = "chaoslab/result/v1"
ObjectiveVerdict = Literal["pass", "fail", "inconclusive", "error"]


class Interval(msgspec.Struct, frozen=True):
    """Seconds. The truth lies in low..high; `high` None means never recovered while we looked (censored)."""

    low: float
    high: float | None
    objective: float | None = None


class FaultResult(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. `*_s` count from the start of the run; `verified`: its effect was seen from outside."""

    id: str
    name: str
    target: str
    inject_s: float
    effective_s: float | None
    heal_s: float | None
    healed_s: float | None
    skew_ms: float | None = None
    verified: bool = False
    detail: dict[str, Any] = {}


class ClockResult(msgspec.Struct, frozen=True, kw_only=True):
    """One recovery clock of a journey: measurement.md, section 2. `*_s` count from the start of the run, but `low` and `high`.

    `cause`: the fault (several joined by "+") or step whose `event` it counts from, at `from_s`. `low`..`high`: seconds that it
    took; `high` None: its end was not seen. `back_s`: the end of the first good slot of the run of them that lasted. `masked`:
    faults that were injected while it ran and that nobody noticed apart from it. `verdict`: "unjudged" without an objective.
    `starved_s`: how long the machine did not serve while it ran.
    """

    journey: str
    service: str
    cause: str
    event: Literal["inject", "heal", "step"]
    kind: Literal["rto", "failback"]
    from_s: float
    first_bad_s: float
    last_bad_s: float
    back_s: float | None
    low: float
    high: float | None
    end: Literal["recovered", "heal", "inject", "end", "cut"]
    masked: list[str] = []
    objective: float | None = None
    starved_s: float = 0.0
    verdict: Literal["pass", "fail", "inconclusive", "unjudged"] = "unjudged"
    why: str = ""


class MachineResult(msgspec.Struct, frozen=True, kw_only=True):
    """How long the machine did not serve, in all, and who had it then, the longest first."""

    starved_s: float = 0.0
    by: list[str] = []


class Outage(msgspec.Struct, frozen=True):
    """Bad slots of one journey with no stable run of good ones between. `at_s` from the start of the run.

    The length lies in low_s..high_s; with `ended` false it was still going on when we stopped looking, after `high_s`.
    """

    at_s: float
    low_s: float
    high_s: float
    slots: int  # bad ones
    ended: bool = True


class JourneyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the prober saw of one journey, from the first fault to the end (steady state apart)."""

    service: str
    op: str
    slots: int
    bad: int
    skewed: int
    availability: float
    rto_s: Interval | None
    failback_s: Interval | None
    outages: list[Outage]
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class ServiceResult(msgspec.Struct, frozen=True, kw_only=True):
    """A service is as its worst journey, from the first fault to the end. `status`: recovered, unaffected, or not_recovered.

    `downtime_s`: bad slots times the probe's period. `longest_s`: the longest outage. `flaps`: how often it went bad again
    after a stable run of good slots with no event between, or for a single slot. `faults`: what it noticed of each, by id:
    "noticed", "masked" (it was down already), "unnoticed", or "unclear" (the machine may have been the cause).
    """

    status: Literal["recovered", "unaffected", "not_recovered"]
    rto_s: Interval | None
    failback_s: Interval | None
    availability: float
    downtime_s: float
    longest_s: float
    flaps: int
    slots: int
    skewed: int
    faults: dict[str, str] = {}


class LedgerResult(msgspec.Struct, frozen=True, kw_only=True):
    """The buckets of measurement.md, section 3, of one service, counted in writes.

    `lost` holds all lost writes, `lost_after_fault` those of them that no RPO excuses: acknowledged after the last effect of
    a fault that can destroy data, or under a partition that was healed before it; `rpo_s` is about the others.
    `examples`: up to ten ids for each bucket that matters.
    """

    acked: int = 0
    rejected: int = 0
    indeterminate: int = 0
    lost: int = 0
    lost_after_fault: int = 0
    recovered: int = 0
    resurrected: int = 0
    unexpected: int = 0
    duplicated: int = 0
    corrupt: int = 0
    divergent: int = 0
    stale: int = 0
    unverified: int = 0
    rpo_s: float = 0.0
    objective_s: float | None = None
    examples: dict[str, list[str]] = {}


class ObjectiveResult(msgspec.Struct, frozen=True, kw_only=True):
    """One claim and how it ended. `id` such as `talk.rto`, `pay.rpo`, `steady-state`, `fault.fire`."""

    id: str
    verdict: ObjectiveVerdict
    measured: str
    objective: str
    why: str = ""


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What Locust did over the whole run. `p95_ms`: the median of the seconds' 95th percentiles."""

    requests: int = 0
    failures: int = 0
    users: int = 0
    rps: float = 0.0
    p95_ms: float | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run, judged. `reasons` says in plain words why the verdict is not pass.

    `overhead_s` is what the harness itself added: `duration_s` without `boot_s`, the scripted time (the steady state's
    hold, the timeline up to its last heal, the failback's hold) and the wait for the stack to come back (failback beyond
    its hold). Zero where the run ended before its script did.
    `interrupted`: somebody ended the run before its script did; what is left of the verdict counts for nothing.
    `command` runs the same again, with the same `seed`.
    """

    experiment: str
    verdict: Verdict
    runtime: str
    started_at: str
    duration_s: float
    boot_s: float
    overhead_s: float
    faults: list[FaultResult]
    services: dict[str, ServiceResult]
    journeys: dict[str, JourneyResult]
    ledger: dict[str, LedgerResult]
    load: LoadResult
    objectives: list[ObjectiveResult]
    clocks: list[ClockResult] = []
    machine: MachineResult = MachineResult()
    reasons: list[str] = []
    warnings: list[str] = []
    interrupted: bool = False
    cleanup: str = "complete"
    left_behind: list[str] = []
    versions: dict[str, str] = {}
    seed: int | None = None
    command: str = ""
    schema: str = SCHEMA
