"""What each service owes its users in one experiment: its tier, then the service's own word, then the experiment's. Pure."""

from __future__ import annotations

from typing import Any

from chaoslab.spec.model import Experiment, ExperimentObjectives, FaultObjectives, Objectives, ServiceSpec, StackSpec


def objectives_for(experiment: Experiment, stack: StackSpec) -> dict[str, ExperimentObjectives]:
    """Objectives of every service that has a journey, in the order of the journeys. What nobody measures owes nothing here."""
    return {
        service: layered(promised_by(stack, service), experiment.objectives.get(service, ExperimentObjectives()))
        for service in measured_services(stack)
    }


def promised_by(stack: StackSpec, service: str) -> Objectives:
    """What the stack itself promises for a service, whatever the experiment."""
    own = stack.services.get(service, ServiceSpec())
    tier = stack.tiers.get(own.tier, Objectives()) if own.tier is not None else Objectives()
    return layered(tier, own.objectives)


def changed_objectives(experiment: Experiment, stack: StackSpec) -> dict[str, frozenset[str]]:
    """By service, the names of the objectives that the experiment itself tightens, relaxes, adds or takes back."""
    changed = {}
    for service, said in experiment.objectives.items():
        promised = promised_by(stack, service)
        names = frozenset(name for name in said.model_fields_set if getattr(said, name) != getattr(promised, name, None))
        if names:
            changed[service] = names
    return changed


def measured_services(stack: StackSpec) -> tuple[str, ...]:
    """The services that some journey looks at."""
    return tuple(dict.fromkeys(journey.service for journey in stack.journeys.values()))


def layered(under: Objectives, over: Objectives) -> ExperimentObjectives:
    """`over` where it says something (null included), `under` elsewhere."""
    return ExperimentObjectives(**(_said(under) | _said(over)))


def under_fault(owed: ExperimentObjectives, fault: str) -> FaultObjectives:
    """What a service owes under one fault, by its id."""
    refined = owed.under.get(fault, FaultObjectives())
    said = {name: getattr(owed, name) for name in FaultObjectives.model_fields}
    return FaultObjectives(**(said | _said(refined)))


def _said(layer: FaultObjectives) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in layer.model_fields_set}
