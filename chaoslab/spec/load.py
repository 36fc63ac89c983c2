"""Experiments by name or path: found, listed, and loaded with all problems reported at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from chaoslab.errors import SpecError
from chaoslab.redact import Secrets
from chaoslab.spec.experiment_checks import check_experiment
from chaoslab.spec.fault import FaultBase
from chaoslab.spec.kind import instead_of_an_experiment, kind_of
from chaoslab.spec.model import Experiment
from chaoslab.spec.overrides import apply_overrides
from chaoslab.spec.probe_rate import with_probe_rate
from chaoslab.spec.project import EXPERIMENTS, SUFFIXES, SUITES, experiment_files, name_of
from chaoslab.spec.repository import folder_for_commands
from chaoslab.spec.resolved import load_resolved, resolved_yaml
from chaoslab.spec.runbook_steps import put_in_runbooks
from chaoslab.spec.stackfile.compose import ComposeFile, read_stack
from chaoslab.spec.step import StepBase
from chaoslab.spec.yaml.partial import validate
from chaoslab.spec.yaml.problems import Place, Problem, SpecErrors, shorten, shown_path, suggest, without_echoes
from chaoslab.spec.yaml.report import Report
from chaoslab.spec.yaml.source import read

__all__ = ["Listed", "Loaded", "dump_resolved", "find_experiment", "list_experiments", "load_experiment", "load_resolved"]

_GIVEN = {"name": "an experiment has the name of its file", "hypothesis": "the first comment of the file is its hypothesis"}


@dataclass(frozen=True)
class Loaded:
    """An experiment and its stack, both checked. Paths are absolute; `file` is the experiment's own.

    `advice`: warnings and notes, in the order of the files. `places`: where each fault and step was written, by its id.
    """

    experiment: Experiment
    compose: ComposeFile
    file: Path
    advice: tuple[Problem, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)


class Listed(NamedTuple):
    """What a list shows of an experiment."""

    name: str
    hypothesis: str
    tags: list[str]
    title: str


def load_experiment(path: Path, overrides: Mapping[str, str] | None = None, *, use_binds: bool = False) -> Loaded:
    """The experiment in a file, with `--set` overrides applied, and its stack. Raises SpecErrors with all problems.

    `use_binds`: containers may write to the user's own folders, files and external volumes; else they get copies.
    """
    document = read(path)
    report = Report(document)
    if not isinstance(document.data, dict):
        report((), "an experiment must be a mapping, with title, stack and timeline", "experiment.not-a-mapping")
        raise SpecErrors(report.problems)
    if (other := instead_of_an_experiment(Path(document.file), document.data)) is not None:
        report((), other, f"file.{kind_of(document.data)}")
        raise SpecErrors(report.problems)
    apply_overrides(document, overrides or {})
    runbooks_read = put_in_runbooks(document, path.absolute().parent)
    written = document.data
    if not document.comment:
        message = "no hypothesis; begin the file with a comment: one sentence that states what must hold"
        report((), message, "experiment.no-hypothesis")
    for key, why in _GIVEN.items():
        if written.pop(key, None) is not None:
            report((key,), f"the key {key!r} is not allowed: {why}", "experiment.key-given", key=True)
    if written.get("timeline") == []:
        report(("timeline",), "the timeline is empty, so nothing would be tested; add a fault", "timeline.empty")

    stand_ins = {"title": "?", "stack": ["?"], "timeline": []}
    given = {"name": path.stem, "hypothesis": document.comment}
    checked = validate(Experiment, {**written, **given}, document, whole=("timeline",), stand_ins=stand_ins)
    report.problems.extend(checked.problems)
    experiment, compose = checked.value, None
    if experiment is not None:
        timeline = written["timeline"] if isinstance(written.get("timeline"), list) else []
        sound = [number for number in range(len(timeline)) if ("timeline", number) not in checked.removed]
        experiment = _with_absolute_paths(experiment, path, sound, report)
        if "stack" in written and not any(path[:1] == ("stack",) for path in checked.removed):
            compose = _stack_of(experiment, written["stack"], report)
        complete = runbooks_read and isinstance(written.get("timeline"), list) and len(sound) == len(timeline)
        topology = None if compose is None else compose.topology()
        check_experiment(experiment, list(zip(sound, experiment.timeline, strict=True)), topology, report, complete=complete)

    found = without_echoes(document.problems, report.problems)
    errors = [problem for problem in found if problem.level == "error"]
    if errors or experiment is None or compose is None:
        raise SpecErrors(errors)
    advice = tuple(sorted(set(found)))
    compose = replace(compose, use_binds=use_binds)
    places = {entry.id: document.value_at(("timeline", number)) for number, entry in enumerate(experiment.timeline)}
    return Loaded(with_probe_rate(experiment, compose.spec), compose, path.absolute(), advice, places)


def _with_absolute_paths(experiment: Experiment, path: Path, numbers: Sequence[int], report: Report) -> Experiment:
    """Its files from its own folder, and each command with the folder that it runs in. `numbers`: places in the timeline.

    A program that is not there is a warning, since a fault may bring it.
    """
    folder, project = path.absolute().parent, folder_for_commands(path)
    stack, load = [_beside(folder, file) for file in experiment.stack], experiment.load
    if load is not None:
        locustfile = _beside(folder, load.locustfile)
        if not _is_file(locustfile):
            message = (
                f"locustfile {shorten(str(load.locustfile))} does not exist; paths are relative to the experiment's folder"
            )
            report(("load", "locustfile"), message, "file.missing")
        load = load.model_copy(update={"locustfile": locustfile})
    timeline: list[FaultBase | StepBase] = []
    for number, entry in zip(numbers, experiment.timeline, strict=True):
        needs_files = isinstance(entry, StepBase) and bool(entry.needs.files)
        if (entry.commands or needs_files) and "cwd" in type(entry).model_fields:
            written = getattr(entry, "cwd", None)
            cwd = _beside(project, written or Path())
            if not cwd.is_dir():
                message = f"folder {shorten(str(written))} does not exist; cwd is relative to the project, {project}"
                report(("timeline", number, "cwd"), message, "file.missing")
            for key, (program, *_) in entry.commands.items():
                if shutil.which(cwd / program if os.sep in program else program) is None:
                    message = f"program {shorten(program)} was not found, or is not executable; commands run in {cwd}"
                    report(("timeline", number, key, 0), message, "timeline.program-missing", level="warning")
            timeline.append(entry.model_copy(update={"cwd": cwd}))
        else:
            timeline.append(entry)
    return experiment.model_copy(update={"stack": stack, "load": load, "timeline": timeline})


def _stack_of(experiment: Experiment, written: Any, report: Report) -> ComposeFile | None:
    """The stack, if it is sound: with a broken one, every name in the experiment would look wrong."""
    missing = [index for index, file in enumerate(experiment.stack) if not _is_file(file)]
    for index in missing:
        file, path = (written, ("stack",)) if isinstance(written, str) else (written[index], ("stack", index))
        message = f"stack file {shorten(file)} does not exist; paths are relative to the experiment's folder"
        report(path, message, "file.missing")
    if missing:
        return None
    compose, problems = read_stack(experiment.stack)
    report.problems.extend(problems)
    return None if any(problem.level == "error" for problem in problems) else compose


def dump_resolved(loaded: Loaded, secrets: Secrets | None = None) -> str:
    """The experiment as resolved with its stack's section, as YAML that `load_resolved` reads back exactly, but for secrets."""
    return resolved_yaml(loaded.experiment, loaded.compose.spec, secrets)


