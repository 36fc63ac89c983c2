"""What a selftest runs, and its outcome: is every known-bad stack detected, is a known outage measured correctly? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from chaoslab.errors import ExitCode
from chaoslab.history.result import Result
from chaoslab.judge.verdict import as_expected
from chaoslab.spec.model import Experiment

KNOWN_BAD, INSTRUMENT = "known-bad", "instrument"
SLOTS_OFF_MAX = 2  # how far the prober may be off where the length of an outage is known
TRIES = 3  # an inconclusive run says nothing about the stack; asking again is its cure


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment of a selftest and its outcome. `untold`: each of its `runs` was inconclusive, or it cannot run here."""

    name: str
    expected: str
    got: str
    outcome: Literal["as expected", "not as expected", "untold"]
    why: str
    runs: int
    clean: bool


def in_selftest(experiment: Experiment) -> bool:
    """Whether a selftest runs it: known to be bad, and it says what must fail; or there to check the prober."""
    return (KNOWN_BAD in experiment.tags and experiment.expect is not None) or INSTRUMENT in experiment.tags


def ask_again(results: Sequence[Result]) -> bool:
    """Whether the experiment has to run (once more) before its outcome is decided."""
    return not results or (results[-1].verdict == "inconclusive" and len(results) < TRIES)


def compare(experiment: Experiment, results: Sequence[Result]) -> Compared:
    """What the last of its runs came to, beside what the experiment expects. Needs at least one run."""
    last = results[-1]
    fine, why = as_expected(last, experiment)
    if fine and INSTRUMENT in experiment.tags and (wrong := misread(last, 1 / experiment.probe.slots_per_s)):
        fine, why = False, "; ".join(wrong)
    untold = not fine and last.verdict == "inconclusive"
    return Compared(
        name=last.experiment,
        expected=_expected(experiment),
        got=_in_words(last.verdict, [missed.id for missed in last.objectives if missed.verdict == last.verdict != "pass"]),
        outcome="untold" if untold else "as expected" if fine else "not as expected",
        why="; ".join([why, *last.reasons[:1]]) if untold else why,
        runs=len(results),
        clean=all(result.cleanup == "complete" for result in results),
    )


def not_run(experiment: Experiment, why: str) -> Compared:
    """An experiment that this machine or runtime cannot run."""
    return Compared(
        name=experiment.name,
        expected=_expected(experiment),
        got="not run",
        outcome="untold",
        why=why,
        runs=0,
        clean=True,
    )


def misread(result: Result, period_s: float) -> list[str]:
    """What the prober got wrong, in words, of an outage that is as long as the only fault of the run.

    That lasted from its effect to its heal, each of which took a moment. Every journey has to show one outage whose interval
    holds the truth and ends within `SLOTS_OFF_MAX` periods of it.
    """
    if len(result.faults) != 1 or not result.journeys:
        return ["a known outage needs exactly one fault and a probed journey"]
    fault = result.faults[0]
    if fault.effective_s is None or fault.heal_s is None or fault.healed_s is None:
        return [f"{fault.name} was not observed from start to end"]
    least_s, most_s = fault.heal_s - fault.effective_s, fault.healed_s - fault.inject_s
    off_s = SLOTS_OFF_MAX * period_s
    wrong = []
    for name, journey in result.journeys.items():
        seen = [(outage.low_s, outage.high_s) for outage in journey.outages]
        ended = all(outage.ended for outage in journey.outages)
        if len(seen) != 1 or not ended or not (seen[0][0] <= most_s and least_s - off_s <= seen[0][1] <= most_s + off_s):
            measured = ", ".join(f"{low:.2f}..{high:.2f} s" for low, high in seen) or "no outage"
            wrong.append(f"{name} measured {measured}, and it was {least_s:.2f}..{most_s:.2f} s")
    return wrong


def selftest_exit_code(compared: Sequence[Compared]) -> ExitCode:
    """Pass only when all are as expected; an unexpected outcome outweighs an undecided one, and that an incomplete clean-up."""
    outcomes = {experiment.outcome for experiment in compared}
    if "not as expected" in outcomes:
        return ExitCode.FAIL
    if "untold" in outcomes or not compared:
        return ExitCode.INCONCLUSIVE
    return ExitCode.PASS if all(experiment.clean for experiment in compared) else ExitCode.UNCLEAN


def _expected(experiment: Experiment) -> str:
    expect = experiment.expect
    return "pass" if expect is None else _in_words(expect.verdict, expect.objectives)


def _in_words(verdict: str, objectives: Sequence[str]) -> str:
    return f"{verdict}: {', '.join(objectives)}" if objectives else verdict
