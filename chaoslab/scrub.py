"""The secrets of a run: gathered from its spec and stack, and covered in the logs that its processes wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from chaoslab.errors import StackError
from chaoslab.masking import Secrets, gather
from chaoslab.spec.load import Loaded
from chaoslab.stack.interpolate import interpolate
from chaoslab.store import private_writer


def secrets_of(loaded: Loaded, environ: Mapping[str, str]) -> Secrets:
    """What must not be shown of this run: by name, in the environment of services, headers, bodies, URLs and commands."""

    def expand(text: str) -> str:
        try:
            return interpolate(text, lambda _: None, environ)
        except StackError:
            return text

    trees = [
        loaded.compose.services,
        loaded.compose.spec.model_dump(mode="json", by_alias=True),
        loaded.experiment.model_dump(mode="json", by_alias=True),
    ]
    return gather(trees, _names(loaded), expand)


def _names(loaded: Loaded) -> Iterator[str]:
    """What stands in rows, results and paths, and so must stay as it is."""
    spec, experiment = loaded.compose.spec, loaded.experiment
    yield from (experiment.name, spec.entry, *spec.sites, *spec.services, *spec.journeys, *spec.conditions, *spec.tiers)
    yield from (name for replica in loaded.compose.replicas for name in (replica.name, replica.service, replica.site))
    yield from (name for fault in experiment.timeline for name in (fault.id, fault.fault, fault.target))
    yield from map(str, (*experiment.stack, *([experiment.load.locustfile] if experiment.load else [])))


def scrub(folder: Path, secrets: Secrets) -> None:
    """Cover the secrets in every file of a folder, line by line; nobody may write to them any more. Raises EnvironmentFault."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink():
            _scrub_file(path, secrets)


def _scrub_file(path: Path, secrets: Secrets) -> None:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as source, private_writer(path) as sink:
        for line in source:
            sink.write(secrets.text(line).encode("utf-8", "surrogateescape"))
