"""JUnit XML, as machines read it."""

import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest
import xmlschema
from synthetic_runs import aborted, failing, inconclusive, passing

from chaoslab.history.result import ObjectiveResult, Result
from chaoslab.report.junit import render_junit

SCHEMA = xmlschema.XMLSchema(Path(__file__).with_name("junit.xsd"))
HOSTILE = "]]></failure><evil a='\"'>&\x1b[2J\x00￾\ud800 $x"


def suite_of(result: Result) -> ET.Element:
    xml = render_junit(result)
    SCHEMA.validate(xml)
    suite = ET.fromstring(xml.encode()).find("testsuite")  # noqa: S314 -- our own XML
    assert suite is not None
    return suite


def outcome(suite: ET.Element, classname: str, name: str) -> tuple[str, str | None]:
    case = next(case for case in suite.iter("testcase") if (case.get("classname"), case.get("name")) == (classname, name))
    bad = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
    return ("passed", None) if bad is None else (bad.tag, bad.get("type"))


def test_one_case_for_each_objective_and_service() -> None:
    """A failed run has its failures where they belong, and counts that add up."""
    result = failing().result
    suite = suite_of(result)
    assert outcome(suite, "idc-fire.pay", "rto") == ("failure", "fail")
    assert outcome(suite, "idc-fire.talk", "rto") == ("passed", None)
    assert outcome(suite, "idc-fire.run", "fault.fire") == ("passed", None)
    assert outcome(suite, "idc-fire.run", "verdict") == ("failure", "fail")
    assert suite.get("tests") == str(len(list(suite.iter("testcase")))) == str(len(result.objectives) + 1)
    assert suite.get("failures") == "3"
    assert suite.get("errors") == "0"


def test_a_pass_is_green() -> None:
    """Nothing red in a run that passed."""
    suite = suite_of(passing().result)
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("0", "0", "0")


@pytest.mark.parametrize("make", [inconclusive, aborted], ids=lambda make: make.__name__)
def test_what_was_not_proven_is_red(make: type) -> None:
    """Inconclusive and aborted runs are errors, never skipped: skipped is green nearly everywhere."""
    result = make().result
    suite = suite_of(result)
    assert outcome(suite, "idc-fire.run", "verdict") == ("error", result.verdict)
    assert suite.get("errors") != "0"


def test_a_pass_that_left_something_behind_is_red() -> None:
    """The verdict stands, and the machine still has to look."""
    result = msgspec.structs.replace(passing().result, cleanup="incomplete", left_behind=["process 4711"])
    assert outcome(suite_of(result), "idc-fire.run", "verdict") == ("error", "cleanup")


def test_hostile_strings_stay_text() -> None:
    """Whatever ids and answers hold, the XML stays valid and gains no element."""
    objective = ObjectiveResult(id=f"{HOSTILE}.rto", verdict="fail", measured=HOSTILE, objective=HOSTILE, why=HOSTILE)
    result = failing().result
    result = msgspec.structs.replace(
        result,
        services={HOSTILE: result.services["pay"]},
        objectives=[objective],
        reasons=[HOSTILE],
        versions={HOSTILE: HOSTILE},
    )
    suite = suite_of(result)
    assert {element.tag for element in suite.iter()} <= {
        "testsuite",
        "properties",
        "property",
        "testcase",
        "failure",
        "system-out",
    }
    assert "<evil" in next(suite.iter("failure")).get("message", "")


def test_fractions_of_a_second_do_not_break_the_timestamp() -> None:
    """JUnit's timestamps are whole seconds without a zone."""
    suite = suite_of(msgspec.structs.replace(passing().result, started_at="2026-11-22T02:00:00.123456+00:00"))
    assert suite.get("timestamp") == "2026-11-22T02:00:00"


def test_the_schema_can_refuse() -> None:
    """The check itself is no rubber stamp."""
    xml = render_junit(failing().result)
    for broken in (
        xml.replace("<failure", "<failed").replace("</failure", "</failed"),
        xml.replace(' classname="idc-fire.run"', ""),
    ):
        with pytest.raises(xmlschema.XMLSchemaValidationError):
            SCHEMA.validate(broken)
