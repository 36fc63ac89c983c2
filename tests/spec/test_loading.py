"""Experiments are found, listed, changed with --set, layered with their stack's objectives, and stored to be judged again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from golden_files import FIXTURES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaoslab.errors import SpecError
from chaoslab.spec.load import dump_resolved, find_experiment, list_experiments, load_experiment, load_resolved
from chaoslab.spec.model import Experiment, ExperimentObjectives
from chaoslab.spec.objectives import changed_objectives, objectives_for, under_fault
from chaoslab.spec.resolved import resolved_yaml
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.spec.yaml.problems import SpecErrors
from chaoslab.spec.yaml.quantities import duration_s, duration_text
from chaoslab.spec.yaml.source import leading_comment

FIRE = FIXTURES / "fire.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES, tmp_path / "experiments")
    (tmp_path / "experiments" / "broken.yaml").write_text("# It breaks.\ntitle: [")
    return tmp_path


def refused(path: Path, overrides: dict[str, str]) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        load_experiment(path, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_paths_are_absolute_and_the_file_names_the_experiment() -> None:
    """Nothing depends on the working folder once loaded."""
    experiment = load_experiment(FIRE).experiment
    assert experiment.name == "fire"
    assert experiment.hypothesis == "East loses power without a word: every service is back within its RTO."
    assert experiment.stack == [FIXTURES / "stack.yaml"]
    assert experiment.load is not None
    assert experiment.load.locustfile == FIXTURES / "load" / "everyday.py"


def test_find(root: Path) -> None:
    """By name or by path; a near miss is answered with the name that was meant."""
    assert find_experiment("fire", root) == root / "experiments" / "fire.yaml"
    assert find_experiment("experiments/fire.yaml", root) == root / "experiments" / "fire.yaml"
    assert find_experiment(str(FIRE), root) == FIRE
    with pytest.raises(SpecError, match="Did you mean 'fire'"):
        find_experiment("fier", root)
    for nonsense in ("experiments/none.yaml", "a\0b", "a\0/b", "x" * 5000, "", "none.yaml"):
        with pytest.raises(SpecError):
            find_experiment(nonsense, root)


def test_list(root: Path) -> None:
    """Every file is listed, the broken one with what is broken; without a folder there is nothing."""
    listed = {one.name: one for one in list_experiments(root)}
    assert listed["fire"].hypothesis.startswith("East loses power")
    assert listed["fire"].tags == ["site-loss", "nightly"]
    assert listed["fire"].title == "A fire takes the east"
    assert listed["broken"].title.startswith("cannot be read: ")
    assert list_experiments(root / "nowhere") == []


def test_set_changes_values() -> None:
    """Dotted paths, numbers for list items, YAML values; keys that were not there are added."""
    experiment = load_experiment(
        FIRE,
        {
            "load.users": "5",
            "timeline.0.heal_after": "20s",
            "objectives.db.rto": "< 5s",
            "probe.journeys": "[web.look]",
            "objectives.web": "{rpo: 1s}",
            "failback.hold": '"2s"',
        },
    ).experiment
    assert experiment.load is not None
    assert experiment.load.users == 5
    assert experiment.timeline[0].heal_after == 20
    assert str(experiment.objectives["db"].rto) == "< 5s"
    assert experiment.probe.journeys == ["web.look"]
    assert experiment.objectives["web"].model_fields_set == {"rpo"}
    assert experiment.failback.hold == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("load.usres", "5", "--set load.usres=5: unknown key 'usres' in load. Did you mean 'users'?"),
        ("load.users", "many", "--set load.users=many: users must be a whole number, not 'many'"),
        ("timeline.9.at", "1s", "--set timeline.9.at=1s: timeline is a list and has no item '9'; it has items 0 to 4"),
        ("timeline.0.site", "esat", "--set timeline.0.site=esat: unknown site 'esat'. Did you mean 'east'?"),
        ("steady_state.hold", "5", "--set steady_state.hold=5: hold: 5 has no unit; write a number with its unit"),
        ("", "5", "--set =5: write a dotted path and a value, such as --set load.users=5"),
        ("load..users", "5", "--set load..users=5: write a dotted path and a value, such as --set load.users=5"),
        ("title", "[", "--set title=[: "),
        ("objectives.web.unaffected", "yes", "--set objectives.web.unaffected=yes: unquoted yes is read as true"),
        ("name", "x", "--set name=x: the key 'name' is not allowed"),
    ],
)
def test_what_is_wrong_with_set_names_it(key: str, value: str, message: str) -> None:
    """A mistake on the command line is not blamed on the file."""
    (told,) = refused(FIRE, {key: value})
    assert told.startswith(message)


def test_set_repairs_what_the_file_has_wrong(root: Path) -> None:
    """A value that is replaced is not complained about."""
    file = root / "experiments" / "fire.yaml"
    file.write_text(file.read_text().replace("at: 10s", "at: 1:30"))
    assert len(refused(file, {})) == 1
    assert load_experiment(file, {"timeline.1.at": "90s"}).experiment.timeline[1].at == 90


def test_objectives_are_layered() -> None:
    """Tier, then the service's own, then the experiment's; null takes a promise back."""
    loaded = load_experiment(FIRE)
    owed = objectives_for(loaded.experiment, loaded.compose.spec)
    assert list(owed) == ["web", "db"]
    assert str(owed["web"].rto) == "< 30s"
    assert str(owed["web"].availability) == "> 90%"
    assert owed["web"].failback is None
    assert owed["web"].rpo is not None
    assert owed["web"].rpo.holds(0)
    assert not owed["web"].rpo.holds(0.001)
    assert owed["db"] == ExperimentObjectives()


def test_objectives_are_refined_for_single_faults() -> None:
    """What is said under a fault comes first there, null included; all else is the service's."""
    owed = ExperimentObjectives.model_validate({"rto": "< 30s", "under": {"slow": {"rto": None, "unaffected": "allowed"}}})
    assert (under_fault(owed, "fire").rto, under_fault(owed, "fire").unaffected) == (owed.rto, False)
    assert (under_fault(owed, "slow").rto, under_fault(owed, "slow").unaffected) == (None, "allowed")


