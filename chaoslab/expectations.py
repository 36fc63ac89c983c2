"""Known-bad experiments beside what they came to: does the tool go red, and for the stated reason? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from chaoslab.errors import ExitCode
from chaoslab.result import Result
from chaoslab.spec.model import Experiment
from chaoslab.verdict import as_expected

KNOWN_BAD = "known-bad"
TRIES = 3  # an inconclusive run says nothing about the stack; asking again is its cure


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment of a selftest. `untold`: it stayed inconclusive in every one of its `runs`."""

    name: str
    expected: str
    got: str
    outcome: Literal["as expected", "not as expected", "untold"]
    why: str
    runs: int
    clean: bool


def is_known_bad(experiment: Experiment) -> bool:
    """Whether a selftest runs it: tagged so, and it says what must fail."""
    return KNOWN_BAD in experiment.tags and experiment.expect is not None


def ask_again(results: Sequence[Result]) -> bool:
    """Whether the experiment has to run (once more) before it can be told."""
    return not results or (results[-1].verdict == "inconclusive" and len(results) < TRIES)


def compare(experiment: Experiment, results: Sequence[Result]) -> Compared:
    """What the last of its runs came to, beside what the experiment expects. Needs at least one run."""
    last = results[-1]
    fine, why = as_expected(last, experiment)
    untold = not fine and last.verdict == "inconclusive"
    expect = experiment.expect
    return Compared(
        name=last.experiment,
        expected=_in_words(expect.verdict if expect else "pass", expect.objectives if expect else []),
        got=_in_words(last.verdict, [one.id for one in last.objectives if one.verdict == last.verdict != "pass"]),
        outcome="untold" if untold else "as expected" if fine else "not as expected",
        why="; ".join([why, *last.reasons[:1]]) if untold else why,
        runs=len(results),
        clean=all(result.cleanup == "complete" for result in results),
    )


def exit_code_of(compared: Sequence[Compared]) -> ExitCode:
    """Pass only when all are as expected. One that is not outweighs one that could not be told, and that a poor clean-up."""
    outcomes = {one.outcome for one in compared}
    if "not as expected" in outcomes:
        return ExitCode.FAIL
    if "untold" in outcomes or not compared:
        return ExitCode.INCONCLUSIVE
    return ExitCode.PASS if all(one.clean for one in compared) else ExitCode.UNCLEAN


def _in_words(verdict: str, objectives: Sequence[str]) -> str:
    return f"{verdict}: {', '.join(objectives)}" if objectives else verdict