def find_experiment(name_or_path: str, project: Path, here: Path | None = None) -> Path:
    """The file of an experiment: a path, or a name in `experiments/` of the project. Raises SpecError.

    Paths count from `here` (the project when None); what is not there is tried from the project.
    """
    if is_path(name_or_path):
        return find_file(name_or_path, project, here)
    known = {name_of(file): file for file in experiment_files(project)}
    if name_or_path in known:
        return known[name_or_path]
    if name_or_path in {name_of(file) for suffix in SUFFIXES for file in (project / SUITES).glob(f"*{suffix}")}:
        raise SpecError(f"{name_or_path!r} is a suite of experiments", cure=f"chaoslab gameday {name_or_path}")
    if not known and not (project / EXPERIMENTS).is_dir():
        raise SpecError(
            f"no experiment {shorten(name_or_path)}: there is no folder {project / EXPERIMENTS}",
            cure="run this inside a chaoslab project, or name the file by its path; `chaoslab init` creates a project",
        )
    hint = suggest(name_or_path, known)
    raise SpecError(
        f"no experiment {shorten(name_or_path)} in {shown_path(project / EXPERIMENTS)}{hint}",
        cure="chaoslab list shows the experiments",
    )


def is_path(name_or_path: str) -> bool:
    """Whether this names a file rather than an experiment or a suite."""
    return "/" in name_or_path or Path(name_or_path).suffix in SUFFIXES


def find_file(path: str, project: Path, here: Path | None = None) -> Path:
    """A file by its path, which counts as in `find_experiment`. Raises SpecError when there is no such file."""
    candidates = [(here or project) / path, project / path]
    found = next((candidate for candidate in candidates if _is_file(candidate)), None)
    if found is not None:
        return found
    if any(candidate.is_dir() for candidate in candidates):
        raise SpecError(f"{path} is a folder", cure="name a file, or an experiment of `chaoslab list`")
    raise SpecError(f"there is no file {path}", cure="chaoslab list shows the experiments")


def list_experiments(project: Path) -> list[Listed]:
    """Every experiment in `experiments/` of the project, by name; a broken one has what is broken as its title."""
    listed = []
    for file in experiment_files(project):
        try:
            document = read(file)
        except SpecErrors as refused:
            listed.append(Listed(name_of(file), "", [], f"cannot be read: {refused.problems[0].message}"))
            continue
        data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
        tags = data.get("tags")
        tags = [str(tag) for tag in tags] if isinstance(tags, list) else []
        listed.append(Listed(name_of(file), document.comment, tags, str(data.get("title", ""))))
    return listed


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _beside(folder: Path, file: Path) -> Path:
    try:
        return (folder / file).resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL byte, or a circle of links: reported as a file that does not exist
        return folder / file
