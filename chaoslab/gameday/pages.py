"""The pages of a game day: one page and a summary for people; JSON, JUnit, CTRF and Prometheus text for machines."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from chaoslab.errors import WORST_FIRST
from chaoslab.gameday.tally import VERDICT_OF, CaseResult, Measured, Night, age_days, by_experiment, outcome_of
from chaoslab.history.writer import write_whole
from chaoslab.report.junit import xml_text
from chaoslab.report.labels import clean, interval_in_words, split_objective
from chaoslab.units import format_s

INDEX, DATA, JUNIT, CTRF, SUMMARY, METRICS = "index.html", "night.json", "junit.xml", "ctrf.json", "summary.md", "metrics.prom"
SUMMARY_MAX = 1_000_000  # bytes; GitHub refuses a step summary above 1 MiB
_FIGURES, _NONE = ("RTO", "RPO", "failback"), "–"
_WHY_MAX = 500  # characters of it in the summary
SIGNS: Mapping[str, str] = {
    "as expected": "✔",
    "not as expected": "✘",
    "inconclusive": "?",
    "broken": "!",
    "not run": "–",
}
TONES: Mapping[str, str] = {
    "as expected": "good",
    "not as expected": "bad",
    "inconclusive": "warn",
    "broken": "bad",
    "not run": "warn",
}
_ABBREVIATED: Mapping[str, str] = {"rto": "RTO", "rpo": "RPO"}
_CTRF: Mapping[str, str] = {"as expected": "passed", "not as expected": "failed", "not run": "pending"}


def render(night: Night, before: Sequence[Night]) -> dict[str, bytes]:
    """Every page by file name. `before`: earlier game days of the same suite, the oldest first."""
    return {
        DATA: _json(night),
        INDEX: _html(night, before).encode(),
        JUNIT: _junit(night).encode(),
        CTRF: _json(_ctrf(night)),
        SUMMARY: _summary(night),
        METRICS: "".join(f"{line}\n" for line in _metrics(night)).encode(),
    }


def write(pages: Mapping[str, bytes], folder: Path) -> None:
    """Write the pages into a game day's folder, each completely or not at all. Raises EnvironmentFault if the disk is full."""
    for name, content in pages.items():
        write_whole(folder / name, content)


def read_night(folder: Path) -> Night | None:
    """The stored `night.json`; None if there is none that can be read."""
    try:
        return msgspec.json.decode((folder / DATA).read_bytes(), type=Night)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def age_text(days: float | None) -> str:
    """`this game day`, `1 day ago`, `9 days ago`, `never`."""
    if days is None:
        return "never"
    whole = round(days)
    return "this game day" if days == 0 else "less than a day ago" if whole < 1 else f"{whole} day{'s'[: whole > 1]} ago"


def took_text(seconds: float) -> str:
    """`48 s`, `3 min 20 s`, `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2) + b"\n"


def _html(night: Night, before: Sequence[Night]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("chaoslab.gameday", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.filters["took"] = took_text
    everything = [*before, night]
    services = {name for one in everything for case in one.cases for name in case.services}
    ages: dict[tuple[str, str], list[str]] = {}  # objectives of an experiment with the same age, the oldest first
    for proof in sorted(night.proofs, key=lambda proof: proof.last_proven or ""):
        age = age_text(age_days(proof, night.started_at))
        service, objective = split_objective(proof.objective, services)
        words = f"{_ABBREVIATED.get(objective, objective)} of {service}" if service else objective
        ages.setdefault((proof.experiment, age), []).append(words)
    repeated = {name: cases for name, cases in by_experiment(night.cases).items() if len(cases) > 1}
    return environment.get_template("night.html.j2").render(
        night=night,
        attention=[case for case in _worst_first(night.cases) if case.status != "as expected"],
        repeated={name: outcome_of(cases) for name, cases in repeated.items()},
        signs=SIGNS,
        tones=TONES,
        ages=ages,
        trends=list(_trends(night, before)),
        nights=[one.started_at for one in reversed(everything)],
    )


def _worst_first(cases: Sequence[CaseResult]) -> list[CaseResult]:
    """The worst first, otherwise in the order of the plan."""
    return sorted(cases, key=lambda case: WORST_FIRST.index(VERDICT_OF[case.status]))


@dataclass(frozen=True)
class Trend:
    """One experiment over the game days, the newest first. `longest`: of all services in this game day, by figure.

    `rows`: service, figure and its values; a dash where there was none.
    """

    experiment: str
    longest: Mapping[str, str]
    rows: Sequence[tuple[str, str, Sequence[str]]]


def _trends(night: Night, before: Sequence[Night]) -> Iterator[Trend]:
    everything = [night, *reversed(before)]
    for experiment in by_experiment(night.cases):
        ran = [[case for case in one.cases if case.experiment == experiment and case.services] for one in everything]
        found = [cases[-1].services if cases else {} for cases in ran]
        rows = []
        for service in dict.fromkeys(name for services in found for name in services):
            for figure in _FIGURES:
                values = [_figure(services.get(service, Measured()), figure)[1] for services in found]
                if any(value != _NONE for value in values):
                    rows.append((service, figure, values))
        if rows:
            longest = {
                figure: max((_figure(one, figure) for one in found[0].values()), default=(0, _NONE)) for figure in _FIGURES
            }
            yield Trend(experiment, {figure: text for figure, (_, text) in longest.items() if text != _NONE}, rows)


def _figure(measured: Measured, figure: str) -> tuple[float, str]:
    """Its upper end in seconds, for comparison, and its text; below all others if it was not measured."""
    if figure == "RPO":
        return (-1, _NONE) if measured.rpo_s is None else (measured.rpo_s, format_s(measured.rpo_s))
    interval = measured.rto_s if figure == "RTO" else measured.failback_s
    if interval is None:
        return -1, _NONE
    return math.inf if interval.high is None else interval.high, interval_in_words(interval)


def _junit(night: Night) -> str:
    """One test case for each run. A run that did not take place is an error, because most systems show `skipped` as green."""
    bad = {"not as expected": "failure", "inconclusive": "error", "broken": "error", "not run": "error"}
    suite = ET.Element(
        "testsuite",
        name=xml_text(f"chaoslab.gameday.{night.suite}"),
        tests=str(len(night.cases)),
        failures=str(night.counts["not as expected"]),
        errors=str(sum(night.counts[status] for status, tag in bad.items() if tag == "error")),
        skipped="0",
        time=f"{night.seconds:.3f}",
        timestamp=night.started_at[: len("2026-11-22T02:00:00")],
    )
    for case in night.cases:
        element = ET.SubElement(
            suite, "testcase", classname=xml_text(night.suite), name=xml_text(case.id), time=f"{case.seconds:.3f}"
        )
        if case.status in bad:
            wrong = ET.SubElement(element, bad[case.status], type=case.status, message=xml_text(case.why))
            wrong.text = xml_text("\n".join(case.reasons))
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _ctrf(night: Night) -> dict[str, Any]:
    """The Common Test Report Format, https://ctrf.io: an inconclusive or broken run is `other`."""
    tests = [
        {
            "name": case.id,
            "status": _CTRF.get(case.status, "other"),
            "duration": round(case.seconds * 1000),
            "message": case.why,
            "suite": [night.suite],
            "rawStatus": case.status,
        }
        for case in night.cases
    ]
    start = round(datetime.fromisoformat(night.started_at).timestamp() * 1000)
    counts = {status: sum(test["status"] == status for test in tests) for status in ("passed", "failed", "pending", "other")}
    return {
        "reportFormat": "CTRF",
        "specVersion": "0.0.0",
        "results": {
            "tool": {"name": "chaoslab", "version": night.chaoslab},
            "summary": {
                "tests": len(tests),
                **counts,
                "skipped": 0,
                "start": start,
                "stop": start + round(night.seconds * 1000),
            },
            "tests": tests,
        },
    }


