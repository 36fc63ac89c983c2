"""The result of a game day: `night.json`, from its journal, the results of its runs and the game days before it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from chaoslab.errors import VERDICT_EXITS, WORST_FIRST, ExitCode, Verdict, exit_code_of, worst_verdict
from chaoslab.gameday.journal import Ended, NotRun, Opened, Planned
from chaoslab.gameday.plan import WHOLE, Shard
from chaoslab.history.result import Interval, Result
from chaoslab.run.selftest import compare
from chaoslab.spec.model import Experiment

SCHEMA = "chaoslab/night/v1"
NIGHTS_SHOWN = 14
Status = Literal["as expected", "not as expected", "inconclusive", "broken", "not run"]
# What a status means for the entire game day. A case that was not run proves nothing.
VERDICT_OF: Mapping[Status, Verdict] = {
    "as expected": "pass",
    "not as expected": "fail",
    "inconclusive": "inconclusive",
    "broken": "error",
    "not run": "inconclusive",
}


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements of one service in one run, in seconds; None if there was nothing to measure."""

    rto_s: Interval | None = None
    failback_s: Interval | None = None
    rpo_s: float | None = None


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the game day. `expected` and `verdict` in words, such as `fail: pay.rpo`; `report`: relative to its folder."""

    id: str
    experiment: str
    title: str
    status: Status
    expected: str
    verdict: str
    why: str
    seconds: float = 0.0
    runtime: str = ""
    report: str = ""
    clean: bool = True
    reasons: list[str] = []
    objectives: dict[str, str] = {}  # id of an objective: its verdict
    services: dict[str, Measured] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment whose outcome differs from the game day before; `was` is empty for a new one, `now` for a removed one."""

    experiment: str
    was: str
    now: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """An objective of an experiment, and when it was last met in a run that counts; None if never, as far as is known."""

    experiment: str
    objective: str
    last_proven: str | None


class Night(msgspec.Struct, frozen=True, kw_only=True):
    """A game day. `cases` in the order of the plan; `before`: the nights before it, the oldest first."""

    suite: str
    title: str
    purpose: str
    started_at: str
    seconds: float
    runtime: str
    chaoslab: str
    verdict: Verdict
    counts: dict[str, int]
    cases: list[CaseResult]
    changes: list[Change]
    proofs: list[Proof]
    spec_sha256: dict[str, str]
    problems: list[str] = []
    interrupted: bool = False
    shard: Shard = WHOLE
    schema: str = SCHEMA

    @property
    def exit_code(self) -> ExitCode:
        """That of the worst case; an incomplete clean-up shows if everything else is as expected."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if self.verdict == "pass" and not all(case.clean for case in self.cases):
            return ExitCode.UNCLEAN
        return VERDICT_EXITS[self.verdict]


class Run(msgspec.Struct, frozen=True):
    """How a case of the plan ended, and the result in its run's folder; None if that cannot be read."""

    ended: Ended | NotRun | None
    result: Result | None = None
    experiment: Experiment | None = None


def tally(
    opened: Opened,
    runs: Mapping[str, Run],
    before: Sequence[Night] = (),
    problems: Sequence[str] = (),
    *,
    interrupted: bool = False,
) -> Night:
    """The game day, from its plan and the run of each case. `before`: earlier game days of the same suite, the oldest first.

    A case without a run counts as not run, whatever the reason; it never counts as passed.
    """
    cases = [case_of(planned, runs.get(planned.id, Run(None))) for planned in opened.mine]  # a merged game day has all shards
    verdicts: list[Verdict] = [VERDICT_OF[case.status] for case in cases]
    verdicts += ["error"] if problems else []
    counts: dict[str, int] = {status: sum(case.status == status for case in cases) for status in VERDICT_OF}
    was, now = (by_experiment(each) for each in (before[-1].cases if before else (), cases))
    outcomes = {name: [outcome_of(each[name]) if name in each else "" for each in (was, now)] for name in {**now, **was}}
    return Night(
        suite=opened.suite,
        title=opened.title,
        purpose=opened.purpose,
        started_at=opened.started_at,
        seconds=sum(case.seconds for case in cases),
        runtime=opened.runtime,
        chaoslab=opened.chaoslab,
        verdict=worst_verdict(verdicts) if verdicts else "inconclusive",
        counts=counts,
        cases=cases,
        changes=[Change(experiment=name, was=old, now=new) for name, (old, new) in outcomes.items() if before and old != new],
        proofs=_proofs(opened, cases, before[-1].proofs if before else []),
        spec_sha256={planned.experiment: planned.spec_sha256 for planned in opened.plan},
        problems=list(problems),
        interrupted=interrupted,
        shard=opened.shard,
    )


