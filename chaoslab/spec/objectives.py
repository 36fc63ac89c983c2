"""What each service owes its users in one experiment: its tier, then the service's own word, then the experiment's. Pure."""

from __future__ import annotations

from chaoslab.spec.model import Experiment, Objectives, ServiceSpec, StackSpec


def objectives_for(experiment: Experiment, stack: StackSpec) -> dict[str, Objectives]:
    """Objectives of every service that has a journey, in the order of the journeys. What nobody measures owes nothing here."""
    return {
        service: layered(promised_by(stack, service), experiment.objectives.get(service, Objectives()))
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
        names = frozenset(name for name in said.model_fields_set if getattr(said, name) != getattr(promised, name))
        if names:
            changed[service] = names
    return changed


def measured_services(stack: StackSpec) -> tuple[str, ...]:
    """The services that some journey looks at."""
    return tuple(dict.fromkeys(journey.service for journey in stack.journeys.values()))


def layered(under: Objectives, over: Objectives) -> Objectives:
    """`over` where it says something (null included), `under` elsewhere."""
    said = {name: getattr(layer, name) for layer in (under, over) for name in layer.model_fields_set}
    return Objectives(**said)
