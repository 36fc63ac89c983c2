"""The same words for the same thing, wherever a person reads it: rows, ledgers, verdicts, intervals. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Literal

from chaoslab.errors import WORST_FIRST, Verdict
from chaoslab.history.result import DecisionResult, Interval, LedgerResult, Result
from chaoslab.history.rows import Abort, AnyRow, Condition, Decided, Fault, Note, Phase, PhaseRow, Start, Step
from chaoslab.units import format_s

Tone = Literal["plain", "good", "bad", "warn", "quiet"]

VERDICTS: Mapping[Verdict, str] = {
    "fail": "An objective was missed.",
    "error": "The harness or its environment failed; this shows nothing about the stack.",
    "aborted": "A safety limit ended the run.",
    "inconclusive": "The run does not show whether the objectives were met.",
    "pass": "Every objective was met.",
}
VERDICT_TONES: Mapping[str, Tone] = {
    "pass": "good",
    "fail": "bad",
    "inconclusive": "warn",
    "aborted": "warn",
    "error": "bad",
    "unjudged": "quiet",
}
PHASES: Mapping[Phase, str] = {
    "boot": "starting the stack",
    "steady": "checking the steady state",
    "faults": "running the fault timeline",
    "failback": "failing back",
    "drain": "waiting for the writers to finish",
    "verify": "reading the ledgers back",
    "down": "stopping the stack",
}
LEDGER_COUNTS: Mapping[str, str] = {  # the numbers of LedgerResult, in the order in which people read them
    "acked": "a success response was read in full",
    "rejected": "certainly not executed: refused, never sent, or answered with a status that means so",
    "indeterminate": "anything else, such as a timeout, a reset or a 5xx: it may or may not have been applied",
    "recovered": "indeterminate, but present at the end; for information",
    "lost": "acknowledged, or returned by some read, but missing at the end",
    "lost_after_fault": "lost writes acknowledged after the last fault or during a healed partition; no RPO allows them",
    "resurrected": "rejected, but present at the end",
    "unexpected": "present at the end, but never written",
    "duplicated": "present more often than it was attempted",
    "corrupt": "present, but with different content",
    "divergent": "the sites still disagree after settling",
    "stale": "missing from a read that began after its acknowledgement, but present at the end",
    "unverified": "acknowledged, but not covered by any final read",
}
NOT_FINDINGS = ("acked", "rejected", "indeterminate", "recovered")  # every other count should be zero
CLOCK_ENDS: Mapping[str, str] = {  # what ended a recovery clock
    "recovered": "recovery",
    "heal": "the heal of its fault, before recovery",
    "inject": "the next event, before recovery",
    "end": "the end of the run, before recovery",
    "cut": "the run was cut short",
}
_FAULT_EVENTS: Mapping[str, tuple[str, Tone]] = {
    "inject": ("injecting", "bad"),
    "effective": ("effect confirmed from outside", "bad"),
    "ineffective": ("no effect was seen", "warn"),
    "heal": ("healing", "plain"),
    "reconnected": ("started and connected again", "plain"),
    "healed": ("healed, confirmed from outside", "good"),
    "unhealed": ("could not be healed", "bad"),
}
_STEP_EVENTS: Mapping[str, tuple[str, Tone]] = {
    "begin": ("started", "plain"),
    "returned": ("returned", "plain"),
    "end": ("done", "good"),
    "failed": ("failed", "bad"),
    "undone": ("undone", "plain"),
}
_ROLES = {"steady": "", "failback": " (failback)", "fault": " (at the fault)", "bring-about": " (being established)"}
_NOTE_TONES: Mapping[str, Tone] = {"info": "quiet", "warning": "warn", "error": "bad", "interrupted": "warn", "blind": "warn"}
_SHOWN = 300  # characters of an answer
_CONTROL_CODES = {code: None for code in (*range(32), *range(127, 160)) if code != 10} | {9: " "}


@dataclass(frozen=True)
class Line:
    """An event in words."""

    text: str
    tone: Tone = "plain"


def clean(text: str) -> str:
    """Without control codes but line breaks (a hostile answer could repaint a terminal with them), and valid as UTF-8."""
    return text.translate(_CONTROL_CODES).encode(errors="replace").decode()


def one_line(text: str) -> str:
    """Clean, and with spaces for line breaks."""
    return clean(text).replace("\n", " ")


def shorten(text: str) -> str:
    """Its begin, which says what was asked for; the history has all of it."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def line_of(row: AnyRow) -> Line | None:
    """A row in words; None for kinds with thousands of rows, and for the ends of phases."""
    tone: Tone = "plain"
    match row:
        case PhaseRow(event="begin"):
            text = f"{row.phase}: {PHASES[row.phase]}"
        case Fault():
            words, tone = _FAULT_EVENTS[row.event]
            shown = {key: f"{value:.1f}" if isinstance(value, float) else value for key, value in row.detail.items()}
            detail = ", ".join(f"{key} {value}" for key, value in shown.items() if isinstance(value, str | int))
            text = f"fault {row.id}: {row.name} {row.target}: {words}" + (f" ({detail})" if detail else "")
        case Start(event="answers"):
            text, tone = f"{row.replica} answers again", "good"
        case Condition():
            text = f"condition {row.id} {'holds' if row.holds else 'does not hold'}{_ROLES[row.role]}: {shorten(row.observed)}"
            tone = "quiet" if row.holds else "warn"
        case Step():
            words, tone = _STEP_EVENTS[row.event]
            told = row.detail.get("why") or row.detail.get("target")
            if row.event == "returned" and (by := row.detail.get("by")):
                told = f"confirmed by {by}"
            elif row.event == "returned" and (declared_s := row.detail.get("declared_s")):
                told = f"{format_s(declared_s)} more are declared"
            text = f"{row.name} {row.id}: {words}" + (f": {told}" if told else "")
        case Abort():
            text, tone = f"abort: {row.condition}; observed: {row.observed}", "bad"
        case Decided():
            text, tone = f"ended: {', '.join(row.objectives)} had failed for good", "bad"
        case Note():
            text, tone = row.text if row.level == "info" else f"{row.level}: {row.text}", _NOTE_TONES[row.level]
        case _:
            return None
    return Line(text, tone)