def test_what_the_experiment_changes_is_known() -> None:
    """A report can say where an experiment departs from the stack; repeating a promise is no change."""
    loaded = load_experiment(FIRE)
    assert changed_objectives(loaded.experiment, loaded.compose.spec) == {"web": frozenset({"rto", "failback"})}


def test_resolved_reads_back_as_written(tmp_path: Path) -> None:
    """A stored run needs neither the experiment's file nor the stack's."""
    loaded = load_experiment(FIRE)
    stored = tmp_path / "experiment.yaml"
    stored.write_text(dump_resolved(loaded))
    experiment, stack = load_resolved(stored)
    assert (experiment, stack) == (loaded.experiment, loaded.compose.spec)
    assert objectives_for(experiment, stack) == objectives_for(loaded.experiment, loaded.compose.spec)
    assert changed_objectives(experiment, stack) == changed_objectives(loaded.experiment, loaded.compose.spec)


def test_resolved_says_when_it_is_something_else(tmp_path: Path) -> None:
    """A file of another kind, or one that was tampered with, is a SpecErrors."""
    with pytest.raises(SpecErrors, match="not a resolved experiment"):
        load_resolved(FIRE)
    stored = tmp_path / "experiment.yaml"
    stored.write_text(dump_resolved(load_experiment(FIRE)).replace("heal_after: 50s", "heal_after: soon"))
    with pytest.raises(SpecErrors, match="'soon' is not a duration"):
        load_resolved(stored)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["no", "1e3", "1:30", "", "null", "010", " x", "#", "a: b"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
SECONDS = st.floats(0, 600_000).map(duration_text)


@settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(hypothesis=TEXTS, tags=st.lists(TEXTS, max_size=3), at=SECONDS, body=JSON)
def test_any_resolved_experiment_reads_back(hypothesis: str, tags: list[str], at: str, body: object, tmp_path: Path) -> None:
    """Whatever texts and numbers: what was stored is what is read, to the last bit."""
    experiment = Experiment(
        name="any",
        hypothesis=hypothesis,
        title="x",
        stack=["/s.yaml"],
        tags=tags,
        timeline=[{"id": "f", "fault": "site.isolate", "site": "east", "at": at}],
    )
    stack = load_stack([FIXTURES / "stack.yaml"]).spec
    journey = stack.journeys["web.look"]
    request = journey.request.model_copy(update={"body": body})
    stack = stack.model_copy(update={"journeys": {"any": journey.model_copy(update={"request": request})}})
    stored = tmp_path / "experiment.yaml"
    stored.write_text(resolved_yaml(experiment, stack), encoding="utf-8")
    assert load_resolved(stored) == (experiment, stack)


@settings(derandomize=True, deadline=None)
@given(st.floats(0, 600_000))
def test_durations_survive_their_text(seconds: float) -> None:
    """No rounding between a duration and its text."""
    assert duration_s(duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("# One.\n# Two.\n\n# Three.\na: 1", "One. Two."),
        ("# One.\n#\n# Two.\na: 1", "One."),
        ("\n---\n# One.\na: 1", "One."),
        ("# yaml-language-server: $schema=x\n# One.\na: 1", "One."),
        ("a: 1\n# Late.", ""),
        ("\ufeff# One.", "One."),
        ("##  One. ", "One."),
    ],
)
def test_the_first_comment_is_the_hypothesis(text: str, comment: str) -> None:
    """One block of comment lines before all content; editors' lines do not count."""
    assert leading_comment(text) == comment


def test_a_pipe_is_refused(tmp_path):
    """Known bad: it was opened, and `check` waited for a writer for ever."""
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SpecErrors, match="it is a pipe"):
        load_experiment(tmp_path / "pipe.yaml")