def _summary(night: Night) -> bytes:
    """GitHub's step summary, the worst first. If it is too long, it is cut after a whole line, and says so."""
    lines = [
        f"## {_cell(night.title)}: {night.verdict}",
        "",
        ", ".join(f"{count} {status}" for status, count in night.counts.items() if count) or "nothing was planned",
        "",
        *([*(f"- {_cell(problem)}" for problem in night.problems), ""] if night.problems else []),
        "| | experiment | outcome | why | took |",
        "|---|---|---|---|---|",
    ]
    for case in _worst_first(night.cases):
        why = _cell(case.why if len(case.why) <= _WHY_MAX else f"{case.why[:_WHY_MAX]}…")
        lines.append(f"| {SIGNS[case.status]} | {_cell(case.id)} | {case.status} | {why} | {took_text(case.seconds)} |")
    if night.changes:
        lines += ["", "Changed since the last game day:", ""]
        lines += [f"- {_cell(one.experiment)}: {one.was or 'new'} → {one.now or 'gone'}" for one in night.changes]
    text = "\n".join(lines).encode() + b"\n"
    if len(text) <= SUMMARY_MAX:
        return text
    told = f"\n**This summary was truncated at {SUMMARY_MAX // 1000} kB; the whole of it is in {INDEX}.**\n".encode()
    return text[: text.rindex(b"\n", 0, SUMMARY_MAX - len(told)) + 1] + told


def _cell(text: str) -> str:
    """Text that can neither break a table cell nor be read as HTML."""
    plain = clean(text).replace("\n", " ").replace("|", "\\|")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _metrics(night: Night) -> Iterator[str]:
    """Prometheus' text format, for the node exporter's text-file collector."""
    yield "# HELP chaoslab_case_as_expected Whether a run of the game day ended as expected."
    yield "# TYPE chaoslab_case_as_expected gauge"
    for case in night.cases:
        labels = _labels(suite=night.suite, case=case.id, status=case.status)
        yield f"chaoslab_case_as_expected{labels} {int(case.status == 'as expected')}"
    yield "# HELP chaoslab_case_duration_seconds How long a run of the game day took."
    yield "# TYPE chaoslab_case_duration_seconds gauge"
    for case in night.cases:
        yield f"chaoslab_case_duration_seconds{_labels(suite=night.suite, case=case.id)} {case.seconds:.3f}"
    yield "# HELP chaoslab_rto_seconds The upper end of the measured recovery time; +Inf: no recovery was seen."
    yield "# TYPE chaoslab_rto_seconds gauge"
    for case in night.cases:
        for service, measured in case.services.items():
            if measured.rto_s is not None:
                high = "+Inf" if measured.rto_s.high is None else f"{measured.rto_s.high:.3f}"
                yield f"chaoslab_rto_seconds{_labels(suite=night.suite, case=case.id, service=service)} {high}"


def _labels(**labels: str) -> str:
    escaped = {key: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for key, value in labels.items()}
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped.items()) + "}"
