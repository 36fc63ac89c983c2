"""A suite names its experiments, and everything that is wrong with it is reported at once, with its line."""

from __future__ import annotations

import pytest
from pretended import suite_of, write_suite

from chaoslab.errors import SpecError
from chaoslab.gameday.suite import find_suite, load_suite
from chaoslab.spec.yaml.problems import SpecErrors


def cases(project, text: str) -> list[str]:
    return [case.id for case in suite_of(project, text).cases]


def test_experiments_run_in_the_order_of_the_suite(project):
    """By name, tag and glob; each counts once, where it is named first."""
    text = "experiments: [{name: flood}, {tag: known-bad}, {glob: '*'}]"
    assert cases(project, text) == ["flood", "red", "calm", "fire"]


def test_repeats_are_runs_of_their_own(project):
    """Each has its own name."""
    assert cases(project, "experiments: [{name: fire, repeats: 3}]") == ["fire", "fire#2", "fire#3"]


def test_a_tag_may_be_left_out(project):
    """Unless an experiment is named."""
    assert cases(project, "without: [known-bad]\nexperiments: [{glob: '*'}]") == ["calm", "fire", "flood"]
    assert cases(project, "without: [known-bad]\nexperiments: [{name: red}]") == ["red"]


def test_all_problems_at_once_with_their_places(project):
    """A night must not stop at its third experiment for a typing error."""
    file = write_suite(project, "experiments:\n  - {name: fier}\n  - {tag: nightli, glob: '*'}\n  - {glob: 'x*'}")
    with pytest.raises(SpecErrors) as refused:
        load_suite(file, project)
    places = [(problem.line, problem.message) for problem in refused.value.problems]
    assert [line for line, _ in places] == [5, 6, 7]
    assert "Did you mean 'fire'?" in places[0][1]
    assert "exactly one of name, tag or glob" in places[1][1]


def problems_of(project, text: str) -> list[tuple[int, str]]:
    """The line and the rule of each."""
    with pytest.raises(SpecErrors) as refused:
        load_suite(write_suite(project, text), project)
    return [(problem.line, problem.rule) for problem in refused.value.problems]


def test_a_wrong_key_hides_no_other_mistake(project):
    """Known bad: in the suite itself, in its selections and in an experiment, all at once."""
    (project / "experiments" / "calm.yaml").write_text("# Calm.\ntitle: x\nstack: nowhere.yaml\ntimeline: []\n")
    text = "limits: 5m\nwithout: [known-bda]\nexperiments:\n  - {nmae: fire}\n  - {tag: nightli}\n  - {name: calm}"
    found = problems_of(project, text)
    assert [line for line, rule in found if not rule.startswith(("timeline", "file"))] == [4, 5, 7, 8]
    assert {rule for _, rule in found} >= {"suite.nothing-selected", "file.missing", "timeline.empty"}


def test_an_experiment_that_is_selected_twice(project):
    """Known bad: its repeats would be ignored. A tag or glob that adds nothing is advice, since tags change."""
    assert problems_of(project, "experiments:\n  - {glob: '*'}\n  - {name: fire, repeats: 3}") == [(6, "suite.selected-twice")]
    suite = suite_of(project, "experiments:\n  - {glob: '*'}\n  - {tag: known-bad}")
    assert [(one.line, one.rule, one.level) for one in suite.advice] == [(6, "suite.selected-twice", "warning")]
    assert problems_of(project, "without: [known-bad]\nexperiments: [{tag: known-bad}]") == [(5, "suite.nothing-selected")]


def test_a_limit_or_budget_that_no_run_can_keep(project):
    """Known bad: every run would be ended, or none be begun."""
    suite = suite_of(project, "limit: 10s\nbudget: 5s\nexperiments: [{name: fire}]")
    assert [(one.line, one.level) for one in suite.advice] == [(4, "warning"), (5, "warning")]
    assert all("fire would" in one.message for one in suite.advice)
    assert suite_of(project, "limit: 10m\nexperiments: [{name: fire}]").advice == ()


def test_an_experiment_is_no_suite(project):
    """Known bad: `chaoslab gameday fire`, and the path of its file."""
    with pytest.raises(SpecErrors, match=r"fire\.yaml:1:1: this is an experiment.*chaoslab run"):
        load_suite(project / "experiments" / "fire.yaml", project)
    with pytest.raises(SpecError, match=r"is an experiment(.|\n)*chaoslab run fire"):
        find_suite("fire", project)


def test_a_folder_without_suites(tmp_path):
    """Known bad: an empty folder, and a folder in place of a file."""
    with pytest.raises(SpecError, match=r"there are no suites(.|\n)*title: All experiments"):
        find_suite("nightly", tmp_path)
    with pytest.raises(SpecError, match="is a folder"):
        find_suite(str(tmp_path), tmp_path)


@pytest.mark.parametrize("text", ["experiments: [", "experiments: [{name: fire}", "experiments: [{name: fire}, ,]"])
def test_an_open_bracket_in_plain_words(project, text):
    """Known bad: the parser speaks of flow nodes."""
    with pytest.raises(SpecErrors) as refused:
        load_suite(write_suite(project, text), project)
    assert not any(word in str(refused.value) for word in ("flow", "node", "token", "not valid YAML"))


def test_an_unknown_runtime_is_refused_before_anything_starts(project):
    """Known bad: the night would end with every run broken."""
    file = write_suite(project, "experiments: [{glob: '*'}]")
    file.write_text(file.read_text().replace("runtime: embedded", "runtime: embeded"))
    with pytest.raises(SpecErrors, match=r"all\.yaml:3:10: unknown runtime 'embeded'. Did you mean 'embedded'"):
        load_suite(file, project)


def test_problems_of_its_experiments_are_its_own(project):
    """Found before anything is started."""
    (project / "experiments" / "calm.yaml").write_text("# Calm.\ntitle: x\nstack: nowhere.yaml\ntimeline: []\n")
    with pytest.raises(SpecErrors, match=r"calm\.yaml.*nowhere\.yaml"):
        suite_of(project)


def test_a_suite_that_is_not_there(project):
    """Known bad: a typing error in its name."""
    with pytest.raises(Exception, match="Did you mean 'all'"):
        find_suite("al", project)
