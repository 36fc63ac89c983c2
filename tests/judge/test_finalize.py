"""What a run leaves when the judge, or what draws its reports, crashes: a result and both reports that say so."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import xmlschema
from click.testing import CliRunner
from judge_runs import Run, experiment, outage, stack_spec

from chaoslab.cli.analyze import analyze_command
from chaoslab.errors import ExitCode, exit_code_of
from chaoslab.history.folder import RunFolder
from chaoslab.history.rows import AnyRow, PhaseRow, encode
from chaoslab.judge import verdict
from chaoslab.run import finalize
from chaoslab.run.finalize import finalize_run
from chaoslab.spec.resolved import resolved_yaml

GOOD = Run(bad=outage(0.1, 3.0))
LATE = Run(bad=outage(0.1, 15.0))
SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[1] / "report" / "junit.xsd")


def broken(*args: object, **more: object) -> object:
    raise ZeroDivisionError("oh <b>")


def run_folder(root: Path, run: Run = GOOD, left: tuple[str, ...] = ()) -> RunFolder:
    folder = RunFolder.create(root, "fire")
    rows: list[AnyRow] = run.rows()
    rows += [PhaseRow(t_ns=rows[-1].t_ns, phase="down", event="end", detail={"left": list(left)})]
    folder.experiment.write_text(resolved_yaml(experiment(), stack_spec()))
    folder.history.write_bytes(b"".join(encode(row) for row in rows))
    return folder


def junit_of(folder: RunFolder) -> ET.Element:
    text = folder.junit.read_text()
    SCHEMA.validate(text)
    return ET.fromstring(text)  # noqa: S314 -- our own XML


def test_a_run_whose_judge_is_sound_logs_nothing(tmp_path: Path) -> None:
    """The known-good case."""
    folder = run_folder(tmp_path)
    result = finalize_run(folder).publish(folder)
    assert (result.verdict, exit_code_of(result)) == ("pass", ExitCode.PASS)
    assert not (folder.logs / "harness.log").exists()


@pytest.mark.parametrize("name", ["Record", "objectives_for", "_warnings", "load_result", "overhead_s"])
def test_a_judge_that_crashes_leaves_a_result_and_both_reports(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known bad: sorting the rows, the objectives, the metrics or the warnings crash."""
    folder = run_folder(tmp_path)
    monkeypatch.setattr(verdict, name, broken)
    if name == "Record":
        monkeypatch.setattr(verdict, name, type("Broken", (), {"of": broken}))
    result = finalize_run(folder).publish(folder)
    assert (result.verdict, exit_code_of(result)) == ("error", ExitCode.ERROR)
    assert folder.read_result() == result
    assert "ZeroDivisionError" in result.reasons[0]
    assert "ZeroDivisionError: oh &lt;b&gt;" in folder.report.read_text()
    assert [case.find("error") is not None for case in junit_of(folder).iter("testcase")] == [True, True]
    assert "Traceback" in (folder.logs / "harness.log").read_text()
    assert "in broken" in (folder.logs / "harness.log").read_text()


@pytest.mark.parametrize(("run", "expected"), [(GOOD, "error"), (LATE, "fail")], ids=["pass", "fail"])
@pytest.mark.parametrize("name", ["html.render_html", "render_junit"])
def test_reports_that_cannot_be_drawn_are_made_plain(
    run: Run, expected: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known bad: drawing crashes. What was judged stays, as far as it is worse."""
    folder = run_folder(tmp_path, run)
    monkeypatch.setattr(f"chaoslab.run.finalize.{name}", broken)
    result = finalize_run(folder).publish(folder)
    assert (result.verdict, result.services["talk"].slots > 0) == (expected, True)
    assert folder.read_result().verdict == expected
    page = folder.report.read_text()
    assert f"<h1>fire: {expected}</h1>" in page
    assert "<b>" not in page
    assert "the report could not be rendered: ZeroDivisionError: oh" in page
    [case] = junit_of(folder).iter("testcase")
    assert case.find("failure" if expected == "fail" else "error") is not None
    assert "Traceback" in (folder.logs / "harness.log").read_text()


def test_what_the_harness_logged_before_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of the run itself is added to; and one that cannot be written costs no result."""
    folder = run_folder(tmp_path)
    (folder.logs / "harness.log").write_text("before\n")
    monkeypatch.setattr(finalize.html, "render_html", broken)
    finalize_run(folder)
    assert (folder.logs / "harness.log").read_text().startswith("before\nTraceback")
    (folder.logs / "harness.log").unlink()
    folder.logs.rmdir()
    assert finalize_run(folder).result.verdict == "error"


def test_what_is_left_behind_is_listed_by_a_judge_that_crashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 6 goes before 5, and both reports list it."""
    folder = run_folder(tmp_path, left=("process 1",))
    monkeypatch.setattr(verdict, "_warnings", broken)
    result = finalize_run(folder).publish(folder)
    assert (exit_code_of(result), result.left_behind, result.cleanup) == (ExitCode.UNCLEAN, ["process 1"], "incomplete")
    monkeypatch.setattr(finalize.html, "render_html", broken)
    finalize_run(folder).publish(folder)
    assert "left behind: process 1" in folder.report.read_text()


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_analyze_says_that_the_judge_crashed(flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdict error, exit 5, the traceback on standard error; nothing is written into the run."""
    folder = run_folder(tmp_path)
    monkeypatch.setattr(verdict, "_warnings", broken)
    asked = CliRunner().invoke(analyze_command, [str(folder.path), *flags], standalone_mode=False)
    assert asked.return_value == ExitCode.ERROR
    assert "Traceback" in asked.stderr
    assert "in broken" in asked.stderr
    assert sorted(path.name for path in folder.path.iterdir()) == ["experiment.yaml", "history.jsonl", "logs"]


def test_a_killed_run_gets_a_page(tmp_path: Path) -> None:
    """Known bad: it has none, though its history holds what was done. The run itself stays as it was left."""
    folder = run_folder(tmp_path)
    rows = folder.history.read_bytes().splitlines(keepends=True)
    folder.history.write_bytes(b"".join(rows[: len(rows) // 2]))
    before = sorted(path.name for path in folder.path.rglob("*"))
    page = tmp_path / "killed.html"
    ran = CliRunner().invoke(analyze_command, [str(folder.path), "--report", str(page)], standalone_mode=False)
    assert ran.return_value == ExitCode.UNCLEAN  # nobody saw the stack go down
    assert sorted(path.name for path in folder.path.rglob("*")) == before
    assert f"report: {page}" in ran.output
    assert "site.power-loss" in page.read_text()
    assert "inconclusive" in page.read_text()
