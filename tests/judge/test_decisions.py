"""An outage in four parts, from what the stack said of itself: they add up, none is negative, and none is invented."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_runs import PERIOD_S, FaultScript, Run, experiment, judged, ns, outage, stack_spec

from chaoslab.history.result import DecisionResult
from chaoslab.history.rows import Answer, AnyRow, Step
from chaoslab.judge.decisions import Moment, Split, change, other_writer, split
from chaoslab.spec.stackfile.model import StackSpec

LOOK_S = 0.2
SOME = settings(max_examples=200, deadline=None)
FEW = settings(max_examples=25, deadline=None)  # each judges a run
DETECTED = {"get": "http://etcd:1/leader", "changes": "revision || 'gone'"}
DECIDED = {"get": "http://etcd:1/leader", "changes": "revision"}
WRITERS = {name: {"get": f"http://{name}:1/primary", "expect": "leads"} for name in ("pg-pangyo", "pg-anyang")}


def answer(about: Any, at: float, value: Any, *, until: float | None = None, took: float = 0.01, **more: Any) -> Answer:
    """What was said from `at` on, and again and again up to `until`; each answer was there `took` after its question."""
    last = at if until is None else until
    times = {"asked_ns": at - took, "answered_ns": at, "last_asked_ns": last - took, "t_ns": last}
    return Answer(about=about, value=value, **{name: ns(when) for name, when in times.items()}, **more)


def said(about: Any, changes: Sequence[tuple[float, Any]], *, end: float = 27.0, **more: Any) -> list[AnyRow]:
    """The rows of looks every LOOK_S, of something that takes a value at each of these instants: a row a second at most."""
    rows: list[Answer] = []
    for number in range(round(-4 / LOOK_S), round(end / LOOK_S)):
        at = number * LOOK_S
        value = [None, *(value for when, value in changes if when <= at - 0.005)][-1]
        before = rows[-1] if rows else None
        if before is None or before.value != value or ns(at) - before.answered_ns >= 1e9:
            rows.append(answer(about, at, value, **more))
        else:
            rows[-1] = answer(about, before.answered_ns / 1e9 - 100, value, until=at, **more)
    return [*rows]


def writes(replica: str, changes: Sequence[tuple[float, bool]], **more: Any) -> list[AnyRow]:
    return said("writes", changes, replica=replica, service="pg", site=replica.removeprefix("pg-"), **more)


def stack(**more: Any) -> StackSpec:
    section = {"decisions": {"detected": DETECTED, "decided": DECIDED}, "writers": WRITERS, **more}
    return StackSpec.model_validate(stack_spec().model_dump(mode="json", by_alias=True) | section)


def told(detected: float | None, decided: float | None, acted: float | None) -> list[AnyRow]:
    """What a stack says whose leader in pangyo burns at 0."""
    gone, new = ([] if at is None else [(at, value)] for at, value in ((detected, "gone"), (decided, "7")))
    end = [] if acted is None else [(acted, True)]
    return [
        *said("detected", [(-9.0, "5"), *gone, *new]),
        *said("decided", [(-9.0, "5"), *([] if detected is None else [(detected, None)]), *new]),
        *writes("pg-pangyo", [(-9.0, True), (0.0, False)]),
        *writes("pg-anyang", [(-9.0, False), *end]),
    ]


def results(rows: Sequence[AnyRow], **more: Any) -> list[DecisionResult]:
    bad, steps = more.pop("bad", outage(0.1, 9.0)), more.pop("stack", stack())
    return judged(Run(bad=bad, more=[*rows], **more), experiment({"rto": "< 15s"}), steps).decisions


def parts(result: DecisionResult) -> list[float]:
    found = [result.detect_s, result.decide_s, result.act_s, result.verify_s]
    assert None not in found, result.why
    return [part for part in found if part is not None]


# --- the split

INSTANTS = st.integers(0, 40_000_000_000)
MOMENTS = st.none() | st.builds(lambda a, b: Moment(min(a, b), max(a, b)), INSTANTS, INSTANTS)


@SOME
@given(INSTANTS, MOMENTS, MOMENTS, MOMENTS, INSTANTS)
def test_the_parts_of_any_timeline_add_up_or_there_are_none(begin, detected, decided, acted, lasted):
    """None is negative. What lies between two moments is between what was seen of them."""
    back = begin + lasted
    found = split(begin, [detected, decided, acted], back)
    if isinstance(found, str):
        seen = [moment for moment in (detected, decided, acted) if moment is not None and moment.seen_ns >= begin]
        late = any(a.unseen_ns > b.seen_ns for a, b in combinations(seen, 2))
        assert len(seen) < 3 or late or any(moment.unseen_ns > back for moment in seen)
        return
    lengths = [found.detect_ns, found.decide_ns, found.act_ns, found.verify_ns]
    assert sum(lengths) == lasted
    assert min(lengths) >= 0
    assert found.precision_ns >= 0


@st.composite
def truths(draw):
    """When the stack really detected, decided, acted and served again, in order, and how it was looked at."""
    gaps = [draw(st.floats(0.0, 5.0)) for _ in range(4)]
    period, took = draw(st.floats(0.05, 0.5)), draw(st.floats(0.0, 0.3))
    return [sum(gaps[: number + 1]) for number in range(4)], period, took, draw(st.floats(0.0, 1.0))


@SOME
@given(truths())
def test_the_split_of_a_true_order_is_found_and_is_as_exact_as_it_says(truth):
    """Whatever lies between the moments, down to nothing, and however slowly somebody looks."""
    (*true, back), period, took, phase = truth
    moments = []
    for at in true:
        first = next(n for n in range(2_000) if phase * period - 2 * period + n * period >= at)
        asked = phase * period - 2 * period + first * period  # the first look that is sent after it; the one before may show it
        moments.append(Moment(round((asked - period) * 1e9), round((asked + took) * 1e9)))
    found = split(0, moments, round(back * 1e9))
    assert isinstance(found, Split), found
    assert found.detect_ns + found.decide_ns + found.act_ns + found.verify_ns == round(back * 1e9)
    ends = [found.detect_ns, found.detect_ns + found.decide_ns, found.detect_ns + found.decide_ns + found.act_ns]
    for end, at in zip(ends, true, strict=True):
        assert -2 <= end - round(at * 1e9) <= found.precision_ns + 2


@pytest.mark.parametrize(
    ("moments", "why"),
    [
        ([None, (2, 3), (4, 5)], "detected was not seen"),
        ([(1, 2), None, (4, 5)], "decided was not seen"),
        ([(1, 2), (2, 3), None], "acted was not seen"),
        ([(4, 5), (2, 3), (6, 7)], "detected was seen only after decided"),
        ([(1, 2), (6, 7), (4, 5)], "decided was seen only after acted"),
        ([(1, 2), (2, 3), (11, 12)], "acted was seen only after the recovery"),
        ([(-3, -2), (2, 3), (4, 5)], "detected was not seen"),
    ],
)
def test_what_was_not_seen_or_came_in_another_order_is_said(moments: Any, why: str) -> None:
    """And no figure is given."""
    assert split(0, [None if moment is None else Moment(*moment) for moment in moments], 10) == why


def test_a_moment_that_is_seen_late_came_by_the_one_that_followed() -> None:
    """Between two looks the stack may detect, decide and act."""
    found = split(0, [Moment(900, 1100), Moment(900, 1050), Moment(900, 1200)], 1000)
    assert isinstance(found, Split)
    assert (found.detect_ns, found.decide_ns, found.act_ns, found.verify_ns, found.precision_ns) == (1000, 0, 0, 0, 100)


# --- moments


def test_a_change_is_seen_by_the_first_answer_with_another_value() -> None:
    """Nothing is no value, no answer tells nothing, and neither is what it was before the fault."""
    rows = [
        answer("decided", -1.0, "5", until=0.9),
        answer("decided", 1.0, None, until=1.2),
        answer("decided", 1.4, None, error="no answer in time"),
        answer("decided", 1.6, "5"),
        answer("decided", 2.0, "7", until=2.4),
    ]
    assert change(rows, ns(0)) == Moment(ns(1.59), ns(2.0))
    assert change(rows[:-1], ns(0)) is None
    assert change(rows[1:], ns(0)) is None  # nothing is known of before


def test_a_change_before_the_fault_is_none() -> None:
    rows = [answer("decided", -3.0, "5"), answer("decided", -2.0, "7", until=4.0)]
    assert change(rows, ns(0)) is None


def test_another_writer_is_one_that_did_not_write_before() -> None:
    """The same one again, after a restart, is none; nor is anyone where nobody is known to have written."""
    old = [answer("writes", -1.0, True, replica="a", until=-0.2), answer("writes", 2.0, True, replica="a", until=3.0)]
    new = [answer("writes", -1.0, False, replica="b", until=4.0), answer("writes", 4.2, True, replica="b", until=5.0)]
    assert other_writer([*old, *new], ns(0)) == Moment(ns(3.99), ns(4.2))
    assert other_writer(old, ns(0)) is None
    assert other_writer(new, ns(0)) is None


# --- a run


@FEW
@given(st.floats(0.2, 2.0), st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.floats(0.1, 2.0))
def test_the_parts_of_a_run_add_up_to_its_outage_to_one_slot(detect, decide, act, verify):
    """By the judge's own clock, and by what the slots alone show of the outage."""
    moments = [detect, detect + decide, detect + decide + act]
    back = moments[-1] + verify
    run = Run(bad=outage(0.02, back), more=told(*moments))
    result = judged(run, experiment({"rto": "< 15s"}), stack())
    (found,) = result.decisions
    assert found.total_s == pytest.approx(sum(parts(found)), abs=1e-6)
    clock = next(clock for clock in result.clocks if clock.journey == found.journey)
    assert clock.low - PERIOD_S <= sum(parts(found)) <= clock.low + 2 * PERIOD_S + 0.1
    seen = result.journeys[found.journey].outages[0]
    assert abs(sum(parts(found)) - (seen.at_s - found.from_s + seen.high_s)) <= 2 * PERIOD_S
    for part, true in zip(parts(found), [detect, decide, act], strict=False):
        assert abs(part - true) <= 2 * found.precision_s + 0.01
    assert found.precision_s <= LOOK_S + 0.03