def interval_in_words(interval: Interval | None) -> str:
    """`24.1 to 24.3 s`, `at least 50.0 s` when its end was not observed, `none` without a bad slot."""
    if interval is None:
        return "none"
    if interval.high is None:
        return f"at least {format_s(interval.low)}"
    if interval.high == 0:
        return "0 s"
    if interval.high < 1:
        return f"{interval.low * 1000:.0f} to {interval.high * 1000:.0f} ms"
    return f"{interval.low:.1f} to {interval.high:.1f} s"


def decision_in_words(decision: DecisionResult) -> str:
    """`talk after fire: 23.00 s = detect 19.80 s + decide 0.20 s + act 1.90 s + verify 1.10 s`, or why there is no split."""
    about = f"{decision.service} after {decision.cause}"
    if decision.why:
        return f"{about}: no split: {decision.why}"
    parts = {"detect": decision.detect_s, "decide": decision.decide_s, "act": decision.act_s, "verify": decision.verify_s}
    told = [f"{name} {seconds:.2f} s" for name, seconds in parts.items() if seconds is not None]
    declared = [f"declared {format_s(decision.declared_s)}"] if decision.declared_s else []
    by = " (by hand)" if decision.by == "hand" else ""
    return f"{about}{by}: {decision.total_s or 0.0:.2f} s = {' + '.join([*told, *declared])}"


def ledger_in_words(ledger: LedgerResult) -> str:
    """One line: the counts, then every finding; `no findings` when there is none."""
    counts: dict[str, int] = {name: getattr(ledger, name) for name in LEDGER_COUNTS}
    counted = ", ".join(f"{counts[name]} {name}" for name in NOT_FINDINGS)
    findings = (f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count and name not in NOT_FINDINGS)
    return f"{counted}; {', '.join(findings) or 'no findings'}"


def without_ledger(result: Result) -> list[str]:
    """The services of which it is not known whether they lost writes: their RPO was not measured."""
    return [service for service in result.services if service not in result.ledger]


def reasons_in_short(result: Result) -> list[str]:
    """Why the verdict is not pass, without the details in the table of objectives: `fail: pay.rto, pay.rpo`."""
    in_table = {f"{objective.id}: {objective.why}" for objective in result.objectives}
    reasons = [reason for reason in result.reasons if reason not in in_table]
    for verdict in WORST_FIRST:
        ids = [objective.id for objective in result.objectives if objective.verdict == verdict]
        if ids and verdict != "pass":
            reasons.append(f"{verdict}: {', '.join(ids)}")
    return reasons


def split_objective(id_: str, services: Container[str]) -> tuple[str, str]:
    """Service and objective in an id such as `talk.rto`; the service is empty in `steady-state` and `fault.fire`."""
    service, _, objective = id_.rpartition(".")
    return (service, objective) if service in services else ("", id_)
