"""What a run means to the business, in plain words: each function, what happened to it, and what was promised. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chaoslab.history.result import FaultResult, FunctionResult, Kept, Result
from chaoslab.report.labels import Tone
from chaoslab.spec.fault_types import fault_types

KEPT: Mapping[Kept, tuple[str, Tone]] = {
    "kept": ("kept", "good"),
    "broken": ("broken", "bad"),
    "unknown": ("not known", "warn"),
    "none": ("nothing promised", "quiet"),
}
_ALL_OF_IT = 0.95  # of the disruption: from then on a function did not work "at all"


@dataclass(frozen=True)
class Told:
    """One function. `kept` and its tone: whether the promise was kept."""

    title: str
    happened: str
    promised: str
    kept: str
    tone: Tone


def told(result: Result) -> dict[str, Told]:
    """Each function, by its journey."""
    return {
        journey: Told(found.title, happened(found), promised(found), *KEPT[found.kept])
        for journey, found in result.functions.items()
    }


def disruption(result: Result) -> str:
    """What was wrong, and for how long, as a sentence."""
    lasted_s = max((found.disrupted_s for found in result.functions.values()), default=0.0)
    if not result.faults and result.steps:
        return "In this rehearsal a planned change was made while users were served."
    if not lasted_s:
        return "Nothing was disrupted in this rehearsal."
    wrong = "; ".join(dict.fromkeys(map(_wrong, result.faults)))
    return f"In this rehearsal the disruption lasted {_time(lasted_s)}: {wrong}."


def _time(duration_s: float) -> str:
    """A duration in words: `2.5 s`, `45 s`, `2 min`, `2 min 5 s`."""
    minutes, rest_s = divmod(round(duration_s), 60)
    if duration_s < 10:
        return f"{duration_s:.1f} s".replace(".0 s", " s")
    return " ".join([f"{minutes} min"] * bool(minutes) + [f"{rest_s} s"] * bool(rest_s or not minutes))


def _wrong(fault: FaultResult) -> str:
    known = fault_types().get(fault.name)
    words = known.model.in_words if known else ""
    return (words or f"{fault.name} {{}}").format(fault.target).strip()


def happened(found: FunctionResult) -> str:
    """What its users saw, as sentences."""
    told = []
    if found.away_s:
        all_of_it = found.away_s >= _ALL_OF_IT * found.disrupted_s
        told.append("Did not work at all during the disruption" if all_of_it else f"Did not work for {_time(found.away_s)}")
    if found.later:
        done = "all of them were carried out" if not found.later_lost else f"{found.later_lost} of them never were"
        told.append(f"For {_time(found.later_s)} took requests to be carried out later ({found.later}): {done}")
    if found.lost and found.lost > found.later_lost:
        more = found.lost - found.later_lost
        told.append(f"Lost {more} confirmed {'entry' if more == 1 else 'entries'}")
    if found.later_after_s:
        told.append(f"After the disruption still took requests for later, for {_time(found.later_after_s)}")
    if found.away_after_s:
        began = "After the disruption did" if found.disrupted_s else "Did"
        told.append(f"{began} not work for {_time(found.away_after_s)}")
    if not told:
        told.append("Worked throughout")
    if found.used is False:
        told.append("Could have used its degraded mode, but did not need to, so this rehearsal shows nothing about that mode")
    return ". ".join(told) + "."


def promised(found: FunctionResult) -> str:
    """What its users may expect, as a sentence."""
    during = None if found.rto_s is None else _time(found.rto_s)
    after = None if found.failback_s is None else f"within {_time(found.failback_s)} after it"
    if found.mode == "allowed":
        return f"May be unavailable during a disruption; back {after or 'after it, at no promised time'}."
    if found.mode == "queued":
        takes = f"takes requests again within {during}" if during else "may take requests"
        later = f", and works as usual {after}" if after else ""
        return f"During a disruption {takes}, to be carried out later; carries out all of them{later}."
    parts = [f"within {during} during a disruption" if during else "", after or ""]
    return f"Back {' and '.join(filter(None, parts))}." if any(parts) else "Nothing."
