"""Facts of the naive reading as the rows and the experiment that a judge is given, and random ones."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import naive_clocks as naive
from hypothesis import strategies as st
from naive_clocks import S

from chaoslab.history.rows import Anchor, AnyRow, Machine, Note, PhaseRow, Probe, Step
from chaoslab.history.rows import Fault as FaultRow
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.model import StackSpec

MS = S // 1000
ORIGIN = 100 * S  # the end of the steady state, from which a script counts
STEADY = 6 * S
WHOLE_S = {10: 36, 20: 24, 100: 8}  # by slots a second, how long the timelines of a strategy are


@dataclass(frozen=True, repr=False)
class Scene:
    """Facts with what a judge needs besides: how each fault is called, and the rows after a cut."""

    facts: naive.Facts
    names: Mapping[str, str]  # by fault
    starved_rows: tuple[naive.Span, ...] = ()
    cut_by: str = "interrupted"

    @property
    def rate(self) -> int:
        return S // self.facts.journeys[0].period

    def __repr__(self) -> str:
        """Seconds of the script, and of slots only the bad ones: short enough to read."""
        facts = self.facts
        lines = [f"{one.id} {self.names[naive.base(one.id)]}: {_fault_text(one)}" for one in facts.faults]
        lines += [
            f"{one.name} at {self.rate}/s, within {one.within / S}: bad {', '.join(_bad_text(one))}" for one in facts.journeys
        ]
        lines += [f"{one.name} has {one.objectives} under {dict(one.under)}" for one in facts.services]
        cut = "" if facts.cut is None else f", cut at {_since(facts.cut)}"
        starved = [f"{_since(begin)}..{_since(end)}" for begin, end in self.starved_rows]
        return "\n".join(
            [*lines, f"look to {_since(facts.end)}{cut}; starved {starved}; steps {[_since(step.at) for step in facts.steps]}"]
        )


def at(seconds: float) -> int:
    """An instant of a script."""
    return ORIGIN + round(seconds * S)


def _since(instant: int | None) -> float | None:
    return None if instant is None else (instant - ORIGIN) / S


def _fault_text(fault: naive.Fault) -> str:
    instants = ("inject", "effective", "heal", "healed", "inject_script", "heal_script")
    return ", ".join(f"{name} {_since(getattr(fault, name))}" for name in instants)


def _bad_text(journey: naive.Journey) -> Iterable[str]:
    """Spells of bad slots from the first to the last one's due time, and the longest wait in them."""
    spell: list[naive.Slot] = []
    for slot in journey.slots:
        if slot.good and spell:
            yield _spell_text(spell)
        spell = [] if slot.good else [*spell, slot]
    if spell:
        yield _spell_text(spell)


def _spell_text(spell: list[naive.Slot]) -> str:
    return f"{_since(spell[0].due)}..{_since(spell[-1].due)} ({max(slot.end - slot.due for slot in spell) / S} s)"


# --- what a judge is given --------------------------------------------------------------------------------------


def stack_of(scene: Scene) -> StackSpec:
    journeys = {
        one.name: {
            "service": one.service,
            "request": {"path": f"/{one.name}"},
            "good": {"within": f"{one.within // MS}ms"},
        }
        for one in scene.facts.journeys
    }
    return StackSpec.model_validate({"sites": ["pangyo", "anyang"], "entry": "entry:8080", "journeys": journeys})


def experiment_of(scene: Scene) -> Experiment:
    raw = {
        "name": "scene",
        "hypothesis": "a scene",
        "title": "a scene",
        "stack": ["/nowhere/compose.yaml"],
        "probe": {"rate": scene.rate, "journeys": [one.name for one in scene.facts.journeys]},
        "steady_state": {"hold": "3s"},
        "timeline": _timeline(scene),
        "objectives": {one.name: _objectives(one, _may_fail(scene, one.name)) for one in scene.facts.services},
    }
    return Experiment.model_validate(raw)


