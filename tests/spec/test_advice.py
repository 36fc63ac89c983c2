"""Advice: what is worth a second thought is shown, and refuses nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from golden_files import FIXTURES

from chaoslab.cli.check import check_command
from chaoslab.errors import ExitCode
from chaoslab.spec.load import load_experiment
from chaoslab.spec.yaml.problems import Place, Problem, SpecErrors

EARLY = "fire is healed after 5 s, before an RTO of 30 s has passed: a service that has not recovered by then is inconclusive"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment whose heal comes before the longest RTO is over."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    stack = (tmp_path / "stack.yaml").read_text()  # of which nothing is to be said here
    for image in ("arbiter", "mailer"):
        stack = stack.replace(f"image: shop/{image}\n", f"image: shop/{image}\n    expose: [25]\n")
    (tmp_path / "stack.yaml").write_text(stack.replace("    profiles: [debug]\n", ""))
    path = tmp_path / "fire.yaml"
    alone = [line for line in path.read_text().splitlines() if "fault:" not in line or "id: fire" in line]
    path.write_text("\n".join(alone).replace("heal_after: 50s", "heal_after: 5s"))
    return path


def test_a_heal_before_the_rto_is_a_warning(file: Path) -> None:
    """With its place, like an error; the experiment is loaded all the same. Known bad: a sound one has none."""
    (advice,) = load_experiment(file).advice
    assert str(advice).startswith(f"fire.yaml:16:72: warning: {EARLY}")
    assert (advice.rule, advice.level) == ("timeline.heals-before-rto", "warning")
    assert load_experiment(file, {"timeline.0.heal_after": "50s"}).advice == ()


def test_the_rto_of_a_service_that_is_not_probed_is_no_reason(file: Path) -> None:
    """Known bad: frozen-entry, which probes one journey, was warned of the RTO of a service that it does not measure."""
    assert load_experiment(file, {"probe.journeys": "[db.ping]"}).advice == ()
    messages = [problem.message for problem in load_experiment(file, {"probe.journeys": "[web.look]"}).advice]
    assert [message for message in messages if "before an RTO of 30 s has passed" in message] == messages[:1]


def test_what_comes_with_this_project_needs_no_advice() -> None:
    """A warning that everybody sees is read by nobody."""
    files = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))
    assert len(files) > 10
    assert [advice for one in files for advice in load_experiment(one).advice] == []


def test_check_shows_advice_and_passes(file: Path) -> None:
    """Exit 0; for machines with rule and level, apart from the problems."""
    shown = CliRunner().invoke(check_command, [str(file)], standalone_mode=False)
    assert shown.return_value == ExitCode.PASS
    assert f"{file}: ok" in shown.stdout
    assert f"fire.yaml:16:72: warning: {EARLY}" in shown.stderr
    assert shown.stderr.splitlines()[-1] == "1 warning"
    assert "\x1b[33mwarning" in CliRunner().invoke(check_command, [str(file)], standalone_mode=False, color=True).stderr
    row = json.loads(CliRunner().invoke(check_command, [str(file), "--json"], standalone_mode=False).stdout)
    assert row["ok"] == [str(file)] and row["problems"] == []
    assert [(one["rule"], one["level"], one["line"]) for one in row["advice"]] == [("timeline.heals-before-rto", "warning", 16)]


def test_check_refuses_errors_alone(file: Path) -> None:
    """Exit 2, and the error has its rule; advice on a spec that is refused anyway would only distract."""
    file.write_text(file.read_text().replace("site: east", "site: eats"))
    shown = CliRunner().invoke(check_command, [str(file), "--json"], standalone_mode=False)
    assert shown.return_value == ExitCode.USAGE
    assert "error: " in CliRunner().invoke(check_command, [str(file)], standalone_mode=False).stderr
    row = json.loads(shown.stdout)
    assert [(one["rule"], one["level"]) for one in row["problems"]] == [("timeline.target-unknown", "error")]
    assert row["advice"] == []


def test_a_level_shows_in_words() -> None:
    """An error is what a problem is without a word for it."""
    place = Place("a.yaml", 1, 2)
    assert str(Problem.at(place, "wrong", "a.rule")) == "a.yaml:1:2: wrong"
    assert str(Problem.at(place, "odd", "a.rule", "note")) == "a.yaml:1:2: note: odd"
    assert SpecErrors([Problem.at(place, "wrong", "a.rule")] * 2).problems == (Problem.at(place, "wrong", "a.rule"),)


def test_an_rpo_that_nothing_measures_is_a_warning(file: Path) -> None:
    """Known bad: the only journey with a ledger is left out. It would be reported as not measured, never as 0."""
    (advice,) = load_experiment(file, {"timeline.0.heal_after": "50s", "probe.journeys": "[web.look]"}).advice
    assert "web has an RPO, but none of its journeys has a ledger: RPO not measured" in advice.message
    assert (advice.rule, advice.level, advice.place.line) == ("objectives.rpo-not-measured", "warning", 19)
