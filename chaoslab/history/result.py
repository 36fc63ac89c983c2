"""The result of a run: `result.json`, schema chaoslab/result/v1. Pure; made by `judge.verdict`, written by `folder`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from chaoslab.errors import Verdict

SCHEMA = "chaoslab/result/v1"
_DECIMALS = 3  # milliseconds, in a value that is in seconds
_DECIMALS_OF = {"availability": 6}  # 99.96 % must not read as 100 %
ObjectiveVerdict = Literal["pass", "fail", "inconclusive", "error"]


class Interval(msgspec.Struct, frozen=True):
    """Seconds. The truth lies in low..high; `high` None: no recovery was observed (censored)."""

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


StepStatus = Literal["done", "failed", "cut", "skipped"]


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `*_s` count from the start of the run, but `duration_s`; None for what did not happen.

    `kind`: run, http, sql, bring_about, manual, or switchback, which is the harness's own; `what` it does, in words. `status`:
    done (its effect was seen), failed, cut (the run ended first) or skipped (it came after something that failed).
    `output`: the end of what it said. `declared_s`: what a person's work takes beyond the `duration_s` that the run waited for
    it. `by`: who confirmed it.
    """

    id: str
    kind: str
    what: str = ""
    begun_s: float | None = None
    ended_s: float | None = None
    duration_s: float | None = None
    status: StepStatus
    why: str = ""
    output: str = ""
    declared_s: float = 0.0
    by: str = ""


class ClockResult(msgspec.Struct, frozen=True, kw_only=True):
    """One clock of a journey: judge/README.md, Clocks. `*_s` count from the start of the run, but `low` and `high`.

    `cause`: the fault (several joined by "+") or step whose `event` it counts from, at `from_s`. `low`..`high`: seconds that it
    took; `high` None: its end was not seen. `back_s`: the end of the first good slot of the recovery. `masked`: faults that
    were injected while it ran and not noticed apart from it. `verdict`: "unjudged" without an objective.
    `starved_s`: how long the machine was starved while it ran. `declared_s`: the part of `low` and `high` that was not waited
    for: the work of people beyond the budget of its step.
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
    declared_s: float = 0.0
    verdict: Literal["pass", "fail", "inconclusive", "unjudged"] = "unjudged"
    why: str = ""


class DecisionResult(msgspec.Struct, frozen=True, kw_only=True):
    """An outage of a service in four parts, by its longest clock: judge/README.md, Who decides, and when.

    It counts from `from_s` of the run. The four parts are None where there is no split, and `why` says why not; together with
    `declared_s`, the work of people that was not waited for, they are `total_s`. `precision_s`: within which the moments
    between them are known. `by`: the stack itself, or the steps of people and runbooks ("hand").
    """

    service: str
    journey: str
    cause: str
    event: Literal["inject", "heal", "step"]
    from_s: float
    total_s: float | None
    detect_s: float | None = None
    decide_s: float | None = None
    act_s: float | None = None
    verify_s: float | None = None
    declared_s: float = 0.0
    precision_s: float = 0.0
    by: Literal["stack", "hand"] = "stack"
    why: str = ""


class WriterResult(msgspec.Struct, frozen=True, kw_only=True):
    """A replica took writes from `begin_s` to `end_s` of the run at least, as it said itself whenever it was asked."""

    replica: str
    service: str
    site: str
    begin_s: float
    end_s: float


class RestoredResult(msgspec.Struct, frozen=True, kw_only=True):
    """When a service worked again after a heal, at which it did not: judge/README.md, Restored. As its worst journey.

    `fault`: what was healed, at `from_s` (several joined by "+"). `back_s`: the end of the first good slot of the recovery,
    None where there was none. Both count from the start of the run; `low`..`high`: seconds that it took.
    """

    fault: str
    service: str
    from_s: float
    back_s: float | None
    low: float
    high: float | None
    objective: float | None = None
    verdict: Literal["pass", "fail", "inconclusive", "unjudged"] = "unjudged"


class StartResult(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that a fault had ended, after the heal at `from_s`: its ports answered `after_s` later; None for never."""

    replica: str
    service: str
    fault: str
    from_s: float
    after_s: float | None


class AskResult(msgspec.Struct, frozen=True, kw_only=True):
    """A replica asked another, at `replica:port`, and got no answer, so many times between these instants."""

    client: str
    target: str
    times: int
    first_s: float
    last_s: float


