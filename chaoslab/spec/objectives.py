"""The objectives of each service in one experiment: those of its tier, refined by the service and by the experiment. Pure."""

from __future__ import annotations

from typing import Any

from chaoslab.spec.model import Experiment, ExperimentObjectives
from chaoslab.spec.stackfile.model import FaultObjectives, Mode, Objectives, ServiceSpec, StackSpec


def objectives_for(experiment: Experiment, stack: StackSpec) -> dict[str, ExperimentObjectives]:
    """Objectives of every service that has a journey, in the order of the journeys. One that is not measured has none here."""
    return {
        service: layered(promised_by(stack, service), experiment.objectives.get(service, ExperimentObjectives()))
        for service in measured_services(stack)
    }


def promised_by(stack: StackSpec, service: str) -> Objectives:
    """What the stack itself promises for a service, whatever the experiment. Of the degraded modes of its tier, its own."""
    own = stack.services.get(service, ServiceSpec())
    tier = stack.tiers.get(own.tier, Objectives()) if own.tier is not None else Objectives()
    if tier.degraded:
        of_service = {name for name, journey in stack.journeys.items() if journey.service == service}
        modes = {name: mode for name, mode in tier.degraded.items() if name in of_service}
        tier = tier.model_copy(update={"degraded": modes})
    return layered(tier, own.objectives)


def changed_objectives(experiment: Experiment, stack: StackSpec) -> dict[str, frozenset[str]]:
    """By service, the names of the objectives that the experiment itself tightens, relaxes, adds or takes back."""
    changed = {}
    for service, changes in experiment.objectives.items():
        promised = promised_by(stack, service)
        names = frozenset(name for name in changes.model_fields_set if getattr(changes, name) != getattr(promised, name, None))
        if names:
            changed[service] = names
    return changed


def measured_services(stack: StackSpec) -> tuple[str, ...]:
    """The services that some journey measures."""
    return tuple(dict.fromkeys(journey.service for journey in stack.journeys.values()))


def layered(under: Objectives, over: Objectives) -> ExperimentObjectives:
    """`over` where it is set (null included), `under` elsewhere; `degraded` journey by journey."""
    degraded = under.degraded | over.degraded
    return ExperimentObjectives(**(_written(under) | _written(over) | ({"degraded": degraded} if degraded else {})))


def mode_of(journey: str, objectives: Objectives) -> Mode:
    """What a journey of a service with these objectives may lose while a fault is active."""
    return objectives.degraded.get(journey, "required")


def under_fault(objectives: ExperimentObjectives, fault: str) -> FaultObjectives:
    """The objectives of a service under one fault, by its id."""
    refined = objectives.under.get(fault, FaultObjectives())
    usual = {name: getattr(objectives, name) for name in FaultObjectives.model_fields}
    return FaultObjectives(**(usual | _written(refined)))


def watches_starts(experiment: Experiment, stack: StackSpec) -> bool:
    """Whether some service has an objective on the time from a heal until it works: then the start of replicas is watched."""
    layers = [layer for one in objectives_for(experiment, stack).values() for layer in (one, *one.under.values())]
    return any(layer.restored is not None for layer in layers)


def promised_names(objectives: ExperimentObjectives, *, planned_change: bool) -> frozenset[str]:
    """The names of the objectives of a service that a run judges: in a planned change there is no fault to recover from."""
    layers = [objectives, *objectives.under.values()]
    names = {
        name
        for layer in layers
        for name in type(layer).model_fields
        if name not in ("under", "degraded") and getattr(layer, name)
    }
    return frozenset(names - {"rto", "unaffected"} if planned_change else names)


def _written(layer: FaultObjectives) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in layer.model_fields_set}
