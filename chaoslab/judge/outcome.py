"""The outcome of a check: a verdict and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chaoslab.errors import WORST_FIRST
from chaoslab.history.result import ObjectiveResult, ObjectiveVerdict

Outcome = tuple[ObjectiveVerdict, str]
PASS: Outcome = ("pass", "")


def fail(why: str) -> Outcome:
    return "fail", why


def inconclusive(why: str) -> Outcome:
    return "inconclusive", why


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The worst verdict, with each different reason for it."""
    verdict: ObjectiveVerdict = min((each for each, _ in outcomes), key=WORST_FIRST.index, default="pass")
    reasons = "; ".join(dict.fromkeys(why for each, why in outcomes if each == verdict and why))
    return verdict, reasons


def objective(id_: str, outcome: Outcome, measured: str, wanted: str) -> ObjectiveResult:
    verdict, why = outcome
    return ObjectiveResult(id=id_, verdict=verdict, measured=measured, objective=wanted, why=why)


def safely(id_: str, check: Callable[[], ObjectiveResult]) -> ObjectiveResult:
    """The check's result; a check that crashes is an error under its own id, never a pass, and does not stop the others."""
    try:
        return check()
    except Exception as bug:
        return objective(id_, crashed(bug), "not judged", "")


def crashed(bug: Exception) -> Outcome:
    """An error that names the function and line where this was raised."""
    trace, place = bug.__traceback__, ""
    while trace is not None:
        place = f" (in {trace.tb_frame.f_globals['__name__']}.{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return "error", f"the judge broke: {type(bug).__name__}: {bug}{place}"
