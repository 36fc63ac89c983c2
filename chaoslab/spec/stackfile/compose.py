"""A Compose file and its overlays, read for what chaoslab needs: replicas, their sites, and the `x-chaoslab` section.

Strings are not interpolated; Compose keys that chaoslab does not know are kept and left alone. Services whose profile is not
active are left out, as `docker compose up` leaves them out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chaoslab.spec.stackfile.checks import check_stack
from chaoslab.spec.stackfile.follow import followed
from chaoslab.spec.stackfile.image_ports import exposed_by
from chaoslab.spec.stackfile.merge import long_form, merged
from chaoslab.spec.stackfile.model import StackSpec
from chaoslab.spec.stackfile.profiles import active_profiles, without_inactive
from chaoslab.spec.stackfile.replicas import replica_of
from chaoslab.spec.stackfile.support import check_support
from chaoslab.spec.stackfile.topology import Replica, Topology, places_of
from chaoslab.spec.yaml.partial import validate
from chaoslab.spec.yaml.problems import KeyPath, Place, Problem, SpecErrors, without_echoes
from chaoslab.spec.yaml.report import Report
from chaoslab.spec.yaml.source import EXTENSION, Document


@dataclass(frozen=True)
class Sources:
    """Where things of a merged Compose file were written: the last file that has them counts."""

    documents: tuple[Document, ...]

    def key_at(self, path: KeyPath) -> Place:
        document, known = self._holder(path)
        return document.key_at(known)

    def value_at(self, path: KeyPath) -> Place:
        document, known = self._holder(path)
        return document.value_at(known)

    def _holder(self, path: KeyPath) -> tuple[Document, KeyPath]:
        for length in range(len(path), 0, -1):
            for document in reversed(self.documents):
                if document.has(path[:length]):
                    return document, path[:length]
        return self.documents[-1], ()  # a file comes after those that it includes


@dataclass(frozen=True)
class ComposeFile:
    """A stack as its files describe it. `services`: merged entries in long form, not interpolated, by replica name.

    `advice`: warnings and notes about it, in the order of the files. `use_binds`: containers get the user's own folders, files
    and external volumes, and may write to them; else copies.
    """

    files: tuple[Path, ...]
    project_dir: Path
    name: str
    services: dict[str, dict[str, Any]]
    spec: StackSpec
    replicas: tuple[Replica, ...]
    volumes: dict[str, Any] = field(default_factory=dict)
    sources: Sources = field(default_factory=lambda: Sources(()), compare=False, repr=False)
    advice: tuple[Problem, ...] = field(default=(), compare=False)
    use_binds: bool = False

    def topology(self) -> Topology:
        return Topology(self.name, self.replicas, self.spec, places_of(self.replicas))


def load_stack(paths: Sequence[Path]) -> ComposeFile:
    """A Compose file and its overlays, merged in this order. Raises SpecErrors with all that is wrong."""
    compose, problems = read_stack(paths)
    errors = [problem for problem in problems if problem.level == "error"]
    if compose is None or errors:
        raise SpecErrors(errors)
    return replace(compose, advice=tuple(sorted(set(problems))))


def read_stack(paths: Sequence[Path]) -> tuple[ComposeFile | None, list[Problem]]:
    """The stack, and every problem. None when a file cannot be read at all, or chaoslab's section is missing or not sound."""
    documents, misread = read_files(paths)
    if documents is None:
        return None, misread
    sources = Sources(tuple(documents))
    report = Report(sources)
    data, folder = merged_data(documents), paths[0].absolute().parent
    services = _services_in(data, folder, report)
    written = [replica_of(name, services[name], report.below("services", name)) for name in services]
    # Those for which the file names no port listen where their image says that it does.
    images = {one.name: str(services[one.name].get("image") or "$") for one in written if not one.ports}
    exposed = exposed_by(frozenset(image for image in images.values() if "$" not in image))
    replicas = tuple(replace(one, ports=exposed.get(images.get(one.name, ""), one.ports)) for one in written)
    check_support(data, services, replicas, report)
    spec = _section_in(data, replicas, folder, report)
    problems = without_echoes(misread, report.problems)
    if spec is None:
        return None, problems
    volumes, name = data.get("volumes"), data.get("name")
    wanted = name if isinstance(name, str) and "$" not in name else folder.name
    compose = ComposeFile(
        files=tuple(file.absolute() for file in paths),
        project_dir=folder,
        name=re.sub(r"[^a-z0-9_-]", "", wanted.lower()).lstrip("_-") or "stack",  # as Compose names a project
        services=services,
        spec=spec,
        replicas=replicas,
        volumes=volumes if isinstance(volumes, dict) else {},
        sources=sources,
    )
    return compose, problems


