"""judge/README.md, Start order: when replicas returned, their failed connections, and which services waited for each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from judge_runs import FaultScript, Run, experiment, judged, ns, objective

from chaoslab.history.result import ObjectiveResult, Result
from chaoslab.history.rows import AnyRow, Ask, Start, Step

WANTED = experiment({"rto": None, "restored": "< 30s"})
Asks = Sequence[tuple[str, str, float, float]]  # who, whom, and from when to when, once a second


def starts(*names: str, at: float = 5.0, **answers: float) -> list[AnyRow]:
    """Replicas of the services of their names; those that are given a time answer then."""

    def row(name: str, when: float, event: Any) -> Start:
        return Start(t_ns=ns(when), replica=name, service=name.partition("_")[0], fault="fire", event=event)

    return [row(name, at, "returning") for name in names] + [row(name, when, "answers") for name, when in answers.items()]


def asks(*spans: tuple[str, str, float, float]) -> list[AnyRow]:
    return [
        Ask(
            t_ns=ns(second), client=client, client_service=client.partition("_")[0], target=target,
            target_service=target.partition("_")[0], port=8080, how="refused", times=2,
        )
        for client, target, begin, end in spans
        for second in range(round(begin), round(end) + 1)
    ]  # fmt: skip


def order(rows: Sequence[AnyRow], **more: Any) -> ObjectiveResult:
    return objective(run(rows, **more), "start-order")


def run(rows: Sequence[AnyRow], **more: Any) -> Result:
    fire = FaultScript(heal=5.0, healed=None)
    return judged(Run(faults=[fire], faults_end_s=5.0, end_s=27.0, more=[*rows, *more.pop("also", ())], **more), WANTED)


def test_two_that_wait_for_each_other_are_a_circle() -> None:
    """It is named, with who was seen to ask whom."""
    found = order([*starts("auth", "talk"), *asks(("auth", "talk", 6, 26), ("talk", "auth", 7, 26))])
    assert (found.verdict, found.measured) == ("fail", "0 of 2 replicas answer again")
    assert found.why == (
        "circular start: auth waits for talk, and talk waits for auth "
        "(auth could not reach talk:8080, 42 attempts in 20 s; talk could not reach auth:8080, 40 attempts in 19 s)"
    )


def test_a_longer_circle_is_named_in_order_and_without_who_stands_beside_it() -> None:
    """partner waits for the circle, and nobody in it for partner."""
    spans = [("auth", "pay"), ("pay", "talk"), ("talk", "auth"), ("partner", "auth")]
    found = order([*starts("auth", "pay", "talk", "partner"), *asks(*((*span, 6, 26) for span in spans))])
    assert found.verdict == "fail"
    assert "auth waits for pay, and pay waits for talk, and talk waits for auth (" in found.why
    assert "partner" not in found.why


def test_replicas_of_both_sites_are_one_service() -> None:
    """Each asks the other service in the other site, and none of one service its like."""
    names = ("auth_a", "auth_b", "talk_a", "talk_b")
    spans = [("auth_a", "talk_b"), ("talk_b", "auth_a"), ("auth_a", "auth_b"), ("auth_b", "auth_a")]
    found = order([*starts(*names), *asks(*((*span, 6, 26) for span in spans))])
    assert found.why.startswith("circular start: auth waits for talk, and talk waits for auth")
    assert len(found.why.split("circular start")) == 2


NO_CIRCLES: list[tuple[str, list[AnyRow]]] = [
    ("a chain", [*starts("auth", "talk"), *asks(("talk", "auth", 6, 26))]),
    ("both booted", [*starts("auth", "talk", auth=20, talk=20), *asks(("auth", "talk", 6, 19), ("talk", "auth", 6, 19))]),
    ("asked for a moment", [*starts("auth", "talk"), *asks(("auth", "talk", 20, 26), ("talk", "auth", 6, 26))]),
    ("gave up", [*starts("auth", "talk"), *asks(("auth", "talk", 6, 18), ("talk", "auth", 6, 26))]),
    (
        "asked before the power was back",
        [*starts("auth", "talk", at=20.0), *asks(("auth", "talk", 6, 26), ("talk", "auth", 6, 26))],
    ),
    ("one has power no more", [*starts("auth"), *asks(("auth", "talk", 6, 26), ("talk", "auth", 6, 26))]),
]


@pytest.mark.parametrize("rows", [pytest.param(rows, id=name) for name, rows in NO_CIRCLES])
def test_what_is_no_circle(rows: list[AnyRow]) -> None:
    """Known bad: each would be one, was one thing not asked."""
    assert "circular" not in order(rows).why


def test_all_that_answer_again_are_a_pass_and_what_does_not_is_not_known() -> None:
    """Somebody may have failed to start for another reason."""
    assert order(starts("auth", "talk", auth=9, talk=8)).verdict == "pass"
    unknown = order(starts("auth", "talk", auth=9))
    assert (unknown.verdict, "no services were seen to wait for each other: talk" in unknown.why) == ("inconclusive", True)


def test_a_circle_that_a_step_broke_was_one() -> None:
    """It did not come up without a hand."""
    rows = [*starts("auth", "talk", auth=22, talk=23), *asks(("auth", "talk", 6, 20), ("talk", "auth", 6, 20))]
    hand = [Step(t_ns=ns(20.5), id="hand", name="run", event="begin")]
    assert order(rows, also=hand).verdict == "fail"
    assert order(rows).verdict == "pass"


def test_only_a_run_with_such_an_objective_has_it() -> None:
    """In others nobody looks; and where no replica was ended, none can wait."""
    assert "start-order" not in [one.id for one in judged(Run()).objectives]
    assert "start-order" not in [one.id for one in run([]).objectives]


def test_the_result_lists_who_started_when_and_who_asked_in_vain() -> None:
    """In order of the return, and by how often."""
    rows = [*starts("auth", "talk", "pay", auth=9, talk=8), *asks(("talk", "auth", 6, 8), ("pay", "auth", 6, 26))]
    result = run(rows)
    assert [(one.replica, one.after_s) for one in result.starts] == [("talk", 3.0), ("auth", 4.0), ("pay", None)]
    assert [(one.client, one.target, one.times) for one in result.unanswered] == [
        ("pay", "auth:8080", 42),
        ("talk", "auth:8080", 6),
    ]
