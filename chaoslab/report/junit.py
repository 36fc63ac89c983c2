"""A result as JUnit XML, for machines that only know tests: one case an objective, one suite a run.

JUnit knows passed, failed, error and skipped. What could not be told is an *error* of type `inconclusive`, and so is a run
that was aborted: a machine must go red when nothing was proven, and `skipped` is green nearly everywhere.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Final

from chaoslab.errors import ExitCode
from chaoslab.report.words import VERDICTS, clean, exit_code_of, split_objective
from chaoslab.result import ObjectiveResult, Result

_TAGS: Final = {"fail": "failure", "inconclusive": "error", "aborted": "error", "error": "error"}
_NOT_IN_XML = dict.fromkeys((0xFFFE, 0xFFFF), "�")


def render_junit(result: Result) -> str:
    """The XML. One case for each objective, and `verdict` of `<experiment>.run`: red whenever the run did not pass."""
    cases = [_case_of(objective, result) for objective in result.objectives]
    cases.append(_case_of_run(result))
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


def _case_of(objective: ObjectiveResult, result: Result) -> ET.Element:
    service, name = split_objective(objective.id, result.services)
    case = _case(result, service or "run", name)
    _spoil(case, objective.verdict, f"{objective.measured}; wanted {objective.objective}", objective.why)
    return case


def _case_of_run(result: Result) -> ET.Element:
    case = _case(result, "run", "verdict")
    left = [f"left behind: {thing}" for thing in result.left_behind]
    _spoil(case, result.verdict, VERDICTS[result.verdict], "\n".join([*result.reasons, *left]))
    if result.verdict == "pass" and exit_code_of(result) is ExitCode.UNCLEAN:
        ET.SubElement(case, "error", type="cleanup", message=f"cleaning up is {result.cleanup}").text = xml_text(
            "\n".join(left)
        )
    ET.SubElement(case, "system-out").text = f"exit code {int(exit_code_of(result))}"
    return case


def _case(result: Result, service: str, name: str) -> ET.Element:
    time = f"{result.duration_s:.3f}" if (service, name) == ("run", "verdict") else "0.000"
    return ET.Element("testcase", classname=xml_text(f"{result.experiment}.{service}"), name=xml_text(name), time=time)


def _spoil(case: ET.Element, verdict: str, message: str, why: str) -> None:
    if verdict != "pass":
        ET.SubElement(case, _TAGS[verdict], type=verdict, message=xml_text(message)).text = xml_text(why)


def xml_text(text: str) -> str:
    """Only what XML 1.0 can hold; line breaks stay, other control codes go."""
    return clean(text).translate(_NOT_IN_XML)
