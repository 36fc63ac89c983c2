"""What a check says: a verdict and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from chaoslab.result import ObjectiveResult, ObjectiveVerdict

Said = tuple[ObjectiveVerdict, str]
PASS: Said = ("pass", "")
_WORST: tuple[ObjectiveVerdict, ...] = ("fail", "error", "inconclusive", "pass")


def fail(why: str) -> Said:
    return "fail", why


def inconclusive(why: str) -> Said:
    return "inconclusive", why


def worst(said: Sequence[Said]) -> Said:
    """The worst verdict, with each different reason for it."""
    verdict: ObjectiveVerdict = min((each for each, _ in said), key=_WORST.index, default="pass")
    reasons = "; ".join(dict.fromkeys(why for each, why in said if each == verdict and why))
    return verdict, reasons


def objective(id_: str, said: Said, measured: str, wanted: str) -> ObjectiveResult:
    verdict, why = said
    return ObjectiveResult(id=id_, verdict=verdict, measured=measured, objective=wanted, why=why)


def safely(id_: str, check: Callable[[], ObjectiveResult]) -> ObjectiveResult:
    """The check's answer; a check that crashes is an error under its own name, never a pass, and stops no other."""
    try:
        return check()
    except Exception as bug:
        return objective(id_, crashed(bug), "not judged", "")


def crashed(bug: Exception) -> Said:
    return "error", f"the judge broke: {type(bug).__name__}: {bug}{_place(bug.__traceback__)}"


def _place(trace: TracebackType | None) -> str:
    """Where it was raised: the function and its line."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" (in {trace.tb_frame.f_globals['__name__']}.{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno})"
