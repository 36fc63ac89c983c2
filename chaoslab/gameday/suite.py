"""A suite: which experiments a game day runs, in which order, how often, and with which time limits.

A suite is a YAML file, `experiments/gameday/<name>.yaml`. Its first comment says what the game day is for.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from chaoslab.errors import SpecError
from chaoslab.gameday.durations import read_durations
from chaoslab.gameday.plan import scripted_s
from chaoslab.run import runtimes
from chaoslab.spec.load import Listed, Loaded, find_experiment, find_file, is_path, list_experiments, load_experiment
from chaoslab.spec.project import SUITES, name_of
from chaoslab.spec.yaml.model import Model, Whole
from chaoslab.spec.yaml.partial import validate
from chaoslab.spec.yaml.problems import KeyPath, Problem, SpecErrors, shown_path, suggest
from chaoslab.spec.yaml.quantities import Seconds
from chaoslab.spec.yaml.report import Report
from chaoslab.spec.yaml.source import read


class Selection(Model):
    """Experiments by exactly one of name, tag or glob (of names); each runs `repeats` times."""

    name: Annotated[str | None, Field(description="The name of one experiment.")] = None
    tag: Annotated[str | None, Field(description="Every experiment with this tag, in the order of their names.")] = None
    glob: Annotated[str | None, Field(description="Every experiment whose name matches, such as *-fire.")] = None
    repeats: Annotated[Whole, Field(ge=1, le=100, description="How often each of them runs.")] = 1

    @property
    def by(self) -> list[tuple[str, str]]:
        """What it selects by; a valid selection has exactly one."""
        pairs = [("name", self.name), ("tag", self.tag), ("glob", self.glob)]
        return [(key, value) for key, value in pairs if value is not None]

    def matches(self, listed: Listed) -> bool:
        if self.tag is not None:
            return self.tag in listed.tags
        return fnmatch.fnmatchcase(listed.name, self.glob) if self.glob is not None else listed.name == self.name


class SuiteSpec(Model):
    """The content of a suite's file. `budget` is the time of one shard; runs that do not fit are reported as not run."""

    title: Annotated[str, Field(min_length=1, description="A few words for the page.")]
    runtime: Annotated[str, Field(description="Where the stacks run: auto, or the name of a runtime.")] = "auto"
    budget: Annotated[
        Seconds | None, Field(description="No run begins that would not end within it. Without it, there is no limit.")
    ] = None
    limit: Annotated[
        Seconds, Field(gt=0, description="How long one run may take; after that it is ended, and counts as broken.")
    ] = 900.0
    after_fail: Annotated[Literal["continue", "stop"], Field(description="What to do once an experiment has failed.")] = (
        "continue"
    )
    without: Annotated[list[str], Field(description="Tags whose experiments are left out.")] = []
    experiments: Annotated[
        list[Selection],
        Field(min_length=1, description="They run in this order; an experiment that is selected twice runs as first selected."),
    ]


@dataclass(frozen=True)
class Case:
    """One run of a game day. `repeat` counts from 1."""

    experiment: str
    repeat: int

    @property
    def id(self) -> str:
        return self.experiment if self.repeat == 1 else f"{self.experiment}#{self.repeat}"


@dataclass(frozen=True)
class Suite:
    """A suite whose experiments are all found and valid. `cases` in the order in which they run.

    `seconds`: how long a run of each experiment takes, from the suite's durations, else from its script. `advice`: warnings.
    """

    name: str
    spec: SuiteSpec
    purpose: str
    file: Path
    experiments: dict[str, Loaded]
    cases: tuple[Case, ...]
    seconds: dict[str, float]
    advice: tuple[Problem, ...] = ()


def find_suite(name_or_path: str, project: Path, here: Path | None = None) -> Path:
    """The file of a suite: a path, or a name in `experiments/gameday/` of the project. Raises SpecError.

    Paths are relative to `here` (the project if None); if not found there, to the project.
    """
    if is_path(name_or_path):
        return find_file(name_or_path, project, here)
    folder = project / SUITES
    known = {name_of(file): file for file in sorted(folder.glob("*.y*ml"))}
    if name_or_path in known:
        return known[name_or_path]
    if any(one.name == name_or_path for one in list_experiments(project)):
        cure = f"chaoslab run {name_or_path}, or name it in a suite: experiments: [{{name: {name_or_path}}}]"
        raise SpecError(f"{name_or_path!r} is an experiment, not a suite", cure=cure)
    if known:
        raise SpecError(f"no suite {name_or_path!r} in {shown_path(folder)}{suggest(name_or_path, known)}")
    cure = f"run this in a project that has suites, or write {SUITES}/{name_or_path}.yaml, such as:\n"
    cure += "    # What this game day is for.\n    title: All experiments\n    experiments: [{glob: '*'}]"
    raise SpecError(f"no suite {name_or_path!r}: there are no suites in {shown_path(folder)}", cure=cure)


