"""Two writers at once: proven by answers that leave no doubt, and never by the time that an answer takes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_runs import FaultScript, Run, experiment, judged, ns, objective, outage, stack_spec

from chaoslab.history.result import ObjectiveResult
from chaoslab.history.rows import Answer, AnyRow, Machine
from chaoslab.judge.writers import writings
from chaoslab.spec.stackfile.model import StackSpec

Span = tuple[float, float]
WRITERS = {name: {"get": f"http://{name}:1/primary", "expect": "leads"} for name in ("pg-pangyo", "pg-anyang")}
STACK = StackSpec.model_validate(stack_spec().model_dump(mode="json", by_alias=True) | {"writers": WRITERS})


def looks(
    replica: str, spans: Sequence[Span], dice: random.Random, *, silent: Sequence[Span] = (), end: float = 27.0
) -> list[AnyRow]:
    """One row for each look: what is true at an instant that nobody knows, between the question and the answer."""
    rows: list[AnyRow] = []
    at = -4.0 + dice.random() * 0.2
    while at < end:
        took = dice.choice([0.005, 0.02, 0.3])
        true_at = at + dice.random() * took
        value: bool | None = any(begin <= true_at < until for begin, until in spans)
        error = None
        if any(begin <= at < until for begin, until in silent):
            value, error, took = None, "no answer in time", 1.0
        times = {"asked_ns": ns(at), "answered_ns": ns(at + took), "last_asked_ns": ns(at), "t_ns": ns(at + took)}
        site = replica.removeprefix("pg-")
        rows.append(Answer(about="writes", replica=replica, service="pg", site=site, value=value, error=error, **times))
        at += took + 0.2
    return rows


def one_writer(
    wrote: Mapping[str, Sequence[Span]], seed: int = 1, *, more: Sequence[AnyRow] = (), **how: object
) -> ObjectiveResult:
    dice = random.Random(seed)  # noqa: S311 -- repeatable, not secret
    rows = [row for replica, spans in wrote.items() for row in looks(replica, spans, dice, **how)]  # type: ignore[arg-type]
    run = Run(bad=outage(0.1, 3.0), more=[*rows, *more], faults=[FaultScript()])
    return objective(judged(run, experiment({"rto": "< 10s"}), STACK), "one-writer.pg")


def test_one_after_the_other_is_as_it_should_be() -> None:
    found = one_writer({"pg-pangyo": [(-9.0, 0.0)], "pg-anyang": [(2.0, 99.0)]})
    assert (found.verdict, found.measured) == ("pass", "pg-pangyo, then pg-anyang")


def test_two_at_once_are_a_fail() -> None:
    """With who they were, and for how long at least."""
    found = one_writer({"pg-pangyo": [(-9.0, 99.0)], "pg-anyang": [(5.0, 15.0)]})
    assert found.verdict == "fail"
    assert found.why.startswith("pg-pangyo and pg-anyang both took writes for ")
    assert 8.0 < float(found.why.split(" for ")[1].split(" s")[0]) <= 10.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(-3.0, 20.0), st.floats(0.0, 0.3))
def test_a_hand_over_is_never_two_writers(seed, at, pause):
    """Down to one without any pause, however the looks lie and however long they take."""
    wrote = {"pg-pangyo": [(-9.0, at)], "pg-anyang": [(at + pause, 99.0)]}
    assert one_writer(wrote, seed).verdict == "pass"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 20.0), st.floats(1.3, 5.0))
def test_two_writers_for_some_looks_are_always_found(seed, at, lasted):
    """Each answers twice meanwhile, by the longest that a look takes."""
    wrote = {"pg-pangyo": [(-9.0, 99.0)], "pg-anyang": [(at, at + lasted)]}
    assert one_writer(wrote, seed).verdict == "fail"


def test_a_writer_that_cannot_be_asked_meanwhile_is_not_known_to_write() -> None:
    """A frozen one, say: it may have stopped, and begun again."""
    wrote = {"pg-pangyo": [(-9.0, 99.0)], "pg-anyang": [(5.0, 9.0)]}
    assert one_writer(wrote, silent=[(4.0, 10.5)]).verdict == "pass"


def test_nobody_who_writes_shows_nothing() -> None:
    found = one_writer({"pg-pangyo": [], "pg-anyang": []})
    assert (found.verdict, found.why) == ("inconclusive", "no replica was ever seen to take writes")


def test_a_time_in_which_nobody_looked_shows_nothing() -> None:
    """Up to the end of the observation; and where no replica was queried at all."""
    found = one_writer({"pg-pangyo": [(-9.0, 99.0)], "pg-anyang": []}, end=20.0)
    assert found.verdict == "inconclusive"
    assert "was not queried for " in found.why
    run = Run(bad=outage(0.1, 3.0))
    never = objective(judged(run, experiment({"rto": "< 10s"}), STACK), "one-writer.unknown")
    assert (never.verdict, never.why) == (
        "inconclusive",
        "these replicas were never asked whether they take writes: pg-anyang, pg-pangyo",
    )


def test_a_writer_that_was_never_queried_shows_nothing() -> None:
    """Known bad: a pass, as the other one was never seen to write beside it."""
    rows = looks("pg-pangyo", [(-9.0, 99.0)], random.Random(1))  # noqa: S311 -- repeatable, not secret
    run = Run(bad=outage(0.1, 3.0), more=rows)
    found = judged(run, experiment({"rto": "< 10s"}), STACK)
    unseen = objective(found, "one-writer.unknown")
    assert (unseen.verdict, unseen.why) == (
        "inconclusive",
        "these replicas were never asked whether they take writes: pg-anyang",
    )
    assert objective(found, "one-writer.pg").verdict == "pass"
    assert found.verdict == "inconclusive"


def test_a_stack_without_writers_is_not_judged_by_them() -> None:
    found = judged(Run(bad=outage(0.1, 3.0)), experiment({"rto": "< 10s"}))
    assert not [one.id for one in found.objectives if one.id.startswith("one-writer")]
    assert found.writers == []


def test_an_answer_alone_proves_no_time() -> None:
    """It was true at one instant between question and answer."""
    alone = Answer(about="writes", replica="a", asked_ns=5, answered_ns=9, last_asked_ns=5, t_ns=9, value=True)
    assert writings([alone]) == []
    again = Answer(about="writes", replica="a", asked_ns=12, answered_ns=14, last_asked_ns=12, t_ns=14, value=True)
    (found,) = writings([again, alone])
    assert (found.begin_ns, found.end_ns) == (9, 12)


@pytest.mark.parametrize(("used_by", "verdict"), [("others", "inconclusive"), ("anyang", "fail")])
def test_two_writers_on_a_machine_that_was_taken_away_show_nothing(used_by: str, verdict: str) -> None:
    """A leader that is not given the processor cannot step down in time; what the survivor uses itself is no excuse."""
    calm = {"pangyo": 0.2, "anyang": 0.2, "others": 0.1}
    starved = {"starved": True, "late": ["read"], "busy": calm | {used_by: 1.8}}
    rows = [
        Machine(t_ns=ns(at + 1), begin_ns=ns(at), **(starved if 5 <= at < 12 else {"busy": calm}))  # type: ignore[arg-type]
        for at in range(-4, 27)
    ]
    found = one_writer({"pg-pangyo": [(-9.0, 9.0)], "pg-anyang": [(7.0, 99.0)]}, more=rows)
    assert found.verdict == verdict
