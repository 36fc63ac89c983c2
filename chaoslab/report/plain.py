"""Fallback reports, for when drawing the full ones fails: the verdict and its reasons, with as little code as possible."""

from __future__ import annotations

import html
import xml.etree.ElementTree as ET

from chaoslab.history.result import Result
from chaoslab.report.junit import xml_text
from chaoslab.report.labels import clean


def page(result: Result) -> str:
    """A page with the verdict, its reasons and what was left behind."""
    title = html.escape(clean(f"{result.experiment}: {result.verdict}"))
    reasons = "\n".join(f"<li>{html.escape(clean(reason))}</li>" for reason in _reasons(result))
    head = f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title></head>\n'
    return f"{head}<body>\n<h1>{title}</h1>\n<ul>\n{reasons}\n</ul>\n</body>\n</html>\n"


def junit(result: Result) -> str:
    """One test case, which failed."""
    failed, time = result.verdict == "fail", f"{result.duration_s:.3f}"
    suite = ET.Element(
        "testsuite",
        name=xml_text(f"chaoslab.{result.experiment}"),
        tests="1",
        failures=str(int(failed)),
        errors=str(int(not failed)),
        skipped="0",
        time=time,
    )
    case = ET.SubElement(suite, "testcase", classname=xml_text(f"{result.experiment}.run"), name="verdict", time=time)
    outcome = ET.SubElement(case, "failure" if failed else "error", type=result.verdict, message=result.verdict)
    outcome.text = xml_text("\n".join(_reasons(result)))
    suites = ET.Element("testsuites")
    suites.append(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _reasons(result: Result) -> list[str]:
    return [*result.reasons, *(f"left behind: {thing}" for thing in result.left_behind)]