def load_suite(file: Path, project: Path) -> Suite:
    """The suite in a file, with every experiment loaded. Raises SpecErrors with all problems in any of the files."""
    document = read(file)
    report = Report(document, list(document.problems))
    if isinstance(document.data, dict) and "timeline" in document.data:
        message = f"this is an experiment, not a suite; chaoslab run {shown_path(file)} runs it"
        report((), message, "suite.is-an-experiment")
        raise SpecErrors(report.problems)
    checked = validate(
        SuiteSpec, document.data, document, whole=("experiments",), stand_ins={"title": "?", "experiments": [{}]}
    )
    report.problems.extend(checked.problems)
    measured, misread = read_durations(file)
    report.problems.extend(misread)
    repeats: dict[str, int] = {}
    experiments: dict[str, Loaded] = {}
    spec = checked.value
    if spec is not None:
        written = document.data.get("experiments")
        count = len(written) if isinstance(written, list) else 0
        sound = [number for number in range(count) if ("experiments", number) not in checked.removed]
        repeats = _select(spec, dict(zip(sound, spec.experiments, strict=False)), list_experiments(project), report)
        for name in repeats:
            try:
                experiments[name] = load_experiment(find_experiment(name, project))
            except SpecErrors as refused:
                report.problems.extend(refused.problems)
    seconds = {name: measured.get(name) or scripted_s(loaded) for name, loaded in experiments.items()}
    if spec is not None:
        _warn_of_short_times(spec, seconds, report)
    errors = [problem for problem in report.problems if problem.level == "error"]
    if errors or spec is None:
        raise SpecErrors(errors)
    cases = tuple(Case(name, number) for name, count in repeats.items() for number in range(1, count + 1))
    advice = tuple(sorted(set(report.problems)))
    return Suite(file.stem, spec, document.comment, file, experiments, cases, seconds, advice)


def _select(spec: SuiteSpec, selections: dict[int, Selection], listed: Sequence[Listed], report: Report) -> dict[str, int]:
    """How often each experiment runs, in order: only the first selection that matches it counts.

    `selections`: the valid ones, by their number in the file.
    """
    known = (runtimes.AUTO, *runtimes.names())
    if spec.runtime not in known:
        report(("runtime",), f"unknown runtime {spec.runtime!r}{suggest(spec.runtime, known)}", "suite.runtime-unknown")
    tags = {tag for one in listed for tag in one.tags}
    for number, tag in enumerate(spec.without):
        if tag not in tags:
            report(("without", number), f"no experiment has the tag {tag!r}{suggest(tag, tags)}", "suite.nothing-selected")
    repeats: dict[str, int] = {}
    for number, selection in selections.items():
        if len(selection.by) != 1:
            message = "select by exactly one of name, tag or glob, such as tag: nightly"
            report(("experiments", number), message, "suite.selection")
            continue
        ((key, value),) = selection.by
        path: KeyPath = ("experiments", number, key)
        fit = [one for one in listed if selection.matches(one)]
        kept = [one.name for one in fit if key == "name" or set(spec.without).isdisjoint(one.tags)]
        if not fit:
            hint = suggest(value, tags if key == "tag" else [one.name for one in listed])
            report(path, f"no experiment has the {key} {value!r}{hint}", "suite.nothing-selected")
        elif not kept:
            report(path, f"`without` excludes every experiment that has the {key} {value!r}", "suite.nothing-selected")
        elif all(name in repeats for name in kept):
            message = f"every experiment with the {key} {value!r} is already selected above; remove this, or move it up"
            report(path, message, "suite.selected-twice", level="error" if key == "name" else "warning")
        repeats |= {name: selection.repeats for name in kept if name not in repeats}
    return repeats


def _warn_of_short_times(spec: SuiteSpec, seconds: dict[str, float], report: Report) -> None:
    """Warn of runs that cannot end within the limit, or do not fit into the budget."""
    for key, most_s, means in (("limit", spec.limit, "would be ended by it"), ("budget", spec.budget, "would never be run")):
        if most_s is not None and (longer := [name for name, takes_s in seconds.items() if takes_s > most_s]):
            slowest = max(longer, key=lambda name: seconds[name])
            message = f"{', '.join(longer)} {means}: a run of {slowest} takes about {seconds[slowest]:.0f} s"
            report((key,), message, "suite.time-short", level="warning")
