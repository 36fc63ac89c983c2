"""The files of a game day for machines and for GitHub, held against their formats."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import datetime
from typing import Any

import jsonschema
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chaoslab.gameday import pages
from chaoslab.gameday.journal import Opened
from chaoslab.gameday.tally import CaseResult, Measured, Night, tally
from chaoslab.history.result import Interval

# What the Common Test Report Format asks for (https://ctrf.io), as far as we write it.
NUMBER, TEXT, NAME = {"type": "integer"}, {"type": "string"}, {"type": "string", "minLength": 1}
STATUSES = ["passed", "failed", "skipped", "pending", "other"]


def record(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object that has all of these, maybe some of those, and nothing else."""
    properties = required | optional
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


TEST = record(
    {"name": NAME, "status": {"enum": STATUSES}, "duration": NUMBER},
    message=TEXT,
    suite={"type": "array", "minItems": 1, "items": TEXT},
    rawStatus=TEXT,
)
SUMMARY = record(dict.fromkeys(("tests", *STATUSES, "start", "stop"), NUMBER))
TOOL = record({"name": NAME}, version=TEXT)
CTRF = record(
    {
        "reportFormat": {"const": "CTRF"},
        "specVersion": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
        "results": record({"tool": TOOL, "summary": SUMMARY, "tests": {"type": "array", "items": TEST}}),
    }
)
STATUS_OF = ("as expected", "not as expected", "inconclusive", "broken", "not run")


def case(number: int) -> CaseResult:
    """A run that was told of, the next in a long night."""
    return CaseResult(
        id=f"experiment-{number}",
        experiment=f"experiment-{number}",
        title="A site is lost",
        status=STATUS_OF[number % len(STATUS_OF)],
        expected="pass",
        verdict="pass",
        why='because of 50% \\ "quotes"\nand | bars <b>',
        seconds=12.3456,
    )


def night_of(cases: list[CaseResult]) -> Night:
    opened = Opened(
        suite="all",
        title="All",
        purpose="",
        runtime="embedded",
        started_at="2026-11-26T02:00:00+00:00",
        chaoslab="0.1",
        plan=[],
    )
    counts: dict[str, int] = {status: sum(one.status == status for one in cases) for status in STATUS_OF}
    return msgspec.structs.replace(tally(opened, {}), verdict="fail", cases=cases, counts=counts, seconds=60.0)


def assert_ctrf(document: Any) -> None:
    """By its schema, and by what a schema cannot say: the counts are those of the tests."""
    jsonschema.validate(document, CTRF)
    results = document["results"]
    statuses = [test["status"] for test in results["tests"]]
    assert {name: results["summary"][name] for name in STATUSES} == {name: statuses.count(name) for name in STATUSES}
    assert results["summary"]["tests"] == len(statuses)
    assert results["summary"]["start"] <= results["summary"]["stop"]


def test_ctrf_is_as_its_schema_says() -> None:
    """Its instants are milliseconds since 1970."""
    document = json.loads(pages.render(night_of([case(number) for number in range(10)]), [])[pages.CTRF])
    assert_ctrf(document)
    summary = document["results"]["summary"]
    assert datetime.fromtimestamp(summary["start"] / 1000).astimezone() == datetime.fromisoformat("2026-11-26T02:00:00+00:00")
    assert summary["stop"] - summary["start"] == 60_000


@pytest.mark.parametrize("part, value", [("suite", "all"), ("status", "broken"), ("duration", 1.5), ("colour", "red")])
def test_what_is_no_ctrf_is_seen(part: str, value: Any) -> None:
    document = json.loads(pages.render(night_of([case(0)]), [])[pages.CTRF])
    document["results"]["tests"][0][part] = value
    with pytest.raises(jsonschema.ValidationError):
        assert_ctrf(document)


def series_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series of a Prometheus text file by its name and labels. Fails where promtool would."""
    assert text.endswith("\n")
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    names = []
    for family in text_string_to_metric_families(text):
        assert family.documentation, f"{family.name} has no help"
        assert family.type in ("gauge", "counter"), f"{family.name} has no type"
        names.append(family.name)
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{sample.name} twice with {sample.labels}"
            found[key] = sample.value
    assert len(names) == len(set(names)), "a family in two places"
    return found


def test_metrics_are_prometheus_text() -> None:
    """With any text in a label, and without an end of an interval."""
    open_end = {"pay": Measured(rto_s=Interval(3.0, None)), "talk": Measured(rto_s=Interval(1.0, 1.25))}
    odd = msgspec.structs.replace(case(1), id='a "b" \\ c\nd', services=open_end)
    series = series_of(pages.render(night_of([case(0), odd]), [])[pages.METRICS].decode())
    rto_s = {dict(labels)["service"]: value for (name, labels), value in series.items() if name == "chaoslab_rto_seconds"}
    assert rto_s == {"pay": float("inf"), "talk": 1.25}
    assert {dict(labels)["case"] for _, labels in series} == {"experiment-0", odd.id}


@pytest.mark.parametrize(
    "text",
    [
        '# HELP a b\n# TYPE a gauge\na{b="c} 1\n',
        '# HELP a b\n# TYPE a gauge\na{b="c"} 1\na{b="c"} 2\n',
        "# HELP a b\n# TYPE a gauge\na one\n",
        "a 1\n",
        "# HELP a b\n# TYPE a gauge\na 1",
    ],
)
def test_what_is_no_prometheus_text_is_seen(text: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        series_of(text)


def test_a_summary_that_is_too_long_is_cut_and_says_so() -> None:
    """Below 1 MiB, whole lines, and of what has to be looked at nothing is missing."""
    cases = [msgspec.structs.replace(case(number), why="long " * 200) for number in range(3_000)]
    summary = pages.render(night_of(cases), [])[pages.SUMMARY]
    assert len(summary) <= pages.SUMMARY_MAX < 1 << 20
    lines = summary.decode().splitlines()
    assert "was truncated" in lines[-1]
    rows = [line for line in lines if line.startswith("| ") and "experiment-" in line]
    assert all(line.endswith(" s |") for line in rows)
    assert "not as expected" in rows[0]
    whole = pages.render(night_of([case(number) for number in range(10)]), [])[pages.SUMMARY].decode()
    assert "was truncated" not in whole
    assert whole.count("experiment-") == 10


def test_junit_counts_what_it_holds() -> None:
    """Nothing is skipped: what was not run is an error."""
    suite = ET.fromstring(pages.render(night_of([case(number) for number in range(10)]), [])[pages.JUNIT])[0]  # noqa: S314
    counted = {tag: len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error", "skipped")}
    assert counted == {"failure": 2, "error": 6, "skipped": 0}
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("10", "2", "6")


@pytest.mark.parametrize("seconds, text", [(0.4, "0 s"), (59.6, "1 min 00 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 05 min")])
def test_wall_times_are_said_in_words(seconds: float, text: str) -> None:
    assert pages.took_text(seconds) == text