def test_the_longest_clock_of_a_service_is_divided() -> None:
    """A read that is back before the new leader writes is not what the service waited for."""
    bad = {"talk.send": [(0.1, 9.0)], "talk.read": [(0.1, 3.0)]}
    (found,) = results(told(5.0, 6.0, 7.0), bad=bad)
    assert (found.service, found.journey, found.cause, found.event, found.by) == (
        "talk",
        "talk.send",
        "fire",
        "inject",
        "stack",
    )
    assert parts(found) == pytest.approx([5.01, 1.0, 1.0, 2.0], abs=0.21)


def test_without_a_moment_there_is_no_split() -> None:
    (found,) = results(told(5.0, 6.0, None))
    assert (found.detect_s, found.decide_s, found.act_s, found.verify_s) == (None, None, None, None)
    assert found.why == "acted was not seen"
    assert found.total_s == pytest.approx(9.0, abs=0.05)


def test_an_outage_that_did_not_end_is_not_divided() -> None:
    (found,) = results(told(5.0, 6.0, 7.0), bad=outage(0.1, 99.0), faults=[FaultScript(heal=None)])
    assert (found.why, found.total_s) == ("it did not recover", None)


def test_a_stack_that_does_not_say_is_not_divided() -> None:
    assert results(told(5.0, 6.0, 7.0), stack=stack_spec()) == []