class MachineResult(msgspec.Struct, frozen=True, kw_only=True):
    """How long the machine was starved, in all, and what used it then, the longest first."""

    starved_s: float = 0.0
    by: list[str] = []


class OutageResult(msgspec.Struct, frozen=True):
    """Bad slots of one journey with no stable run of good ones between. `at_s` from the start of the run.

    The length lies in low_s..high_s; with `ended` false it was still going on at the end of the observation, after `high_s`.
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
    outages: list[OutageResult]
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


Kept = Literal["kept", "broken", "unknown", "none"]


class FunctionResult(msgspec.Struct, frozen=True, kw_only=True):
    """One function of the business: a journey as its users know it, from the first fault to the end of the observation.

    `mode`: what it may lose while a fault is active, for `disrupted_s` in all: judge/README.md, Degraded modes. `away_s`: for
    how long it failed then, `later_s`: for how long writes were acknowledged then that are applied later; `*_after_s`: the
    same while no fault was active. `later`: how many such writes, `later_lost`: how many of them are missing in the end.
    `lost`: how many acknowledged writes of any kind are; None where nothing is known of its writes. `used`: whether its
    degraded mode was seen in use; None where it has none. `rto_s`, `failback_s`: in which time it had to be back; None where
    nothing is promised. `kept`: what became of the promises of its service, as far as they are about this function.
    """

    service: str
    title: str
    mode: Literal["required", "allowed", "queued"]
    disrupted_s: float
    away_s: float
    away_after_s: float
    later_s: float = 0.0
    later_after_s: float = 0.0
    later: int = 0
    later_lost: int = 0
    lost: int | None = None
    used: bool | None = None
    rto_s: float | None = None
    failback_s: float | None = None
    kept: Kept = "none"


class ServiceResult(msgspec.Struct, frozen=True, kw_only=True):
    """A service is as its worst journey, from the first fault to the end. `status`: recovered, unaffected, or not_recovered.

    `downtime_s`: bad slots times the probe's period. `longest_s`: the longest outage. `flaps`: how often it went bad again
    after a stable run of good slots with no event between, or for a single slot. `faults`: what it noticed of each, by id:
    "noticed", "masked" (it was down already), "unnoticed", "degraded" (noticed by what its degraded mode allows alone), or
    "unclear" (the machine may have been the cause). `failed`: requests that got no success, however late. `pause_s`: the
    longest outage of its writes, None without one.
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
    failed: int = 0
    pause_s: Interval | None = None


class LedgerResult(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger of one service: judge/README.md, Ledger. Each number counts writes.

    `lost` holds all lost writes, `lost_after_fault` those of them that no RPO excuses: acknowledged after the last effect of
    a fault that can destroy data, or under a partition that was healed before it; `rpo_s` is about the others.
    `examples`: up to ten ids for each category that matters.
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
    `interrupted`: a signal ended the run before its script did; what is left of the verdict counts for nothing.
    `command` runs the same again, with the same `seed`. `spec_sha256`: of the run's `experiment.yaml`.
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
    functions: dict[str, FunctionResult] = {}
    steps: list[StepResult] = []
    clocks: list[ClockResult] = []
    decisions: list[DecisionResult] = []
    writers: list[WriterResult] = []
    restored: list[RestoredResult] = []
    starts: list[StartResult] = []
    unanswered: list[AskResult] = []
    machine: MachineResult = MachineResult()
    reasons: list[str] = []
    warnings: list[str] = []
    interrupted: bool = False
    cleanup: str = "complete"
    left_behind: list[str] = []
    versions: dict[str, str] = {}
    seed: int | None = None
    command: str = ""
    spec_sha256: str = ""
    schema: str = SCHEMA


def result_json(result: Result) -> bytes:
    """The result for people and machines: indented, keys sorted, seconds to the millisecond."""
    return _json(result)


def repeats_json(results: Sequence[Result], worst: int, spread: Mapping[str, Any]) -> bytes:
    """Several runs in one object: all results, the number of the worst (from 1) with its verdict, and the spread."""
    decides = {"run": worst + 1, "verdict": results[worst].verdict}
    return _json({"runs": list(results), "worst": decides, "spread": dict(spread)})


def _json(value: Any) -> bytes:
    plain = _rounded(msgspec.to_builtins(value))
    return msgspec.json.format(msgspec.json.encode(plain, order="sorted"), indent=2) + b"\n"


def _rounded(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner, key) for inner in value]
    return round(value, _DECIMALS_OF.get(key, _DECIMALS)) if isinstance(value, float) else value