def case_of(planned: Planned, run: Run) -> CaseResult:
    """The result of a case of the plan."""
    ended, result = run.ended, run.result
    if not isinstance(ended, Ended):
        why = ended.why if ended is not None else "the game day ended before its turn"
        return CaseResult(
            id=planned.id,
            experiment=planned.experiment,
            title=planned.title,
            status="not run",
            expected="",
            verdict="",
            why=why,
        )
    why = ended.why
    if result is not None and not why:
        # A signal during the report, or an incomplete clean-up, does not change the result.
        as_told = (exit_code_of(result), ExitCode.INTERRUPTED, ExitCode.UNCLEAN)
        if result.interrupted:
            why = "it was interrupted"
        elif ended.exit_code not in as_told:
            why = f"its result says {result.verdict}, and its process ended with exit code {ended.exit_code}"
    if result is None or run.experiment is None or why:
        return CaseResult(
            id=planned.id,
            experiment=planned.experiment,
            title=planned.title,
            status="broken",
            expected="",
            verdict=result.verdict if result else "",
            why=why or f"it left no result (exit code {ended.exit_code})",
            seconds=ended.seconds,
            report=f"{ended.folder}/report.html" if ended.folder and result else "",
            clean=ended.exit_code != ExitCode.UNCLEAN,
        )
    compared = compare(run.experiment, [result])
    status: Status = "broken" if result.verdict in ("error", "aborted") else "not as expected"
    if compared.outcome == "as expected":
        status = "as expected"
    elif result.verdict == "inconclusive":
        status = "inconclusive"
    return CaseResult(
        id=planned.id,
        experiment=planned.experiment,
        title=planned.title,
        status=status,
        expected=compared.expected,
        verdict=compared.got,
        why=compared.why,
        seconds=ended.seconds,
        runtime=result.runtime,
        report=f"{ended.folder}/report.html",
        clean=compared.clean and ended.exit_code != ExitCode.UNCLEAN,
        reasons=result.reasons,
        objectives={objective.id: objective.verdict for objective in result.objectives},
        services={
            name: Measured(
                rto_s=service.rto_s,
                failback_s=service.failback_s,
                rpo_s=result.ledger[name].rpo_s if name in result.ledger else None,
            )
            for name, service in result.services.items()
        },
    )


def outcome_of(cases: Sequence[CaseResult]) -> str:
    """The outcome of the repeats of one experiment: the worst, with `k of n` if there were several."""
    worst = min(cases, key=lambda case: WORST_FIRST.index(VERDICT_OF[case.status]))
    if len(cases) == 1:
        return worst.status
    held = sum(case.status == "as expected" for case in cases)
    return f"{worst.status} ({held} of {len(cases)} as expected)"


def by_experiment(cases: Iterable[CaseResult]) -> dict[str, list[CaseResult]]:
    found: dict[str, list[CaseResult]] = {}
    for case in cases:
        found.setdefault(case.experiment, []).append(case)
    return found


def _proofs(opened: Opened, cases: Sequence[CaseResult], earlier: Sequence[Proof]) -> list[Proof]:
    """Every objective of any game day. Only a run that ended as expected, and passed, proves something."""
    last: dict[tuple[str, str], str | None] = {(proof.experiment, proof.objective): proof.last_proven for proof in earlier}
    for case in cases:
        if case.expected not in ("", "pass"):  # a known-bad run proves only that the tool detects failures
            continue
        counts = case.status == "as expected"
        for objective, verdict in case.objectives.items():
            key = (case.experiment, objective)
            last[key] = opened.started_at if counts and verdict == "pass" else last.get(key)
    planned = {planned.experiment for planned in opened.plan}
    return [
        Proof(experiment=experiment, objective=objective, last_proven=at)
        for (experiment, objective), at in last.items()
        if experiment in planned
    ]


def age_days(proof: Proof, now: str) -> float | None:
    """Days since an objective was last proven, seen from `now` (ISO 8601, UTC); None: never."""
    if proof.last_proven is None:
        return None
    parse: Callable[[str], datetime] = datetime.fromisoformat
    return (parse(now) - parse(proof.last_proven)).total_seconds() / 86400
