"""A Compose file and its overlays, read for what chaoslab needs: replicas, their sites, and the `x-chaoslab` section.

Strings are not interpolated; Compose keys that chaoslab does not know are kept and left alone. Not followed, and said
so: `include`, `extends`. Services behind a `profile` are left out, as a plain `docker compose up` leaves them out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaoslab.spec.merge import long_form, merged
from chaoslab.spec.model import StackSpec
from chaoslab.spec.partial import validate
from chaoslab.spec.problems import Place, Problem, SpecErrors, without_echoes
from chaoslab.spec.replicas import replica_of
from chaoslab.spec.source import EXTENSION, Document, KeyPath, Override, read
from chaoslab.spec.stack_checks import check_stack
from chaoslab.stack.topology import Replica, Topology, places_of

_NOT_FOLLOWED = {
    "extends": "extends is not followed; write the service out, or use a YAML anchor",
    "include": "include is not followed; name that file as one more file of the stack",
}


@dataclass(frozen=True)
class Sources:
    """Where things of a merged Compose file were written: the last file that says them counts."""

    documents: tuple[Document, ...]

    def key_at(self, path: KeyPath) -> Place:
        document, known = self._who(path)
        return document.key_at(known)

    def value_at(self, path: KeyPath) -> Place:
        document, known = self._who(path)
        return document.value_at(known)

    def _who(self, path: KeyPath) -> tuple[Document, KeyPath]:
        for length in range(len(path), 0, -1):
            for document in reversed(self.documents):
                if document.has(path[:length]):
                    return document, path[:length]
        return self.documents[0], ()


@dataclass(frozen=True)
class ComposeFile:
    """A stack as its files say it. `services`: merged entries in long form, not interpolated, by replica name."""

    files: tuple[Path, ...]
    project_dir: Path
    name: str
    services: dict[str, dict[str, Any]]
    spec: StackSpec
    replicas: tuple[Replica, ...]
    volumes: dict[str, Any] = field(default_factory=dict)
    sources: Sources = field(default_factory=lambda: Sources(()), compare=False, repr=False)

    def topology(self) -> Topology:
        return Topology(self.name, self.replicas, self.spec, places_of(self.replicas))


def load_stack(paths: Sequence[Path]) -> ComposeFile:
    """A Compose file and its overlays, merged in this order. Raises SpecErrors with all that is wrong."""
    compose, problems = read_stack(paths)
    if compose is None or problems:
        raise SpecErrors(problems)
    return compose


def read_stack(paths: Sequence[Path]) -> tuple[ComposeFile | None, list[Problem]]:
    """As much of the stack as can be understood, and every problem. None when a file cannot be read at all."""
    documents, problems = _documents(paths)
    if len(documents) < len(paths):
        return None, problems
    assembly = _Assembly(tuple(paths), Sources(tuple(documents)))
    return assembly.compose(), without_echoes(problems, assembly.problems)


def _documents(paths: Sequence[Path]) -> tuple[list[Document], list[Problem]]:
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            document = read(path, "compose")
        except SpecErrors as refused:
            problems.extend(refused.problems)
            continue
        problems.extend(document.problems)
        if isinstance(document.data, dict):
            documents.append(document)
        else:
            problems.append(Problem.at(document.value_at(()), "a Compose file must be a mapping with services"))
    return documents, problems


class _Assembly:
    """One merged Compose file in the making."""

    def __init__(self, files: tuple[Path, ...], sources: Sources) -> None:
        self.files, self.sources = files, sources
        self.problems: list[Problem] = []

    def compose(self) -> ComposeFile | None:
        data: Any = {}
        for document in self.sources.documents:
            data = merged(data, self._long(document))
        if "include" in data:
            self._tell(("include",), _NOT_FOLLOWED["include"])
        services = self._services(data)
        replicas = tuple(self._replica(name, services[name]) for name in services)
        spec = self._spec(data.get(EXTENSION), replicas)
        if spec is None:
            return None
        folder = self.files[0].absolute().parent
        volumes = data.get("volumes")
        return ComposeFile(
            files=tuple(file.absolute() for file in self.files),
            project_dir=folder,
            name=_project_name(data.get("name"), folder),
            services=services,
            spec=_with_absolute_folders(spec, folder),
            replicas=replicas,
            volumes=volumes if isinstance(volumes, dict) else {},
            sources=self.sources,
        )

    def _long(self, document: Document) -> dict[str, Any]:
        """The document's data with its services in long form, which is what can be merged."""
        services = document.data.get("services")
        if isinstance(services, Override) or not isinstance(services, dict):
            return dict(document.data)
        return {
            **document.data,
            "services": {name: long_form(entry) if isinstance(entry, dict) else entry for name, entry in services.items()},
        }

    def _services(self, data: dict[str, Any]) -> dict[str, dict[str, Any]]:
        entries = data.get("services")
        if not isinstance(entries, dict) or not entries:
            self._tell(("services",), "a stack needs services: a mapping of names to what runs")
            return {}
        kept = {}
        for name, entry in entries.items():
            if not isinstance(entry, dict):
                self._tell(("services", name), f"service {name!r} must be a mapping, such as {{image: …}}")
            elif not entry.get("profiles"):
                kept[name] = long_form(entry)
        return kept

    def _replica(self, name: str, service: dict[str, Any]) -> Replica:
        def tell(path: KeyPath, message: str) -> None:
            self._tell(("services", name, *path), message)

        if "extends" in service:
            tell(("extends",), _NOT_FOLLOWED["extends"])
        return replica_of(name, service, tell)

    def _spec(self, data: Any, replicas: Sequence[Replica]) -> StackSpec | None:
        if data is None:
            self._no_section()
            return None
        checked = validate(StackSpec, data, self.sources, under=(EXTENSION,), stand_ins={"sites": ["?"], "entry": "?"})
        self.problems.extend(checked.problems)
        if checked.value is not None and replicas:
            missing = {(key,) for key in ("sites", "entry") if key not in data}
            check_stack(checked.value, replicas, self._tell, checked.removed | missing)
        return checked.value

    def _no_section(self) -> None:
        for document in self.sources.documents:
            for key in difflib.get_close_matches(EXTENSION, document.data, cutoff=0.8):
                self._tell((key,), f"unknown section {key!r}. Did you mean {EXTENSION!r}?", key=True)
                return
        self._tell((), f"the stack has no {EXTENSION} section; it says which sites there are, and what users reach")

    def _tell(self, path: KeyPath, message: str, *, key: bool = False) -> None:
        place = self.sources.key_at(path) if key else self.sources.value_at(path)
        self.problems.append(Problem.at(place, message))


def _project_name(said: Any, folder: Path) -> str:
    """As Compose names a project: its `name:`, else the folder, in lower-case letters, digits, `-` and `_`."""
    wanted = str(said) if isinstance(said, str) and "$" not in said else folder.name
    return re.sub(r"[^a-z0-9_-]", "", wanted.lower()).lstrip("_-") or "stack"


def _with_absolute_folders(spec: StackSpec, folder: Path) -> StackSpec:
    """Working folders of `processes`, which are written relative to the Compose file."""
    processes = {
        name: process.model_copy(update={"cwd": (folder / process.cwd).resolve()}) if process.cwd else process
        for name, process in spec.processes.items()
    }
    return spec.model_copy(update={"processes": processes}) if processes else spec
