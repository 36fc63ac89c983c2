"""Experiments by name or path: found, listed, and loaded with everything that is wrong told at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from chaoslab.errors import SpecError
from chaoslab.masking import Secrets
from chaoslab.spec.compose import ComposeFile, read_stack
from chaoslab.spec.experiment_checks import check_experiment
from chaoslab.spec.model import Experiment
from chaoslab.spec.overrides import apply_overrides
from chaoslab.spec.partial import Validated, validate
from chaoslab.spec.probe_rate import with_probe_rate
from chaoslab.spec.problems import Place, Problem, SpecErrors, shorten, shown_path, suggest, without_echoes
from chaoslab.spec.resolved import load_resolved, resolved_yaml
from chaoslab.spec.source import Document, KeyPath, read

__all__ = ["Listed", "Loaded", "dump_resolved", "find_experiment", "list_experiments", "load_experiment", "load_resolved"]

FOLDER = "experiments"
_SUFFIXES = (".yaml", ".yml")
_GIVEN = {"name": "an experiment is named by its file", "hypothesis": "the first comment of the file is its hypothesis"}


@dataclass(frozen=True)
class Loaded:
    """An experiment and its stack, both checked. Paths are absolute; `file` is the experiment's own."""

    experiment: Experiment
    compose: ComposeFile
    file: Path


class Listed(NamedTuple):
    """What a list shows of an experiment."""

    name: str
    hypothesis: str
    tags: list[str]
    title: str


def load_experiment(path: Path, overrides: Mapping[str, str] | None = None) -> Loaded:
    """The experiment in a file, with `--set` overrides applied, and its stack. Raises SpecErrors with all that is wrong."""
    document = read(path)
    if not isinstance(document.data, dict):
        raise SpecErrors([Problem.at(document.value_at(()), "an experiment must be a mapping, with title, stack and timeline")])
    apply_overrides(document, overrides or {})
    return _Loading(path, document).load()


def dump_resolved(loaded: Loaded, secrets: Secrets | None = None) -> str:
    """The experiment as resolved with its stack's section, as YAML that `load_resolved` reads back exactly, but for secrets."""
    return resolved_yaml(loaded.experiment, loaded.compose.spec, secrets)


def find_experiment(name_or_path: str, root: Path) -> Path:
    """The file of an experiment: a path, or a name in `experiments/` below `root`. Raises SpecError."""
    as_path = root / name_or_path
    if as_path.suffix in _SUFFIXES or "/" in name_or_path:
        if _is_file(as_path):
            return as_path
        raise SpecError(f"there is no experiment file {name_or_path}", cure="chaoslab list shows what there is")
    known = {file.stem: file for file in _files(root)}
    if name_or_path in known:
        return known[name_or_path]
    hint = suggest(name_or_path, known)
    raise SpecError(
        f"no experiment {shorten(name_or_path)} in {shown_path(root / FOLDER)}{hint}", cure="chaoslab list shows what there is"
    )


def list_experiments(root: Path) -> list[Listed]:
    """Every experiment in `experiments/` below `root`, by name; a broken one has what is broken as its title."""
    return [_listed(file) for file in _files(root)]


def _files(root: Path) -> list[Path]:
    folder = root / FOLDER
    return sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES) if folder.is_dir() else []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _beside(folder: Path, file: Path) -> Path:
    try:
        return (folder / file).resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL byte, or a circle of links: told as a file that does not exist
        return folder / file


def _listed(file: Path) -> Listed:
    try:
        document = read(file)
    except SpecErrors as refused:
        return Listed(file.stem, "", [], f"cannot be read: {refused.problems[0].message}")
    data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
    tags = data.get("tags")
    return Listed(
        file.stem, document.comment, [str(tag) for tag in tags] if isinstance(tags, list) else [], str(data.get("title", ""))
    )


class _Loading:
    """One experiment on its way from a document to a Loaded, collecting problems."""

    def __init__(self, path: Path, document: Document) -> None:
        self.path, self.document = path.absolute(), document
        self.problems: list[Problem] = []

    def load(self) -> Loaded:
        if not self.document.comment:
            self._tell((), "no hypothesis; begin the file with a comment that says in one sentence what must hold")
        checked = self._validated()
        experiment = self._with_absolute_paths(checked.value) if checked.value is not None else None
        stack_is_said = "stack" in self.document.data and not any(path[:1] == ("stack",) for path in checked.removed)
        compose = self._stack(experiment) if experiment is not None and stack_is_said else None
        if self.document.data.get("timeline") == []:
            self._tell(("timeline",), "the timeline is empty, so nothing would be tested; add a fault")
        if experiment is not None:
            said = self.document.data.get("timeline")
            sound = [n for n in range(_length(said)) if ("timeline", n) not in checked.removed]
            complete = isinstance(said, list) and len(sound) == len(said)
            check_experiment(experiment, sound, compose, self._tell, complete=complete)
        problems = without_echoes(self.document.problems, self.problems)
        if problems or experiment is None or compose is None:
            raise SpecErrors(problems)
        return Loaded(with_probe_rate(experiment, compose.spec), compose, self.path)

    def _validated(self) -> Validated[Experiment]:
        for key, why in _GIVEN.items():
            if self.document.data.pop(key, None) is not None:
                self._tell((key,), f"the key {key!r} does not belong here: {why}", key=True)
        given = {"name": self.path.stem, "hypothesis": self.document.comment}
        checked = validate(
            Experiment,
            {**self.document.data, **given},
            self.document,
            whole=("timeline",),
            stand_ins={"title": "?", "stack": ["?"], "timeline": []},
        )
        self.problems.extend(checked.problems)
        return checked

    def _with_absolute_paths(self, experiment: Experiment) -> Experiment:
        folder = self.path.parent
        stack = [_beside(folder, file) for file in experiment.stack]
        load = experiment.load
        if load is not None:
            locustfile = _beside(folder, load.locustfile)
            if not _is_file(locustfile):
                written = str(load.locustfile)
                self._tell(
                    ("load", "locustfile"),
                    f"locustfile {shorten(written)} does not exist; paths count from the experiment's own folder",
                )
            load = load.model_copy(update={"locustfile": locustfile})
        return experiment.model_copy(update={"stack": stack, "load": load})

    def _stack(self, experiment: Experiment) -> ComposeFile | None:
        """The stack, if it is sound: with a broken one, every name in the experiment would look wrong."""
        said = self.document.data["stack"]
        missing = False
        for index, file in enumerate(experiment.stack):
            if not _is_file(file):
                missing = True
                written = said if isinstance(said, str) else said[index]
                path: KeyPath = ("stack",) if isinstance(said, str) else ("stack", index)
                self._tell(path, f"stack file {shorten(written)} does not exist; paths count from the experiment's own folder")
        if missing:
            return None
        compose, problems = read_stack(experiment.stack)
        self.problems.extend(problems)
        return compose if not problems else None

    def _tell(self, path: KeyPath, message: str, *, key: bool = False) -> None:
        place: Place = self.document.key_at(path) if key else self.document.value_at(path)
        self.problems.append(Problem.at(place, message))


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0
