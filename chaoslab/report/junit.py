"""A result as JUnit XML, for CI systems: one test case for each objective, one suite for the run.

JUnit has passed, failed, error and skipped. An inconclusive objective is an *error* of that type, and so is an aborted
run: CI must fail when nothing was proven, and most systems show `skipped` as green.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Final

from chaoslab.errors import ExitCode, Verdict, exit_code_of
from chaoslab.history.result import Result
from chaoslab.report.labels import VERDICTS, clean, split_objective

_TAGS: Final = {"fail": "failure", "inconclusive": "error", "aborted": "error", "error": "error"}
_NOT_IN_XML = dict.fromkeys((0xFFFE, 0xFFFF), "�")


def render_junit(result: Result) -> str:
    """The XML. One case for each objective, and a case `verdict` of `<experiment>.run` that fails if the run did not pass."""
    cases = []
    for objective in result.objectives:
        service, name = split_objective(objective.id, result.services)
        cases.append(_case(result, service or "run", name))
        _mark(cases[-1], objective.verdict, f"{objective.measured}; objective: {objective.objective}", objective.why)
    run = _case(result, "run", "verdict", time=f"{result.duration_s:.3f}")
    cases.append(run)
    left = [f"left behind: {thing}" for thing in result.left_behind]
    _mark(run, result.verdict, VERDICTS[result.verdict], "\n".join([*result.reasons, *left]))
    if result.verdict == "pass" and exit_code_of(result) is ExitCode.UNCLEAN:
        error = ET.SubElement(run, "error", type="cleanup", message=f"cleanup is {result.cleanup}")
        error.text = xml_text("\n".join(left))
    ET.SubElement(run, "system-out").text = f"exit code {int(exit_code_of(result))}"
    counts = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error")}
    suite = ET.Element(
        "testsuite",
        name=xml_text(f"chaoslab.{result.experiment}"),
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped="0",
        time=f"{result.duration_s:.3f}",
        timestamp=result.started_at[: len("2026-11-22T02:00:00")],
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in {"runtime": result.runtime, "verdict": result.verdict, **result.versions}.items():
        ET.SubElement(properties, "property", name=xml_text(name), value=xml_text(value))
    suite.extend(cases)
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    xml = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}\n'


def _case(result: Result, service: str, name: str, time: str = "0.000") -> ET.Element:
    return ET.Element("testcase", classname=xml_text(f"{result.experiment}.{service}"), name=xml_text(name), time=time)


def _mark(case: ET.Element, verdict: Verdict, message: str, why: str) -> None:
    """Give the case its failure or error, unless it passed."""
    if verdict != "pass":
        ET.SubElement(case, _TAGS[verdict], type=verdict, message=xml_text(message)).text = xml_text(why)


def xml_text(text: str) -> str:
    """Only what XML 1.0 can hold; line breaks are kept, other control codes are removed."""
    return clean(text).translate(_NOT_IN_XML)
