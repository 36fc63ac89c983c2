"""Ten projects made from seeds, names random: all pass `check`; wrong guesses are counted and printed."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from adopting import check, init, no_docker, project, write
from made_projects import Made, made

from chaoslab.adopt.guess import plan_of
from chaoslab.adopt.plan import Answers, Plan

SEEDS = range(10)
WRONG_MAX = 0.1  # of the decisions


def wrong(truth: Made, plan: Plan) -> tuple[list[str], int]:
    """Wrong guesses in words, and how many decisions there were: each pair of services, and the entry."""
    said = {one.name: one.service for one in plan.placed}
    pairs = list(combinations(sorted(truth.groups), 2))
    found = [
        f"{one} and {other} are {'' if same else 'no '}replicas of one"
        for one, other in pairs
        if (same := truth.groups[one] == truth.groups[other]) != (said[one] == said[other])
    ]
    found += [f"the entry is {truth.entry}, and not {plan.entry.service}"] if plan.entry.service != truth.entry else []
    return found, len(pairs) + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_made_project_passes_check(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path, {"compose.yaml": made(seed).text}))
    with no_docker():
        init("--yes")
        assert check() == ["first-fire"]


def test_few_guesses_are_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Of all pairs of services, and of all entries."""
    mistakes, decisions = 0, 0
    for seed in SEEDS:
        found, count = wrong(made(seed), plan_of(project(made(seed).text), Answers()))
        mistakes, decisions = mistakes + len(found), decisions + count
        with capsys.disabled():
            print(f"\nseed {seed}: {len(found)} of {count} guesses are wrong" + "".join(f"\n  {one}" for one in found), end="")
    assert decisions > 0
    assert mistakes <= WRONG_MAX * decisions


def test_a_wrong_guess_is_counted() -> None:
    """Known bad: a plan that takes every service for a replica of one, and another for the entry."""
    truth = made(0)
    plan = plan_of(project(truth.text), Answers())
    bad = Plan(**{**vars(plan), "placed": tuple(one for one in plan.placed), "entry": plan.entry._replace(service="nobody")})
    assert len(wrong(truth, bad)[0]) == len(wrong(truth, plan)[0]) + (plan.entry.service == truth.entry)
    lumped = Plan(**{**vars(plan), "placed": tuple(type(one)(**{**vars(one), "service": "all"}) for one in plan.placed)})
    assert len(wrong(truth, lumped)[0]) > len(truth.groups)
