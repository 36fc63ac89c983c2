"""The same plain words for the same thing, wherever a person reads it: rows, ledger buckets, verdicts, intervals. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from chaoslab.errors import ExitCode
from chaoslab.events import Abort, AnyRow, Condition, Fault, Note, Phase, PhaseRow, Step
from chaoslab.result import Interval, LedgerResult, Result
from chaoslab.spec.model import Verdict
from chaoslab.units import format_s

Tone = Literal["plain", "good", "bad", "warn", "quiet"]

VERDICTS: Mapping[str, str] = {  # the worst first
    "fail": "An objective was missed.",
    "error": "The harness or its environment broke; this says nothing about the stack.",
    "aborted": "A safety limit ended the run.",
    "inconclusive": "It could not be told.",
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
    "boot": "bringing the stack up",
    "steady": "proving the steady state",
    "faults": "letting the faults play",
    "failback": "failing back",
    "drain": "letting the writers finish",
    "verify": "reading every ledger back",
    "down": "taking the stack down",
}
BUCKETS: Mapping[str, str] = {  # the numbers of LedgerResult, in the order in which people read them
    "acked": "a success answer was read whole",
    "rejected": "proof that nothing was executed: refused, never sent, or a status that says so",
    "indeterminate": "anything else: a timeout, a reset, a 5xx; it may have been applied or not",
    "recovered": "indeterminate, and there in the end; for information",
    "lost": "acknowledged, or shown by some read, and gone in the end",
    "lost_after_fault": "of the lost, those acknowledged after the last fault or under a healed partition; no RPO excuses them",
    "resurrected": "rejected, and there in the end",
    "unexpected": "there in the end, though nobody wrote it",
    "duplicated": "there more often than it was tried",
    "corrupt": "there, with another content than was written",
    "divergent": "the sites disagree after settling",
    "stale": "missing from a read that began after its acknowledgement, there in the end",
    "unverified": "acknowledged, and no final read covers it",
}
CLOCK_ENDS: Mapping[str, str] = {  # what ended a recovery clock
    "recovered": "recovery",
    "heal": "its own heal, before it was back",
    "inject": "the next event, before it was back",
    "end": "the end of the run, before it was back",
    "cut": "the run was cut",
}
COUNTED = ("acked", "rejected", "indeterminate", "recovered")  # facts; all other buckets are findings
_VERDICT_EXITS: Mapping[Verdict, ExitCode] = {
    "pass": ExitCode.PASS,
    "fail": ExitCode.FAIL,
    "inconclusive": ExitCode.INCONCLUSIVE,
    "aborted": ExitCode.ABORTED,
    "error": ExitCode.ERROR,
}
_FAULT_EVENTS: Mapping[str, tuple[str, Tone]] = {
    "inject": ("injecting", "bad"),
    "effective": ("seen to bite from outside", "bad"),
    "ineffective": ("no effect was seen", "warn"),
    "heal": ("healing", "plain"),
    "healed": ("healed, seen from outside", "good"),
    "unhealed": ("could not be healed", "bad"),
}
_ROLES = {"steady": "", "failback": " (failback)", "fault": " (at the fault)", "bring-about": " (being brought about)"}
_NOTE_TONES: Mapping[str, Tone] = {"info": "quiet", "warning": "warn", "error": "bad", "interrupted": "warn", "blind": "warn"}
_CONTROL_CODES = {code: None for code in (*range(32), *range(127, 160)) if code != 10} | {9: " "}


@dataclass(frozen=True)
class Line:
    """One thing that happened, in words."""

    text: str
    tone: Tone = "plain"


def exit_code_of(result: Result) -> ExitCode:
    """What a process that ran this should exit with."""
    if result.cleanup == "incomplete" or result.left_behind:
        return ExitCode.UNCLEAN
    return ExitCode.INTERRUPTED if result.interrupted else _VERDICT_EXITS[result.verdict]


def clean(text: str) -> str:
    """Without control codes but line breaks (a hostile answer could repaint a terminal with them), and valid as UTF-8."""
    return text.translate(_CONTROL_CODES).encode(errors="replace").decode()


def one_line(text: str) -> str:
    """Clean, and with spaces for line breaks."""
    return clean(text).replace("\n", " ")


def line_of(row: AnyRow) -> Line | None:
    """What a row means to a person; None for rows that come by the thousand and for the ends of phases."""
    if isinstance(row, PhaseRow):
        return Line(f"{row.phase}: {PHASES[row.phase]}") if row.event == "begin" else None
    return _LINES[type(row)](row) if type(row) in _LINES else None


def _fault_line(row: Fault) -> Line:
    words, tone = _FAULT_EVENTS[row.event]
    return Line(f"fault {row.id}: {row.name} {row.target}: {words}{_in_brackets(row.detail)}", tone)


def _condition_line(row: Condition) -> Line:
    holds = "holds" if row.holds else "does not hold"
    return Line(f"condition {row.id} {holds}{_ROLES[row.role]}: {row.observed}", "quiet" if row.holds else "warn")


def _step_line(row: Step) -> Line:
    return Line(f"{row.name} {row.id}: {'called' if row.event == 'begin' else 'done'}")


def _note_line(row: Note) -> Line:
    return Line(("" if row.level == "info" else f"{row.level}: ") + row.text, _NOTE_TONES[row.level])


_LINES: Mapping[type, Callable[[Any], Line]] = {
    Fault: _fault_line,
    Condition: _condition_line,
    Step: _step_line,
    Abort: lambda row: Line(f"abort: {row.condition}; seen: {row.observed}", "bad"),
    Note: _note_line,
}


def interval_in_words(interval: Interval | None) -> str:
    """`24.1 to 24.3 s`, `at least 50.0 s` when it never ended while we looked, `none` without a bad slot."""
    if interval is None:
        return "none"
    if interval.high is None:
        return f"at least {format_s(interval.low)}"
    if interval.high == 0:
        return "0 s"
    if interval.high < 1:
        return f"{interval.low * 1000:.0f} to {interval.high * 1000:.0f} ms"
    return f"{interval.low:.1f} to {interval.high:.1f} s"


def ledger_in_words(ledger: LedgerResult) -> str:
    """One line: what was counted, then every finding; `nothing wrong` when there is none."""
    counted = ", ".join(f"{getattr(ledger, bucket)} {bucket}" for bucket in COUNTED)
    findings = [f"{count} {bucket.replace('_', ' ')}" for bucket, count in _findings_of(ledger).items()]
    return f"{counted}; {', '.join(findings) or 'nothing wrong'}"


def _findings_of(ledger: LedgerResult) -> dict[str, int]:
    """The buckets that should be empty and are not."""
    return {bucket: getattr(ledger, bucket) for bucket in BUCKETS if bucket not in COUNTED and getattr(ledger, bucket)}


def in_short(result: Result) -> list[str]:
    """Why the verdict is not pass, without what the table of objectives says at length: `fail: pay.rto, pay.rpo`."""
    missed = {
        verdict: [objective.id for objective in result.objectives if objective.verdict == verdict]
        for verdict in VERDICTS
        if verdict != "pass"
    }
    said = {f"{objective.id}: {objective.why}" for objective in result.objectives}
    return [
        *(reason for reason in result.reasons if reason not in said),
        *(f"{verdict}: {', '.join(ids)}" for verdict, ids in missed.items() if ids),
    ]


def split_objective(id_: str, services: Container[str]) -> tuple[str, str]:
    """Service and objective in an id such as `talk.rto`; the service is empty in `steady-state` and `fault.fire`."""
    service, _, objective = id_.rpartition(".")
    return (service, objective) if service in services else ("", id_)


def _short(value: str | float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _in_brackets(detail: Mapping[str, object]) -> str:
    plain = [f"{key} {_short(value)}" for key, value in detail.items() if isinstance(value, str | int | float)]
    return f" ({', '.join(plain)})" if plain else ""