def test_what_the_stack_says_of_acting_itself_counts() -> None:
    """Where it is declared; else it is another writer."""
    acted = {"get": "http://entry:1/routes", "changes": "to"}
    rows = [*told(5.0, 6.0, 8.0), *said("acted", [(-9.0, "pangyo"), (7.0, "anyang")])]
    declared = stack(decisions={"detected": DETECTED, "decided": DECIDED, "acted": acted})
    assert parts(results(rows, stack=declared)[0])[2] == pytest.approx(1.0, abs=0.21)
    assert parts(results(rows)[0])[2] == pytest.approx(2.0, abs=0.21)


# --- by hand


def step(id_: str, name: str, begin: float, end: float, target: str = "fail over", **detail: Any) -> list[AnyRow]:
    rows = [(begin, "begin", {"target": target, **detail}), (end, "end", {})]
    return [Step(t_ns=ns(at), id=id_, name=name, event=event, detail=more) for at, event, more in rows]  # type: ignore[arg-type]


def test_people_decide_between_their_first_step_and_the_first_that_does_something() -> None:
    """The stack did not detect anything, and another writes once they have acted."""
    rows = [*told(None, None, 7.0), *step("notice", "manual", 2.0, 4.5), *step("failover", "http", 4.6, 7.5, "POST /failover")]
    (found,) = results(rows)
    assert found.by == "hand"
    assert parts(found) == pytest.approx([2.0, 2.6, 2.4, 2.0], abs=0.21)
    assert sum(parts(found)) == pytest.approx(found.total_s or 0, abs=1e-6)


def test_steps_alone_divide_an_outage() -> None:
    """Where the stack says nothing: they have acted once the last of them is over."""
    rows = [*step("notice", "manual", 2.0, 4.5), *step("failover", "run", 4.6, 7.5)]
    (found,) = results(rows, stack=stack_spec())
    assert parts(found) == pytest.approx([2.0, 2.6, 2.9, 1.5], abs=0.05)


def test_a_request_that_only_looks_and_a_step_after_the_stack_had_decided_are_not_decisions() -> None:
    looks = step("look", "http", 2.0, 2.1, "GET http://pg-anyang:8008/cluster")
    (found,) = results([*told(5.0, 6.0, 7.0), *looks, *step("late", "run", 6.5, 6.9)])
    assert found.by == "stack"


def test_a_declared_part_of_peoples_work_is_said_apart() -> None:
    """It was not waited for, so it is in none of the parts."""
    rows = [*told(None, None, 7.0), *step("notice", "manual", 2.0, 4.5, waited_s=2.5, declared_s=60.0)]
    (found,) = results(rows)
    assert found.declared_s == 60.0
    assert found.total_s == pytest.approx(sum(parts(found)) + 60.0)


def test_a_switchover_has_nothing_to_detect() -> None:
    """Its cause is the decision."""
    spec = experiment(
        {"failback": "< 15s"},
        timeline=[{"id": "switch", "at": "0s", "bring_about": "leader-in-pangyo"}],
    )
    rows = [*told(1.0, 1.2, 2.0), *step("switch", "bring_about", 0.0, 2.5)]
    found = judged(Run(faults=[], bad=outage(0.1, 3.0), more=rows), spec, stack()).decisions[0]
    assert (found.event, found.by) == ("step", "hand")
    assert parts(found) == pytest.approx([0.0, 1.2, 0.8, 1.0], abs=0.21)