def read_files(paths: Sequence[Path]) -> tuple[list[Document] | None, list[Problem]]:
    """The files and what they include, in the order in which they are merged, and every problem.

    None when one of the files cannot be read at all.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    complete = True
    for path in paths:
        try:
            documents += followed(path, problems)
        except SpecErrors as refused:
            problems.extend(refused.problems)
            complete = False
    return (documents if complete else None), problems


def merged_data(documents: Sequence[Document]) -> dict[str, Any]:
    """All files as one."""
    data: Any = {}
    for document in documents:
        data = merged(data, document.data)
    return dict(data)


def _services_in(data: dict[str, Any], folder: Path, report: Report) -> dict[str, dict[str, Any]]:
    entries = data.get("services")
    if not isinstance(entries, dict) or not entries:
        report(("services",), "a stack needs services: a mapping from names to services", "compose.no-services")
        return {}
    sound = {}
    for name, entry in entries.items():
        if isinstance(entry, dict):
            sound[name] = long_form(entry)
        else:
            message = f"service {name!r} must be a mapping, such as {{image: …}}"
            report(("services", name), message, "compose.service-not-a-mapping")
    return without_inactive(sound, active_profiles(folder), report)


def _section_in(data: dict[str, Any], replicas: Sequence[Replica], folder: Path, report: Report) -> StackSpec | None:
    """chaoslab's section, checked, its paths beside `folder`; where it is missing, a misspelt one is named."""
    section = data.get(EXTENSION)
    if section is None:
        misspelt = difflib.get_close_matches(EXTENSION, data, n=1, cutoff=0.8)
        if misspelt:
            message = f"unknown section {misspelt[0]!r}. Did you mean {EXTENSION!r}?"
            report((misspelt[0],), message, "stack.no-section", key=True)
        else:
            message = f"the stack has no {EXTENSION} section; add it, with the sites and the entry"
            report((), message, "stack.no-section")
        return None
    checked = validate(StackSpec, section, report.located, under=(EXTENSION,), stand_ins={"sites": ["?"], "entry": "?"})
    report.problems.extend(checked.problems)
    spec = _with_absolute_paths(checked.value, folder) if checked.value is not None else None
    if spec is not None and replicas:
        missing = {(key,) for key in ("sites", "entry") if key not in section}
        check_stack(spec, replicas, report, checked.removed | missing)
    return spec


def _with_absolute_paths(spec: StackSpec, folder: Path) -> StackSpec:
    """Working folders, certificates and modules are beside the Compose file."""
    processes = {
        name: process.model_copy(update={"cwd": (folder / process.cwd).resolve()}) if process.cwd else process
        for name, process in spec.processes.items()
    }
    entries, journeys = dict(spec.entries), dict(spec.journeys)
    for name, entry in spec.entries.items():
        if entry.tls is not None and entry.tls.ca is not None:
            tls = entry.tls.model_copy(update={"ca": (folder / entry.tls.ca).resolve()})
            entries[name] = entry.model_copy(update={"tls": tls})
    for name, journey in spec.journeys.items():
        if (own := journey.python) is not None:
            own = own.model_copy(update={"folder": (folder / (own.folder or ".")).resolve()})
            journeys[name] = journey.model_copy(update={"python": own})
    return spec.model_copy(update={"processes": processes, "entries": entries, "journeys": journeys})
