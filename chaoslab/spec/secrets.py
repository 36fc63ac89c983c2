"""The secrets of a run, gathered from its spec and stack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chaoslab.errors import StackError
from chaoslab.redact import Secrets, gather
from chaoslab.spec.load import Loaded
from chaoslab.spec.stackfile.interpolation import interpolate
from chaoslab.spec.step import fill_variables, variables_in


def secrets_of(loaded: Loaded, environ: Mapping[str, str]) -> Secrets:
    """What must not be shown of this run: by name, in the environment of services, headers, bodies, URLs and commands."""

    def expand(text: str) -> str:
        try:
            return interpolate(text, lambda _: None, environ)
        except StackError:
            return text

    spec, experiment = loaded.compose.spec, loaded.experiment
    steps = [step.model_dump(mode="json", by_alias=True) for step in experiment.steps]
    variables = {name for step in experiment.steps for name in (*step.needs.env, *variables_in(step.templated))}
    trees = [
        loaded.compose.services,
        spec.model_dump(mode="json", by_alias=True),
        experiment.model_dump(mode="json", by_alias=True),
        _as_it_is(fill_variables(steps, {name: environ.get(name, "") for name in variables_in(steps)})),
        _as_it_is({name: environ[name] for name in sorted(variables) if name in environ}),
    ]
    # What stands in rows, results and paths, and so must stay as it is.
    names = [experiment.name, spec.entry, *spec.sites, *spec.services, *spec.journeys, *spec.conditions, *spec.tiers]
    names += [word for name, entry in spec.entries.items() for word in (name, entry.address)]
    names += [text for one in spec.journeys.values() if one.before is not None for text in one.before.keep.values()]
    names += [name for replica in loaded.compose.replicas for name in (replica.name, replica.service, replica.site)]
    names += [name for fault in experiment.faults for name in (fault.id, fault.fault, fault.target)]
    names += [name for step in experiment.steps for name in (step.id, step.kind)]
    names += map(str, (*experiment.stack, *([experiment.load.locustfile] if experiment.load else [])))
    return gather(trees, names, expand)


def _as_it_is(tree: Any) -> Any:
    """A tree in which an interpolation as in Compose files changes nothing: steps and variables hold no such."""
    return json.loads(json.dumps(tree).replace("$", "$$"))