def _timeline(scene: Scene) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for fault in scene.facts.faults:
        id_, name = naive.base(fault.id), scene.names[naive.base(fault.id)]
        begin = fault.inject_script if fault.inject_script is not None else fault.inject
        entry = {"id": id_, "at": _seconds(begin - ORIGIN), "fault": name}
        entry |= {
            "link.flap": {"from": "pangyo", "to": "anyang", "period": "4s", "count": 4},
            "service.restart": {"service": "talk"},
        }.get(name, {"site": "pangyo"})
        if fault.heal_script is not None and fault.inject_script is not None:
            entry["heal_after"] = _seconds(fault.heal_script - fault.inject_script)
        found.setdefault(id_, entry)
    return list(found.values())


def _objectives(service: naive.Service, may_fail: list[str]) -> dict[str, Any]:
    wanted = {
        "rto": service.objectives.rto,
        "failback": service.objectives.failback,
        "unaffected": service.objectives.unaffected,
        "restored": service.objectives.restored,
    }
    found: dict[str, Any] = {name: _limit(value) for name, value in wanted.items() if value not in (None, False)}
    if may_fail:
        found["degraded"] = dict.fromkeys(may_fail, "allowed")
    under = {id_: {name: _limit(value) for name, value in fields.items()} for id_, fields in service.under.items()}
    return found | ({"under": under} if under else {})


def _may_fail(scene: Scene, service: str) -> list[str]:
    """The journeys of a service that may fail while a fault is active."""
    return [journey.name for journey in scene.facts.journeys if journey.service == service and journey.may_fail]


def _limit(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | str) else f"< {value}s"


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / S}s"


def rows_of(scene: Scene) -> list[AnyRow]:
    facts = scene.facts
    rows: list[AnyRow] = [
        Anchor(t_ns=ORIGIN - 20 * S, wall="2026-11-22T02:00:00Z", experiment="scene", run="r", runtime="embedded")
    ]
    rows += [row for fault in facts.faults for row in _fault_rows(fault, scene.names[naive.base(fault.id)])]
    rows += _phase_rows(facts)
    rows += [
        Step(t_ns=step.at + took, id=step.id, name=step.id, event=event)  # type: ignore[arg-type]
        for step in facts.steps
        for event, took in (("begin", 0), ("end", S))
    ]
    rows += [_probe(journey, slot) for journey in facts.journeys for slot in journey.slots]
    rows += [
        Machine(t_ns=end, begin_ns=begin, starved=True, why="the control was late", busy={"others": 2.0})
        for begin, end in scene.starved_rows
    ]
    if facts.cut is not None:
        rows.append(Note(t_ns=facts.cut, level=scene.cut_by, text="cut"))  # type: ignore[arg-type]
    return rows


def _fault_rows(fault: naive.Fault, name: str) -> Iterable[FaultRow]:
    events: list[tuple[Any, int]] = [("inject", fault.inject)]
    events.append(("ineffective", fault.inject + 1) if fault.effective is None else ("effective", fault.effective))
    if fault.heal is not None:
        events.append(("heal", fault.heal))
        events += [] if fault.connected is None else [("reconnected", fault.connected)]
        events.append(("unhealed", fault.heal + 1) if fault.healed is None else ("healed", fault.healed))
    detail = {"own_end": True} if fault.own_end else {}
    return [
        FaultRow(t_ns=when, id=fault.id, name=name, target="pangyo", event=event, detail=detail if event == "heal" else {})
        for event, when in events
    ]


