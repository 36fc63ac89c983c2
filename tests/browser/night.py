"""A game day of real runs on the mini stack, and the game days before it, which only their stored results tell of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from mini_stack import MINI, start_chaoslab

from chaoslab.clock import utc_now
from chaoslab.gameday import pages
from chaoslab.gameday.tally import CaseResult, Change, Measured, Night, Proof, Status
from chaoslab.history.result import Interval

SUITE = "all"
FIRE = (MINI / "pass.yaml").read_text().replace("stack: compose.yaml", f"stack: {MINI / 'compose.yaml'}")
CALM = FIRE.replace("heal_after: 4s", "heal_after: 6s").replace("The mini stack loses east", "East burns and comes back")
# Frozen for seconds: a single second may be starved on a busy machine, and would excuse a shorter outage.
MISSED = CALM.replace("site.power-loss, site: east", "service.pause, service: app") + "objectives: {app: {unaffected: true}}\n"
EXPERIMENTS = {
    "calm": CALM,
    "drill": CALM.replace("heal_after: 6s", "heal_after: 15m"),  # takes longer than the budget
    "late": MISSED + "tags: [known-bad]\nexpect: {verdict: fail, objectives: [app.rto]}\n",
    "missed": MISSED,
    "unsettled": CALM.replace("within: 20s, journeys", "within: 3s, journeys").replace('"< 400ms"', '"< 0.001ms"'),
}
EXPECTED: dict[str, Status] = {
    "calm": "as expected",
    "drill": "not run",
    "late": "as expected",
    "missed": "not as expected",
    "unsettled": "inconclusive",
}


@dataclass(frozen=True)
class Played:
    """A game day that is over: its exit code, what it printed, and its folder."""

    code: int
    night: dict[str, Any]
    err: str
    folder: Path

    def result(self, case: str) -> dict[str, Any]:
        """`result.json` of a run, by the id of its case."""
        report = next(one["report"] for one in self.night["cases"] if one["id"] == case)
        found: dict[str, Any] = json.loads((self.folder / report).with_name("result.json").read_text())
        return found


def play(project: Path) -> Played:
    """Nine days and one day ago there were game days; now there is a real one, as `chaoslab gameday` plays it."""
    suites = project / "experiments" / "gameday"
    suites.mkdir(parents=True)
    for name, text in EXPERIMENTS.items():
        (project / "experiments" / f"{name}.yaml").write_text(text)
    suite = "title: All of it\nruntime: embedded\nbudget: 10m\nexperiments: [{glob: '*'}]\n"
    (suites / f"{SUITE}.yaml").write_text(f"# Everything holds, every night.\n{suite}")
    store_earlier(project / "runs" / "gameday" / SUITE)
    child = start_chaoslab(project, "gameday", SUITE, "--json")
    out, err = child.communicate(timeout=200)
    return Played(child.returncode, json.loads(out), err, (project / "runs" / "gameday" / SUITE / "latest").resolve())


def store_earlier(folder: Path) -> None:
    """The longer ago, the better it was: `missed` passed nine days ago, and a day ago it was repeated and was flaky."""
    for days, first, second in ((9, "as expected", "as expected"), (1, "not as expected", "as expected")):
        at = utc_now() - timedelta(days=days)
        proven = (utc_now() - timedelta(days=9)).isoformat(timespec="seconds")
        cases = [case("calm", "as expected", 1.1), case("missed", first, 1.2), case("missed", second, 1.3, repeat=2)]
        proofs = [Proof(experiment="missed", objective=f"app.{what}", last_proven=proven) for what in ("rpo", "rto")]
        there = folder / at.strftime("%Y-%m-%dT%H-%M-%SZ")
        there.mkdir(parents=True)
        (there / pages.DATA).write_bytes(msgspec.json.encode(night_of(at.isoformat(timespec="seconds"), cases, proofs=proofs)))


def case(experiment: str, status: Status, rto_s: float, *, repeat: int = 1) -> CaseResult:
    """A run that is told of."""
    return CaseResult(
        id=experiment if repeat == 1 else f"{experiment}#{repeat}",
        experiment=experiment,
        title="East burns and comes back",
        status=status,
        expected="pass",
        verdict="pass" if status == "as expected" else "fail: app.rto",
        why="" if status == "as expected" else "expected pass, came to fail: app.rto",
        seconds=20.0,
        runtime="embedded",
        services={"app": Measured(rto_s=Interval(rto_s, rto_s + 0.2, 5.0), failback_s=Interval(8.0, None, 10.0), rpo_s=0.0)},
    )


def night_of(
    at: str, cases: list[CaseResult], *, proofs: list[Proof] | None = None, changes: list[Change] | None = None
) -> Night:
    """A game day of such runs."""
    counts: dict[str, int] = {status: sum(one.status == status for one in cases) for status in pages.SIGNS}
    return Night(
        suite=SUITE,
        title="All of it",
        purpose="Everything holds, every night.",
        started_at=at,
        seconds=sum(one.seconds for one in cases),
        runtime="embedded",
        chaoslab="0",
        verdict="fail" if counts["not as expected"] else "pass",
        counts=counts,
        cases=cases,
        changes=changes or [],
        proofs=proofs or [],
        spec_sha256={},
    )
