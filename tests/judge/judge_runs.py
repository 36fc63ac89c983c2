"""Small histories for the judge: a script in seconds from the first fault in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chaoslab.history.result import ObjectiveResult, Result
from chaoslab.history.rows import Abort, Anchor, AnyRow, Condition, Fault, LedgerRead, Load, Note, PhaseRow, Probe
from chaoslab.judge.verdict import judge
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.model import StackSpec

RATE = 50
PERIOD_S = 1 / RATE
F0_S = 100.0  # when the first fault is injected, on the monotonic clock
LATENCY_S = 0.004

Span = tuple[float, float]


def ns(seconds_from_fault: float) -> int:
    return round((F0_S + seconds_from_fault) * 1e9)


def stack_spec(**ledger: Any) -> StackSpec:
    """A service `talk` with a read and a write that keeps a ledger."""
    send = {
        "service": "talk",
        "request": {"method": "POST", "path": "/talk/messages", "json": {"id": "{id}"}},
        "good": {"status": 201, "within": "500ms"},
        "ledger": {"path": "/talk/messages?writer={writer}&after={after}", "items": "entries[].{id: id, hash: hash}", **ledger},
    }
    read = {"service": "talk", "request": {"path": "/talk/messages"}, "good": {"within": "500ms"}}
    spec = {
        "sites": ["pangyo", "anyang"],
        "entry": "entry:8080",
        "conditions": {"leader-in-pangyo": {"get": "http://pg-pangyo:8008/cluster", "expect": "leader"}},
        "journeys": {"talk.send": send, "talk.read": read},
    }
    return StackSpec.model_validate(spec)


def experiment(objectives: Mapping[str, Any] | None = None, **changes: Any) -> Experiment:
    raw = {
        "name": "fire",
        "hypothesis": "a fire",
        "title": "a fire",
        "stack": ["/nowhere/compose.yaml"],
        "probe": {"rate": RATE},
        "steady_state": {
            "hold": "3s",
            "journeys": {"good": "> 99%", "p95": "< 250ms"},
            "conditions": ["leader-in-pangyo"],
        },
        "timeline": [{"id": "fire", "at": "0s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "20s"}],
        "failback": {"hold": "5s"},
        "objectives": {"talk": objectives if objectives is not None else {"rto": "< 10s", "rpo": 0, "failback": "< 4s"}},
    }
    return Experiment.model_validate(raw | changes)


@dataclass(frozen=True)
class FaultScript:
    id: str = "fire"
    inject: float = 0.0
    effective: float | None = 0.05
    heal: float | None = 20.0
    healed: float | None = 20.5
    detail: Mapping[str, Any] = field(default_factory=dict)
    name: str = "site.power-loss"

    def rows(self) -> list[AnyRow]:
        effect = ("effective", self.effective) if self.effective is not None else ("ineffective", self.inject + 0.6)
        healing = ("healed", self.healed) if self.healed is not None else ("unhealed", (self.heal or 0.0) + 0.6)
        events = [("inject", self.inject), effect]
        if self.heal is not None:
            events += [("heal", self.heal), healing]
        return [self._row(event, at, dict(self.detail) if event == effect[0] else {}) for event, at in events]

    def _row(self, event: Any, at: float, detail: dict[str, Any]) -> Fault:
        return Fault(t_ns=ns(at), id=self.id, name=self.name, target="pangyo", event=event, detail=detail)


@dataclass(frozen=True)
class Run:
    """One scripted run. `bad` holds spans of due times, in seconds from the first fault, by journey."""

    bad: Mapping[str, Sequence[Span]] = field(default_factory=dict)
    faults: Sequence[FaultScript] = (FaultScript(),)
    rate: int = RATE
    steady_s: float = 4.0
    faults_end_s: float = 20.0
    end_s: float = 27.0
    latency_s: float = LATENCY_S
    holds: Mapping[str, bool] = field(default_factory=dict)  # by role: whether the condition held
    requests: int = 100
    conditions: bool = True
    more: Sequence[AnyRow] = ()
    edit: Callable[[Probe], Probe | None] = lambda slot: slot

    def but(self, **changes: Any) -> Run:
        return replace(self, **changes)

    def rows(self) -> list[AnyRow]:
        slots = self.slots()
        rows: list[AnyRow] = [
            Anchor(t_ns=ns(-10), wall="2026-11-22T02:00:00Z", experiment="fire", run="r1", runtime="embedded")
        ]
        rows += [row for fault in self.faults for row in fault.rows()]
        rows += [*self._phases(), *self._looks(), *self._load(), *slots, *final_reads(slots), *self.more]
        return rows

    def slots(self) -> list[Probe]:
        first, last = round(-self.steady_s * self.rate), round(self.end_s * self.rate)
        made = (self._slot(journey, number) for journey in ("talk.send", "talk.read") for number in range(first, last))
        edited = (self.edit(slot) for slot in made)
        return [slot for slot in edited if slot is not None]

    def _slot(self, journey: str, number: int) -> Probe:
        due_s = number / self.rate
        good = not any(begin <= due_s < end for begin, end in self.bad.get(journey, ()))
        write = journey == "talk.send"
        seq = number + 10_000
        return Probe(
            t_ns=ns(due_s + self.latency_s),
            journey=journey,
            service="talk",
            op="write" if write else "read",
            due_ns=ns(due_s),
            sent_ns=ns(due_s),
            end_ns=ns(due_s + self.latency_s),
            good=good,
            outcome=("acked" if good else "indeterminate") if write else ("ok" if good else "bad"),
            id=f"w-{seq}" if write else None,
            writer="w" if write else None,
            seq=seq if write else None,
            hash=f"h{seq}" if write else None,
        )

    def _phases(self) -> list[AnyRow]:
        times = [("boot", -10.0, -self.steady_s), ("steady", -self.steady_s, -0.001)]
        times += [("faults", -0.001, self.faults_end_s), ("failback", self.faults_end_s, self.end_s)]
        times += [("drain", self.end_s, self.end_s + 1), ("verify", self.end_s + 1, self.end_s + 2)]
        events = [(phase, event, at) for phase, *ends in times for event, at in zip(("begin", "end"), ends, strict=True)]
        return [PhaseRow(t_ns=ns(at), phase=phase, event=event) for phase, event, at in events]  # type: ignore[arg-type]

    def _looks(self) -> list[AnyRow]:
        at = {"steady": -3.0, "fault": -0.1, "failback": self.end_s - 5} if self.conditions else {}
        return [
            Condition(t_ns=ns(when), id="leader-in-pangyo", holds=self.holds.get(role, True), observed="seen", role=role)  # type: ignore[arg-type]
            for role, when in at.items()
        ]

    def _load(self) -> list[AnyRow]:
        seconds = range(round(-self.steady_s) + 1, round(self.end_s))
        return [Load(t_ns=ns(at - 0.5), requests=self.requests, failures=0, users=4, p95_ms=9.0) for at in seconds]


def final_reads(slots: Sequence[Probe], sites: Sequence[str] = ("pangyo", "anyang")) -> list[LedgerRead]:
    """What honest sites hold in the end: every acknowledged write, once."""
    items = [(slot.id or "", slot.hash or "") for slot in slots if slot.outcome == "acked"]
    return [ledger_read(items, site=site) for site in sites]


def ledger_read(items: Sequence[tuple[str, str]], *, at: float = 28.5, site: str | None = None, **more: Any) -> LedgerRead:
    fields = {"ok": True, "final": site is not None} | more
    return LedgerRead(
        t_ns=ns(at + 0.01), journey="talk.send", service="talk", writer="w",
        begin_ns=ns(at), end_ns=ns(at + 0.01), site=site, items=list(items), **fields,
    )  # fmt: skip


def judged(run: Run, spec: Experiment | None = None, stack: StackSpec | None = None) -> Result:
    return judge(spec or experiment(), stack or stack_spec(), run.rows())


def objective(result: Result, id_: str) -> ObjectiveResult:
    return next(one for one in result.objectives if one.id == id_)


def verdicts(result: Result) -> dict[str, str]:
    return {one.id: one.verdict for one in result.objectives}


def outage(begin: float, end: float) -> dict[str, list[Span]]:
    """Both journeys bad."""
    return {"talk.send": [(begin, end)], "talk.read": [(begin, end)]}


def aborted(at: float) -> Abort:
    return Abort(t_ns=ns(at), condition="host_memory", observed="97%")


def note(level: Any, at: float) -> Note:
    return Note(t_ns=ns(at), level=level, text=f"{level} at {at}")
