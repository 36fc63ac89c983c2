"""The steady state that the engine waits for, and that the judge asks for again: one function, the same words."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from chaoslab.clock import NS_PER_S
from chaoslab.engine.steady import SteadyWindow
from chaoslab.history.rows import AnyRow, Condition, PhaseRow, Probe
from chaoslab.judge.run_record import Record
from chaoslab.judge.slots import Slots
from chaoslab.judge.validity import check_steady_state
from chaoslab.spec.model import ProbeSpec, SteadyState
from chaoslab.spec.stackfile.journey import Journey

SPEC = SteadyState.model_validate({"hold": "2s", "journeys": {"good": "> 99%", "p95": "< 100ms"}})
WITHIN_S = 0.5


def journeys(*names: str) -> dict[str, Journey]:
    return {name: Journey(service="s", request={"path": "/"}, good={"within": "500ms"}) for name in names}


def slot(due_s: float, *, took_s: float = 0.01, good: bool = True, journey: str = "j") -> Probe:
    due_ns, end_ns = round(due_s * NS_PER_S), round((due_s + took_s) * NS_PER_S)
    return Probe(
        t_ns=end_ns, journey=journey, service="s", op="read", due_ns=due_ns, sent_ns=due_ns, end_ns=end_ns,
        good=good, outcome="ok" if good else "bad",
    )  # fmt: skip


def window(slots: int, *, bad: int = 0, rate: float = 50, **more: Any) -> SteadyWindow:
    filled = SteadyWindow(SPEC, ProbeSpec(rate=rate), journeys("j"))
    for number in range(slots):
        filled.add(slot(number / rate, good=number >= bad, **more))
    return filled


def trouble(filled: SteadyWindow, at_s: float) -> str:
    return filled.why_not_steady(round(at_s * NS_PER_S)) or ""


def test_good_fast_slots_for_long_enough_are_a_steady_state() -> None:
    """Two seconds at 50 a second, all good."""
    assert trouble(window(101), 2) == ""


def test_too_few_slots_are_none_yet() -> None:
    """A window that is not full proves nothing; nor does a prober that sends nothing."""
    assert trouble(window(50), 1) == "j: 50 of 100 slots were answered in the last 2.0 s, which is too few"
    assert trouble(window(0), 0) == "j: no slot in the last 2.0 s"


def test_a_journey_without_rows_is_none() -> None:
    """Known bad: one journey is as it should be, and of the other nothing was ever seen."""
    filled = SteadyWindow(SPEC, ProbeSpec(rate=50), journeys("j", "unseen"))
    for number in range(101):
        filled.add(slot(number / 50))
    assert trouble(filled, 2) == "unseen: no slot in the last 2.0 s"
    only = SteadyWindow(SPEC, ProbeSpec(rate=50, journeys=["j"]), journeys("j", "unseen"))
    assert trouble(only, 2) == "j: no slot in the last 2.0 s"


def test_a_journey_that_never_works_says_what_it_gets() -> None:
    """Known bad: a path that is not there, of which a person learns only that 0% is good."""
    filled = window(101, bad=101)
    filled.add(structs.replace(slot(2.02, good=False), status=404))
    line = "; j last got status 404 after 10 ms: see its `request` and `good` under journeys of the stack"
    assert filled.never_good() == line
    assert window(101, bad=100).never_good() == ""
    assert window(0).never_good() == ""


def test_bad_or_slow_slots_are_named() -> None:
    """The journey, what was seen and what was wanted."""
    assert trouble(window(101, bad=3), 2) == "j: 97.00% of the slots are good, but > 99% is required"
    assert trouble(window(101, took_s=0.15), 2) == "j: p95 is 150 ms, but < 100ms is required"


def test_slots_that_are_refused_at_once_are_slow_for_ever() -> None:
    """Known bad: one in ten is refused within a millisecond, and only the percentile is asked."""
    spec = SteadyState.model_validate({"hold": "2s", "journeys": {"p95": "< 100ms"}})
    filled = SteadyWindow(spec, ProbeSpec(rate=50), journeys("j"))
    for number in range(101):
        filled.add(slot(number / 50, took_s=0.001, good=number % 10 != 0))
    assert trouble(filled, 2) == "j: p95 is beyond the good answers, but < 100ms is required"


def test_slots_that_hang_count_before_they_have_given_up() -> None:
    """Known bad: two slots hang, and their rows will come only when they have timed out."""
    filled = SteadyWindow(SPEC, ProbeSpec(rate=50), journeys("j"))
    for number in range(101):
        if number not in (40, 41):
            filled.add(slot(number / 50))
    assert trouble(filled, 2) == "j: 98.00% of the slots are good, but > 99% is required"
    slow = SteadyWindow(
        SteadyState.model_validate({"hold": "2s", "journeys": {"p95": "< 100ms"}}), ProbeSpec(rate=50), journeys("j")
    )
    for number in range(101):
        if not 40 <= number < 46:
            slow.add(slot(number / 50))
    assert trouble(slow, 2) == "j: p95 is beyond the good answers, but < 100ms is required"


def test_slots_that_may_still_be_in_time_count_for_neither() -> None:
    """Sent 0.4 s ago and not answered: within half a second nothing is known."""
    filled = SteadyWindow(SPEC, ProbeSpec(rate=50), journeys("j"))
    for number in range(80):
        filled.add(slot(number / 50))
    assert trouble(filled, 2) == ""
    assert "j: 94.67% of the slots are good" in trouble(filled, 2.18)


def test_a_condition_counts_as_last_seen() -> None:
    """Never looked at, not holding, holding again."""
    spec = SPEC.model_copy(update={"conditions": ["leader"]})
    filled = SteadyWindow(spec, ProbeSpec(rate=50), journeys("j"))
    for number in range(101):
        filled.add(slot(number / 50))
    assert trouble(filled, 2) == "condition leader was never checked"
    for at_s, holds, role, message in [
        (0.1, True, "steady", ""),
        (0.2, False, "fault", "condition leader did not hold: seen"),
        (0.3, True, "bring-about", "condition leader did not hold: seen"),
        (0.4, True, "fault", ""),
    ]:
        filled.add(condition(at_s, holds=holds, role=role))
        assert trouble(filled, 2) == message


def condition(at_s: float, *, holds: bool, role: Any) -> Condition:
    return Condition(t_ns=round(at_s * NS_PER_S), id="leader", holds=holds, observed="seen", role=role)


def test_old_trouble_is_forgotten() -> None:
    """Only the last `hold` seconds count."""
    assert trouble(window(201, bad=50), 4) == ""


# --- the run and the judge --------------------------------------------------------------------------------------

# What may become of a slot: seconds until it is answered or given up, and whether it is good; None: never sent.
FATES: list[tuple[float, bool] | None] = [(0.01, True), (0.3, True), (0.001, False), (0.7, False), (2.0, False), None]
SPELL = st.tuples(st.sampled_from(FATES), st.integers(1, 40))
CONDITIONS = st.lists(
    st.builds(condition, st.floats(0, 5), holds=st.booleans(), role=st.sampled_from(["steady", "fault", "failback"])),
    max_size=3,
    unique_by=lambda row: row.t_ns,
)


@st.composite
def lines(draw, journey: str, rate: int) -> list[Probe]:
    """Slots of one journey from its own instant on: good ones, but for some spells."""
    begin_s = draw(st.sampled_from([0.0, 0.004, 1.5]))
    fates: list[tuple[float, bool] | None] = []
    for fate, length in draw(st.lists(SPELL, max_size=4)):
        fates += [FATES[0]] * draw(st.integers(0, 80)) + [fate] * length
    fates += [FATES[0]] * max(0, 5 * rate - len(fates))
    made = [(number / rate + begin_s, fate) for number, fate in enumerate(fates)]
    return [slot(due_s, took_s=fate[0], good=fate[1], journey=journey) for due_s, fate in made if fate is not None]


@st.composite
def steady_phases(draw) -> tuple[SteadyState, int, list[AnyRow], int]:
    """What is wanted, the rate, all rows of a run, and an instant of it."""
    rate = draw(st.sampled_from([10, 30, 50]))
    rows: list[AnyRow] = [*draw(lines("one", rate)), *draw(st.just([]) | lines("two", rate)), *draw(CONDITIONS)]
    limits = draw(st.sampled_from([{"good": "> 99%"}, {"p95": "< 100ms"}, {"good": "> 90%", "p95": "< 400ms"}, {}]))
    wanted = {"hold": "2s", "journeys": limits, "conditions": draw(st.sampled_from([[], ["leader"]]))}
    return SteadyState.model_validate(wanted), rate, rows, draw(st.integers(0, 6 * NS_PER_S))


@settings(max_examples=300, deadline=None)
@given(steady_phases())
def test_the_run_and_the_judge_come_to_the_same(phase: tuple[SteadyState, int, list[AnyRow], int]) -> None:
    """The run has only the rows that were written by then, in the order in which they were; the judge has them all."""
    spec, rate, rows, now_ns = phase
    lived = SteadyWindow(spec, ProbeSpec(rate=rate), journeys("one", "two"))
    for row in sorted((row for row in rows if row.t_ns <= now_ns), key=lambda row: row.t_ns):
        assert isinstance(row, Probe | Condition)
        lived.add(row)
    record = Record.of([*rows, PhaseRow(t_ns=now_ns, phase="steady", event="end")])
    period_ns = round(NS_PER_S / rate)
    seen = {
        name: (record.probes[name].slots if name in record.probes else Slots()).ordered(
            period_ns=period_ns, within_ns=round(WITHIN_S * NS_PER_S)
        )
        for name in ("one", "two")
    }
    judged = check_steady_state(record, seen, spec)
    assert (lived.why_not_steady(now_ns) or "") == judged.why
    assert (judged.verdict == "pass") is (judged.why == "")
