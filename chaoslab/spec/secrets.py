"""The secrets of a run, gathered from its spec and stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chaoslab.errors import StackError
from chaoslab.masking import Secrets, gather
from chaoslab.spec.load import Loaded
from chaoslab.stack.interpolate import interpolate


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