def _phase_rows(facts: naive.Facts) -> Iterable[PhaseRow]:
    last_heal = max((fault.heal for fault in facts.faults if fault.heal is not None), default=facts.end)
    cut = facts.end if facts.cut is None else facts.cut
    spans: list[tuple[Any, int, int]] = [("boot", ORIGIN - 20 * S, ORIGIN - STEADY), ("steady", ORIGIN - STEADY, ORIGIN - 1)]
    spans.append(("faults", ORIGIN - 1, min(last_heal, cut)))
    if last_heal < cut:
        spans.append(("failback", last_heal, cut))
    if facts.cut is None:
        spans.append(("drain", facts.end, facts.end + S))
    return [
        PhaseRow(t_ns=when, phase=phase, event=event)  # type: ignore[arg-type]
        for phase, begin, end in spans
        for event, when in (("begin", begin), ("end", end))
    ]


def _probe(journey: naive.Journey, slot: naive.Slot) -> Probe:
    return Probe(
        t_ns=slot.end, journey=journey.name, service=journey.service, op="read", due_ns=slot.due, sent_ns=slot.due,
        end_ns=slot.end, good=slot.good, outcome="ok" if slot.good else "bad",
    )  # fmt: skip


# --- random ones ------------------------------------------------------------------------------------------------


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Up to five faults that overlap, nest and follow each other; spells of bad slots around their events; cuts.

    One in three is calm: one journey, few spells, no effect unverified, generous objectives; so that one thing decides.
    """
    calm = draw(st.integers(0, 2)) == 0
    rate = draw(st.sampled_from([10, 10, 10, 10, 20, 100]))
    whole_s = WHOLE_S[rate]
    names: dict[str, str] = {}
    faults: list[naive.Fault] = []
    for number in range(draw(st.integers(2, 4) if calm else st.integers(1, 5))):
        name = draw(
            st.sampled_from(["site.power-loss"] * (4 if calm else 6) + ["link.flap", "service.restart", "service.restart"])
        )
        names[f"f{number}"] = name
        faults += draw(_faults(f"f{number}", name, whole_s, faults, calm))
    cut = None if calm else draw(st.none() | st.none() | st.integers(1000, whole_s * 1000 - 500))
    end, cut_at = at(whole_s), None if cut is None else ORIGIN + cut * MS
    if cut_at is not None:
        faults = [_cut_short(fault, cut_at) for fault in faults if fault.inject < cut_at]
    within = draw(st.sampled_from([100, 250, 500])) * MS
    looked_at = [("talk.send", "talk"), ("talk.read", "talk"), ("pay.read", "pay")][: 1 if calm else draw(st.integers(1, 3))]
    steps = [] if draw(st.integers(0, 2)) else [naive.Step("switch-back", ORIGIN + draw(st.integers(1, whole_s * 900)) * MS)]
    calls = [step.at for step in steps] + [when for fault in faults for when in (fault.inject, fault.heal) if when is not None]
    marks = sorted({ORIGIN, end if cut_at is None else cut_at, *calls})
    look_end = end if cut_at is None else cut_at + S // 2
    journeys = [draw(_journeys(*one, rate, within, marks, look_end, calm)) for one in looked_at]
    services = [
        draw(_CALM if calm else _services(name, sorted(names))) for name in dict.fromkeys(service for _, service in looked_at)
    ]
    starved = 0 if calm else draw(st.sampled_from([0, 0, 1, 3]))
    begins = [ORIGIN + draw(st.integers(0, whole_s * 1000)) * MS for _ in range(starved)]
    widened = [(begin - S, begin + 2 * S) for begin in begins]
    cut_by = draw(st.sampled_from(["interrupted", "error", "blind"]))
    faults, services = _restored(faults, services)
    facts = naive.Facts(faults, journeys, services, end, cut_at, widened, steps)
    return Scene(facts, names, tuple((begin, begin + S) for begin in begins), cut_by)


@st.composite
def _faults(draw: st.DrawFn, id_: str, name: str, whole_s: int, others: list[naive.Fault], calm: bool) -> list[naive.Fault]:
    """One fault, or the cycles of one. Some begin, or end, when the script has another begin or end."""
    last = at(whole_s - 2)
    begin = draw(st.one_of(st.integers(0, whole_s).map(lambda n: at(n / 2)), st.sampled_from(_scripted(others))))
    begin = min(begin, last - S)
    if name == "link.flap":
        period = draw(st.sampled_from([2, 4])) * S
        first = min(begin, last - period) + draw(st.integers(0, 300)) * MS
        count = min(draw(st.integers(2, 4)), max(1, (last - first) // period))
        return [_cycle(f"{id_}#{n + 1}", first + n * period, period // 2) for n in range(count)]
    longest = max(1, (last - begin) * 2 // S)
    long = st.just(max(begin + S, last))
    short = st.integers(1, longest).map(lambda n: begin + n * S // 2)
    until = draw(st.one_of(long, short, st.sampled_from(_scripted(others))))
    until = max(until, begin + S)
    lag, effect, heal_lag, whole = (
        draw(one) for one in (_LAGS, _SURE if calm else _EFFECTS, _LAGS, _WHOLES if calm else _EFFECTS)
    )
    inject, heal = begin + lag * MS, until + heal_lag * MS
    effective = None if effect is None else min(inject + effect * MS, heal - 1)
    own_end = name == "service.restart"
    healed = None if whole is None else heal + whole * MS
    return [naive.Fault(id_, inject, effective, heal, healed, begin, until, own_end)]


_LAGS = st.integers(0, 300)
_SURE, _WHOLES = st.sampled_from([50, 50, 400]), st.sampled_from([50, 50, 400, 4000, None])
_EFFECTS = (
    st.sampled_from([10, 50, 50, 50, 400, 400, 2500, 4000]) | st.integers(1, 4000) | st.sampled_from([50, 50, 50, 50, None])
)


def _scripted(faults: list[naive.Fault]) -> list[int]:
    found = {ORIGIN, *(when for one in faults for when in (one.inject_script, one.heal_script) if when is not None)}
    return sorted(found)


def _cycle(id_: str, begin: int, length: int) -> naive.Fault:
    return naive.Fault(id_, begin, begin + 60 * MS, begin + length, begin + length + 80 * MS)


def _cut_short(fault: naive.Fault, cut: int) -> naive.Fault:
    """What is active when the run is cut is healed at once."""
    if fault.heal is None or fault.heal < cut:
        return fault
    effective = fault.effective if fault.effective is not None and fault.effective < cut else None
    return replace(fault, effective=effective, heal=cut + 30 * MS, healed=cut + 300 * MS)


def _restored(faults: list[naive.Fault], services: list[naive.Service]) -> tuple[list[naive.Fault], list[naive.Service]]:
    """The same with objectives from heals on, and with the instants at which nothing of a fault was left.

    Nothing is drawn for them, so that the scenes are otherwise what they were without.
    """
    dice = random.Random(sum(fault.inject for fault in faults) + len(services))  # noqa: S311
    limits = [None, 1.0, 3.0, 6.0, 12.0, 20.0]
    connected = []
    for fault in faults:
        last = None if fault.heal is None else fault.heal + 3 * S if fault.healed is None else fault.healed
        at_heal = None if last is None or fault.heal is None else dice.randint(fault.heal, last)
        connected.append(replace(fault, connected=dice.choice([None, at_heal, at_heal])))
    wanted = []
    for service in services:
        ids = sorted({naive.base(fault.id) for fault in faults})
        under = {id_: {**service.under.get(id_, {}), "restored": dice.choice(limits)} for id_ in ids if dice.random() < 0.3}
        objectives = replace(service.objectives, restored=dice.choice(limits))
        wanted.append(replace(service, objectives=objectives, under={**service.under, **under}))
    return connected, wanted


@st.composite
def _services(draw: st.DrawFn, name: str, faults: list[str]) -> naive.Service:
    objectives = naive.Objectives(draw(_RTO), draw(_FAILBACK), draw(_UNAFFECTED))
    under = {}
    for fault in faults:
        if draw(st.integers(0, 2)) == 0:
            fields = draw(st.sets(st.sampled_from(["rto", "failback", "unaffected"]), min_size=1))
            every = {"rto": _RTO, "failback": _FAILBACK, "unaffected": _UNAFFECTED}
            under[fault] = {one: draw(every[one]) for one in sorted(fields)}
    return naive.Service(name, objectives, under)


_CALM = st.builds(
    naive.Service,
    st.just("talk"),
    st.builds(naive.Objectives, st.sampled_from([10.0, 40.0]), st.just(12.0), st.sampled_from([False, "allowed", True])),
    st.sampled_from([{}, {}, {"f0": {"rto": 4.0, "failback": 3.0}}, {"f1": {"rto": 20.0, "unaffected": True}}]),
)
_RTO = st.sampled_from([2.0, 4.0, 10.0, 20.0, 40.0, 40.0, None])
_FAILBACK = st.sampled_from([1.0, 3.0, 6.0, 12.0, None])
_UNAFFECTED = st.sampled_from([False, "allowed", "allowed", "allowed", True])


@st.composite
def _journeys(
    draw: st.DrawFn, name: str, service: str, rate: int, within: int, marks: list[int], end: int, calm: bool
) -> naive.Journey:
    period = S // rate
    stable = naive.stable_slots(period)
    first = ORIGIN - STEADY + draw(st.integers(0, period // MS - 1)) * MS
    count = (end - first) // period
    bad: dict[int, int] = {}  # how long a bad slot was waited for
    for _ in range(draw(st.integers(1, 2) if calm else st.integers(0, 4))):
        bad |= draw(_spells([_number(mark, first, period) for mark in marks], stable, within))
    latency = draw(st.sampled_from([4 * MS, 4 * MS, 4 * MS, within // 2, within - 3 * MS, within]))
    dice = random.Random(draw(st.integers(0, 1000)))  # noqa: S311
    slots = []
    for number in range(count):
        due = first + number * period
        took = bad.get(number, dice.randint(latency // 2 // MS, latency // MS) * MS)
        slots.append(naive.Slot(due, due + took, number not in bad))
    return naive.Journey(name, service, period, within, slots)


def _number(when: int, first: int, period: int) -> int:
    """The first slot due at an instant or after it."""
    return -((first - when) // period)


@st.composite
def _spells(draw: st.DrawFn, marks: list[int], stable: int, within: int) -> dict[int, int]:
    """Bad slots that begin around an event, end before it, or last from one to some time after another; and relapses."""
    length = draw(st.sampled_from([1, 1, 2, 4, stable, 3 * stable]) | st.integers(1, 6 * stable) | st.integers(20, 120))
    near = st.sampled_from([stable - 1, stable, stable, stable, stable + 1])
    where = draw(st.sampled_from(["begins at", "ends before", "from one to another"]))
    mark = draw(st.sampled_from(marks))
    if where == "begins at":
        begin = mark + draw(st.sampled_from([-2, -1, 0, 0, 0, 1, 5, 2 * stable]) | near)
    elif where == "ends before":
        begin = mark - length - draw(st.sampled_from([0, 1, 5]) | near | near)
    else:
        begin, other = sorted((mark, draw(st.sampled_from(marks))))
        length = other - begin + draw(st.integers(1, 100))
    every = draw(st.sampled_from([1, 1, 1, 1, 2, 3, 7]))
    numbers = list(range(begin + length - 1, begin - 1, -every))[::-1]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        gap, more = draw(st.sampled_from([1, 3, 2 * stable]) | near), draw(st.sampled_from([1, 1, 2, 5]))
        numbers += range(numbers[-1] + 1 + gap, numbers[-1] + 1 + gap + more)
    took = draw(st.sampled_from([2 * MS, within // 2, within + 1 * MS, 2 * S]))
    return dict.fromkeys(numbers, took)
