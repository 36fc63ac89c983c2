"""What a run would do: resolved targets and times, for `--dry-run`. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from chaoslab.schedule import end_of, schedule
from chaoslab.spec.load import Loaded
from chaoslab.spec.model import ExperimentObjectives, FaultBase, FaultObjectives
from chaoslab.spec.objectives import objectives_for
from chaoslab.spec.probe_rate import probe_rate
from chaoslab.stack.topology import Topology


def describe(loaded: Loaded, runtime: str, why: str, warning: str | None = None, *, foreign: bool = False) -> str:
    """The plan of a run as lines for people. `warning`: why its commands need permission, if they do.

    `foreign`: the spec is somebody else's, so every command that the stack would start is shown too.
    """
    return "\n".join(_lines(loaded, runtime, why, warning, foreign))


def _lines(loaded: Loaded, runtime: str, why: str, warning: str | None, foreign: bool) -> Iterator[str]:
    experiment, topology = loaded.experiment, loaded.compose.topology()
    objectives = objectives_for(experiment, loaded.compose.spec)
    yield f"{experiment.name}: {experiment.title}"
    if warning is not None:
        yield f"  note      {warning}; it runs with --allow-exec only"
    yield from (f"  starts    {replica}: {command}" for replica, command in _commands(loaded) if foreign)
    yield f"  claims    {experiment.hypothesis}"
    yield f"  runtime   {runtime} ({why})"
    for place in topology.places:
        yield f"  {place:<9} {', '.join(replica.name for replica in topology.in_site(place))}"
    if experiment.load is not None:
        yield f"  load      {experiment.load.users} users of {experiment.load.locustfile.name}"
    yield f"  probe     {', '.join(_probed(loaded))}; each {probe_rate(experiment, loaded.compose.spec)}"
    steady = experiment.steady_state
    yield f"  steady    holds {steady.hold:g} s within {steady.within:g} s"
    yield f"  needs     {', '.join(steady.conditions) or 'no condition'}"
    by_id = {fault.id: fault for fault in experiment.timeline}
    for action in schedule(experiment.timeline, list(objectives.values())):
        yield f"  {action.at_s:>7.1f} s {action.verb} {_fault_in_words(by_id[action.fault_id], topology)}"
    yield from (f"  note      {said}" for said in _healed_early(experiment.timeline, objectives.values()))
    yield f"  {end_of(experiment.timeline, list(objectives.values())):>7.1f} s failback; then every site's ledgers are read"
    for service, wanted in objectives.items():
        yield f"  objective {service}: {_objectives_in_words(wanted)}"


def describe_as_data(
    loaded: Loaded, runtime: str, why: str, warning: str | None = None, *, foreign: bool = False
) -> dict[str, Any]:
    """The same plan for machines; times are seconds from the end of the steady state."""
    experiment, topology = loaded.experiment, loaded.compose.topology()
    objectives = objectives_for(experiment, loaded.compose.spec)
    rate = probe_rate(experiment, loaded.compose.spec)
    by_id = {fault.id: fault for fault in experiment.timeline}
    timeline = [
        {"at_s": action.at_s, "verb": action.verb, "id": fault.id, "fault": fault.fault, "target": fault.target}
        | {"replicas": _replicas_hit(fault, topology), "with": dict(_said_of(fault))}
        for action in schedule(experiment.timeline, list(objectives.values()))
        for fault in [by_id[action.fault_id]]
    ]
    return {
        "experiment": experiment.name,
        "runtime": runtime,
        "why": why,
        "warning": warning,
        "starts": dict(_commands(loaded)) if foreign else {},
        "places": {place: [replica.name for replica in topology.in_site(place)] for place in topology.places},
        "probe": {"journeys": _probed(loaded), "rate": rate.per_s, "why": rate.why},
        "timeline": timeline,
        "failback_at_s": end_of(experiment.timeline, list(objectives.values())),
        "objectives": {name: _owed(wanted) for name, wanted in objectives.items()},
    }


def _owed(wanted: ExperimentObjectives) -> dict[str, Any]:
    under = {fault: {**_thresholds(one), "unaffected": one.unaffected} for fault, one in wanted.under.items()}
    return {**_thresholds(wanted), "unaffected": wanted.unaffected} | ({"under": under} if under else {})


def _probed(loaded: Loaded) -> list[str]:
    """The journeys that are probed."""
    named = loaded.experiment.probe.journeys
    return [*loaded.compose.spec.journeys] if named is None else named


def _healed_early(timeline: Sequence[FaultBase], objectives: Iterable[ExperimentObjectives]) -> Iterator[str]:
    """Faults that are healed before an RTO is over: not back by then is no pass and no fail."""
    longest_s = max((one.rto.value for one in objectives if one.rto is not None), default=0.0)
    for fault in timeline:
        if fault.heal_after is not None and fault.heal_after < longest_s:
            yield (
                f"{fault.id} is healed after {fault.heal_after:g} s, before an RTO of {longest_s:g} s is over: "
                "a service that is not back by then is inconclusive; raise heal_after"
            )


def _commands(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """What each replica runs as a process, as written."""
    for name, service in loaded.compose.services.items():
        override = loaded.compose.spec.processes.get(name)
        said = (override and override.command) or service.get("command") or service.get("image") or "its image"
        yield name, said if isinstance(said, str) else " ".join(map(str, said))


def _fault_in_words(fault: FaultBase, topology: Topology) -> str:
    hit = _replicas_hit(fault, topology)
    names = f" [{', '.join(hit)}]" if hit else ""
    said = ((key, shlex.join(value) if isinstance(value, list) else value) for key, value in _said_of(fault))
    return f"{fault.id}: {fault.fault} {fault.target}{names}{''.join(f'; {key} {value}' for key, value in said)}"


def _replicas_hit(fault: FaultBase, topology: Topology) -> list[str]:
    site, service = getattr(fault, "site", None), getattr(fault, "service", None)
    hit = topology.of_service(service, site) if service is not None else topology.in_site(site or "")
    return [replica.name for replica in hit]


def _said_of(fault: FaultBase) -> Iterator[tuple[str, Any]]:
    """What is particular to this fault, as it is written in a spec; its name, target and times are told elsewhere."""
    elsewhere = {"id", "at", "heal_after", "fault", *fault.target_fields}
    yield from fault.model_dump(mode="json", by_alias=True, exclude=elsewhere, exclude_none=True, exclude_defaults=True).items()


def _objectives_in_words(wanted: ExperimentObjectives) -> str:
    refined = [f"under {fault}: {_promises(one)}" for fault, one in wanted.under.items()]
    return "; ".join([_promises(wanted), *refined])


def _promises(wanted: FaultObjectives) -> str:
    words = [f"{name} {threshold}" for name, threshold in _thresholds(wanted).items()]
    said = {True: ["unaffected"], False: [], "allowed": ["unaffected allowed"]}[wanted.unaffected]
    return ", ".join(words + said) or "none"


def _thresholds(wanted: FaultObjectives) -> dict[str, str]:
    said = {name: getattr(wanted, name, None) for name in ("rto", "rpo", "failback", "availability")}
    return {name: str(threshold) for name, threshold in said.items() if threshold is not None}
